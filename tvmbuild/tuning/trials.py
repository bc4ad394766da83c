"""Tries candidates: compile, measure, compare with the default's output."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeVar

from numpy.typing import NDArray

from tvmbuild.records.trial import Failure, Measurement, Trial
from tvmbuild.records.values import is_duration
from tvmbuild.schedules.knob import Choice
from tvmbuild.schedules.library import revision
from tvmbuild.tuning.baseline import Baselines, is_far
from tvmbuild.tuning.measure.protocol import Measurer, Run, arguments_of, no_measure
from tvmbuild.tuning.task import Candidate, Task, Variant
from tvmbuild.tuning.waits import Waits
from tvmbuild.tuning.worker_pool import WorkerPool

#: Attempts when the default's time has drifted far, and seconds of cooling before all but the first two.
_ATTEMPTS, _COOLING_SECONDS = 3, 5.0
#: Causes for which a candidate is sent once more. A measurer has let a throttled board cool already.
_TRIED_AGAIN = ("crash", "upload", "lost")
#: A board times the default of the task at hand again after so many seconds.
_BASELINE_SECONDS = 120.0

Outcome = Measurement | Failure
Keep = Callable[[Task, Trial], None]
T = TypeVar("T")


class CandidateBuilder(Protocol):
    """What compiles candidates."""

    workers: int

    def build(self, variant: Variant, choice: Choice) -> Path | Failure:
        """Return the library of one choice, or why there is none; called from several threads."""


class TrialRunner:
    """Runs trials. Batches of a measurer that is not ``batched`` overlap: ``depth`` of them may be under way."""

    def __init__(self, builder: CandidateBuilder, measurer: Measurer, seed: int) -> None:
        """Take the builder and the measurer; ``seed`` is of the kernels' inputs."""
        self._builder = builder
        self._measurer = measurer
        self._seed = seed
        self._pool = WorkerPool(builder.workers, measurer.slots)
        self._compilers = ThreadPoolExecutor(builder.workers, "compile")
        self._baselines = Baselines()
        self._inputs: dict[str, dict[str, tuple[NDArray[Any], ...]]] = {}

    @property
    def batch(self) -> int:
        """Candidates to try together."""
        return 4 * max(self._builder.workers, self._measurer.slots)

    @property
    def depth(self) -> int:
        """Batches that may be under way: a second one keeps the builder and all boards busy while the first ends."""
        return 1 if self._measurer.batched else 2

    @property
    def waits(self) -> Waits | None:
        """Who waited for whom; None where compiling and measuring take turns."""
        return None if self._measurer.batched else self._pool.meter.waits()

    def searching(self) -> Any:
        """Return a context in which the next candidates are being chosen, for ``waits``."""
        return self._pool.meter.searching()

    def recall_default(self, task: Task, seconds: float) -> None:
        """Take the time of a default from an earlier run: new times are put on its scale."""
        self._baselines.recall(task, seconds)

    def drop(self) -> None:
        """Let go of what is not being measured yet."""
        self._pool.drop()

    def close(self) -> None:
        """End the threads."""
        self._pool.close()
        self._compilers.shutdown(wait=False, cancel_futures=True)

    def try_defaults(self, tasks: Sequence[Task], keep: Keep) -> Iterator[tuple[Task, Trial]]:
        """Try each task's default; yields trials in the tasks' order.

        Args:
            tasks: whose.
            keep: gets each trial as soon as it is there, from several threads.
        """
        if self._measurer.batched:
            # All are compiled before the first is timed.
            libraries = list(self._compilers.map(self._build_default, tasks))
            for task, library in zip(tasks, libraries, strict=True):
                yield task, self._kept(task, task.default, keep, self._run_default(task, library))
            return
        sent = [self._send_default(task, partial(self._kept, task, task.default, keep)) for task in tasks]
        for task, answer in zip(tasks, sent, strict=True):
            trial = answer.result()
            if trial is not None:
                yield task, trial

    def start(self, task: Task, candidates: Sequence[Candidate], keep: Keep) -> Iterator[tuple[Candidate, Trial]]:
        """Begin to try candidates; yields trials in their order.

        The task's default is compiled and run first if that was not done in this run. What was dropped is left out.

        Args:
            task: whose.
            candidates: to try.
            keep: gets each trial as soon as it is there, from several threads.
        """
        if task not in self._baselines:
            prepared = self._prepare(task)
            if isinstance(prepared, Failure):
                return iter([(candidate, self._kept(task, candidate, keep, prepared)) for candidate in candidates])
        inputs = self._inputs_of(task)
        if self._measurer.batched:
            return self._batch(task, candidates, inputs, keep)
        sent = [self._send(task, candidate, inputs, keep) for candidate in candidates]
        return (
            (candidate, trial)
            for candidate, answer in zip(candidates, sent, strict=True)
            if (trial := answer.result()) is not None
        )

    def _prepare(self, task: Task) -> Outcome:
        if self._measurer.batched:
            return self._run_default(task, self._build_default(task))
        return self._send_default(task, lambda outcome: outcome).result() or Failure("lost", "the run ended")

    def _send_default(self, task: Task, keep: Callable[[Outcome], T]) -> Future[T | None]:
        return self._pool.send(
            lambda: self._build_default(task), lambda library: self._run_default(task, library), keep
        )

    def _send(
        self, task: Task, candidate: Candidate, inputs: dict[str, tuple[NDArray[Any], ...]], keep: Keep
    ) -> Future[Trial | None]:
        variant = task.variants[candidate.variant]
        predicted = self._measurer.board.predicted
        reference = None if predicted else self._baselines.run(task, inputs[task.workload])

        def measure(library: Path) -> Outcome:
            try:
                return self._on_a_board(task, library, inputs[variant.workload], reference)
            finally:
                library.unlink(missing_ok=True)

        return self._pool.send(
            lambda: self._builder.build(variant, task.choice(candidate)),
            measure,
            partial(self._kept, task, candidate, keep),
        )

    def _on_a_board(
        self, task: Task, library: Path, inputs: tuple[NDArray[Any], ...], reference: Run | None
    ) -> Outcome:
        """Measure one candidate, again while the default's time on that board is far from what it was."""
        for attempt in range(_ATTEMPTS):
            max_age = 0.0 if attempt else _BASELINE_SECONDS
            outcome = self._baselines.checked(task, self._measured([Run(library, inputs, reference, max_age)])[0])
            if isinstance(outcome, Failure) or not outcome.reference:
                return outcome
            drift = self._baselines.drift(task, outcome.reference)
            if not is_far(drift):
                return self._baselines.corrected(task, outcome, outcome.reference)
            time.sleep(_COOLING_SECONDS * (attempt > 0))
        return Failure("throttled", f"the default takes {drift:.2f} times what it took at the start")

    def _arguments(self, variant: Variant) -> tuple[NDArray[Any], ...]:
        return arguments_of(variant, self._seed)

    def _inputs_of(self, task: Task) -> dict[str, tuple[NDArray[Any], ...]]:
        """Return inputs by variant; those of the tasks that are under way are kept, for no more memory than needed."""
        if task.workload not in self._inputs:
            while len(self._inputs) >= self.depth:
                del self._inputs[next(iter(self._inputs))]
            self._inputs[task.workload] = {variant.workload: self._arguments(variant) for variant in task.variants}
        return self._inputs[task.workload]

    def _build_default(self, task: Task) -> Path | Failure:
        return self._builder.build(task.variants[0], task.choice(task.default))

    def _run_default(self, task: Task, library: Path | Failure) -> Outcome:
        if isinstance(library, Failure):
            return library
        outcome = self._measured([Run(library, self._arguments(task.variants[0]))])[0]
        if isinstance(outcome, Measurement):
            useless = no_measure(outcome.output)
            if useless:
                return Failure("wrong result", useless)
            self._baselines.keep(task, library, outcome)
        return outcome

    def _batch(
        self, task: Task, candidates: Sequence[Candidate], inputs: dict[str, tuple[NDArray[Any], ...]], keep: Keep
    ) -> Iterator[tuple[Candidate, Trial]]:
        """Compile a batch, then measure it in turn with the default."""
        built = list(
            self._compilers.map(
                lambda candidate: self._builder.build(task.variants[candidate.variant], task.choice(candidate)),
                candidates,
            )
        )
        runs = [
            Run(library, inputs[task.variants[candidate.variant].workload])
            for candidate, library in zip(candidates, built, strict=True)
            if isinstance(library, Path)
        ]
        outcomes = iter(self._in_turn(task, [self._baselines.run(task, inputs[task.workload]), *runs]))
        for candidate, library in zip(candidates, built, strict=True):
            outcome = library if isinstance(library, Failure) else self._baselines.checked(task, next(outcomes))
            yield candidate, self._kept(task, candidate, keep, outcome)
        for run in runs:
            run.library.unlink(missing_ok=True)

    def _in_turn(self, task: Task, runs: Sequence[Run]) -> Sequence[Outcome]:
        """Measure with the default in front, again when its time is far from what it was at the start of this run.

        Returns:
            The outcomes of the others, put on the scale of the recorded times.
        """
        for attempt in range(_ATTEMPTS):
            default, *outcomes = self._measured(runs)
            if isinstance(default, Failure):
                return [Failure("lost", f"the default failed: {default.message}")] * len(outcomes)
            seconds = statistics.median_high(default.seconds)
            drift = self._baselines.drift(task, seconds)
            if not is_far(drift):
                return [self._baselines.corrected(task, outcome, seconds) for outcome in outcomes]
            time.sleep(_COOLING_SECONDS * (attempt > 0))
        return [Failure("throttled", f"the default takes {drift:.2f} times what it took at the start")] * len(outcomes)

    def _measured(self, runs: Sequence[Run]) -> list[Outcome]:
        """Measure; what the board or the line to it lost, or what crashed, is tried once more.

        A candidate that crashes its runner twice is quarantined: it counts as tried and is never run again.
        """
        outcomes = [_believed(outcome) for outcome in self._measurer.measure(runs)]
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, Failure) and outcome.cause in _TRIED_AGAIN:
                again = _believed(self._measurer.measure([runs[index]])[0])
                if isinstance(again, Failure) and outcome.cause == again.cause == "crash":
                    again = Failure("quarantined", f"it crashed its runner twice: {again.message}")
                outcomes[index] = again
        return outcomes

    @staticmethod
    def _kept(task: Task, candidate: Candidate, keep: Keep, outcome: Outcome) -> Trial:
        """Return an outcome as a trial, after handing it to ``keep``."""
        variant = task.variants[candidate.variant]
        failed = isinstance(outcome, Failure)
        trial = Trial(
            task=task.workload,
            workload=variant.workload,
            choice=task.choice(candidate),
            plan=variant.plan,
            seconds=() if isinstance(outcome, Failure) else outcome.seconds,
            cause=outcome.cause if isinstance(outcome, Failure) else "",
            message=outcome.message[:400] if isinstance(outcome, Failure) else "",
            readings={} if isinstance(outcome, Failure) else dict(outcome.readings),
            kind=variant.kind or task.kind,
            shape=task.shape,
            operator=task.operator,
            dtype=task.dtype,
            is_default=candidate == task.default and not failed,
            time=round(time.time(), 3),
            board="" if isinstance(outcome, Failure) else outcome.board,
            revision=revision(variant.kind or task.kind),
        )
        keep(task, trial)
        return trial


def _believed(outcome: Outcome) -> Outcome:
    """Return an outcome, or a failure where what was measured is no time."""
    if isinstance(outcome, Failure) or (outcome.seconds and all(map(is_duration, outcome.seconds))):
        return outcome
    shown = ", ".join(f"{second:g}" for second in outcome.seconds) or "none"
    return Failure("lost", f"the measurement gave no times ({shown})")
