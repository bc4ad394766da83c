"""Tries candidates: compile, measure, compare with the default's output. One batch of one task at a time."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from tvmbuild.schedules.knob import Choice
from tvmbuild.tuning.measure import Measurer, Run, arguments_of, wrong_result
from tvmbuild.tuning.task import Candidate, Task, Variant
from tvmbuild.tuning.trial import TRANSIENT, Failure, Measured, Trial

#: How far the default's time may drift within a run before a batch is measured again, and after how many seconds.
_DRIFT = 1.3
_COOLING_SECONDS = 5.0


class CandidateBuilder(Protocol):
    """What compiles candidates."""

    workers: int

    def build(self, variant: Variant, choice: Choice) -> Path | Failure:
        """Return the library of one choice, or why there is none; called from several threads."""


class Trier:
    """Runs trials, and keeps each task's default: its library, its output and its time."""

    def __init__(self, builder: CandidateBuilder, measurer: Measurer, seed: int) -> None:
        """Take the builder and the measurer; ``seed`` is of the kernels' inputs."""
        self._builder = builder
        self._measurer = measurer
        self._seed = seed
        self._pool = ThreadPoolExecutor(max(builder.workers, measurer.slots) + 1)
        self._inputs: dict[str, tuple[NDArray[Any], ...]] = {}
        self._expected: dict[str, NDArray[Any]] = {}
        self._default_library: dict[str, Path] = {}
        self._default_seconds: dict[str, float] = {}
        self._recorded_seconds: dict[str, float] = {}

    @property
    def batch(self) -> int:
        """Candidates to try together."""
        return 4 * max(self._builder.workers, self._measurer.slots)

    def recall_default(self, task: Task, seconds: float) -> None:
        """Take the time of a default from an earlier run: new times are put on its scale."""
        self._recorded_seconds[task.workload] = seconds

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def try_defaults(self, tasks: Sequence[Task], note: Callable[[Task, Trial], None]) -> None:
        """Try each task's default, and hand each trial to ``note`` in the tasks' order, from this thread."""
        built = [self._pool.submit(self._build_default, task) for task in tasks]
        if self._measurer.batched:
            # All are compiled before the first is timed.
            libraries = [work.result() for work in built]
            outcomes = (self._run_default(task, library) for task, library in zip(tasks, libraries, strict=True))
        else:
            running = [
                self._pool.submit(lambda task, work: self._run_default(task, work.result()), task, work)
                for task, work in zip(tasks, built, strict=True)
            ]
            outcomes = (work.result() for work in running)
        for task, outcome in zip(tasks, outcomes, strict=True):
            note(task, self._trial(task, task.default, outcome))

    def try_all(self, task: Task, candidates: Sequence[Candidate], note: Callable[[Candidate, Trial], None]) -> None:
        """Try candidates and hand each trial to ``note`` as soon as it is there, from this thread.

        The task's default is compiled and run first if that was not done in this run.
        """
        self._keep_inputs(task)
        if task.workload not in self._expected:
            prepared = self._run_default(task, self._build_default(task))
            if isinstance(prepared, Failure):
                for candidate in candidates:
                    note(candidate, self._trial(task, candidate, prepared))
                return
        if self._measurer.batched:
            for candidate, outcome in zip(candidates, self._batch(task, candidates), strict=True):
                note(candidate, self._trial(task, candidate, outcome))
            return
        drift = self._drift(task)
        work = [self._pool.submit(self._single, task, candidate) for candidate in candidates]
        for candidate, future in zip(candidates, work, strict=True):
            outcome = drift if isinstance(drift, Failure) else _corrected(future.result(), drift)
            note(candidate, self._trial(task, candidate, outcome))

    def _drift(self, task: Task) -> float | Failure:
        """Return the default's time now over what is recorded, for a measurer that does not do so for each batch."""
        if self._measurer.board.predicted:
            return 1.0
        outcome = self._without_drift(task, [self._default_run(task)])
        return outcome if isinstance(outcome, Failure) else outcome[0]

    def _default_run(self, task: Task) -> Run:
        return Run(self._default_library[task.workload], self._inputs[task.workload])

    def _arguments(self, variant: Variant) -> tuple[NDArray[Any], ...]:
        return arguments_of(variant, self._seed)

    def _keep_inputs(self, task: Task) -> None:
        if task.variants[0].workload not in self._inputs:
            # One task's weights at a time are enough.
            self._inputs = {variant.workload: self._arguments(variant) for variant in task.variants}

    def _build_default(self, task: Task) -> Path | Failure:
        return self._builder.build(task.variants[0], task.choice(task.default))

    def _run_default(self, task: Task, library: Path | Failure) -> Measured | Failure:
        if isinstance(library, Failure):
            return library
        outcome = self._measured([Run(library, self._arguments(task.variants[0]))])[0]
        if isinstance(outcome, Measured):
            self._expected[task.workload] = outcome.output
            self._default_library[task.workload] = library
            self._default_seconds[task.workload] = _median(outcome)
        return outcome

    def _single(self, task: Task, candidate: Candidate) -> Measured | Failure:
        """Compile and measure one candidate; this runs in the pool."""
        variant = task.variants[candidate.variant]
        library = self._builder.build(variant, task.choice(candidate))
        if isinstance(library, Failure):
            return library
        try:
            return self._checked(task, self._measured([Run(library, self._inputs[variant.workload])])[0])
        finally:
            library.unlink(missing_ok=True)

    def _batch(self, task: Task, candidates: Sequence[Candidate]) -> list[Measured | Failure]:
        """Compile a batch, then measure it in turn with the default."""
        built = list(
            self._pool.map(
                lambda candidate: self._builder.build(task.variants[candidate.variant], task.choice(candidate)),
                candidates,
            )
        )
        runs = [
            Run(library, self._inputs[task.variants[candidate.variant].workload])
            for candidate, library in zip(candidates, built, strict=True)
            if isinstance(library, Path)
        ]
        measured = self._without_drift(task, [self._default_run(task), *runs])
        if isinstance(measured, Failure):
            measured = (1.0, [measured] * len(runs))
        drift, found = measured
        outcomes = iter([_corrected(outcome, drift) for outcome in found])
        results = [
            built_one if isinstance(built_one, Failure) else self._checked(task, next(outcomes)) for built_one in built
        ]
        for run in runs:
            run.library.unlink(missing_ok=True)
        return results

    def _without_drift(self, task: Task, runs: Sequence[Run]) -> tuple[float, list[Measured | Failure]] | Failure:
        """Measure with the default in front, again when its time has changed much since the start of this run.

        Returns:
            The default's time over the recorded one, and the outcomes of the others; a failure when the default failed
            or its time stays far from what it was.
        """
        reference = self._default_seconds[task.workload]
        recorded = self._recorded_seconds.setdefault(task.workload, reference)
        for attempt in range(3):
            default, *outcomes = self._measured(runs)
            if isinstance(default, Failure):
                return Failure("lost", f"the default failed: {default.message}")
            drift = _median(default) / reference
            if 1 / _DRIFT <= drift <= _DRIFT:
                return _median(default) / recorded, outcomes
            time.sleep(_COOLING_SECONDS * (attempt > 0))
        return Failure("throttled", f"the default takes {drift:.2f} times what it took at the start")

    def _measured(self, runs: Sequence[Run]) -> list[Measured | Failure]:
        """Measure; what failed for the board's sake, or crashed, is tried once more.

        A candidate that crashes its runner twice is quarantined: it counts as tried and is never run again.
        """
        outcomes = self._measurer.measure(runs)
        for index, outcome in enumerate(outcomes):
            if isinstance(outcome, Failure) and outcome.cause in ("crash", *TRANSIENT):
                again = self._measurer.measure([runs[index]])[0]
                if isinstance(again, Failure) and outcome.cause == again.cause == "crash":
                    again = Failure("quarantined", f"it crashed its runner twice: {again.message}")
                outcomes[index] = again
        return outcomes

    def _checked(self, task: Task, outcome: Measured | Failure) -> Measured | Failure:
        if isinstance(outcome, Failure) or outcome.output is None:
            return outcome
        wrong = wrong_result(outcome.output, self._expected[task.workload])
        return Failure("wrong result", wrong) if wrong else outcome

    @staticmethod
    def _trial(task: Task, candidate: Candidate, outcome: Measured | Failure) -> Trial:
        variant = task.variants[candidate.variant]
        failed = isinstance(outcome, Failure)
        return Trial(
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
        )


def _median(outcome: Measured) -> float:
    return sorted(outcome.seconds)[len(outcome.seconds) // 2]


def _corrected(outcome: Measured | Failure, drift: float) -> Measured | Failure:
    if isinstance(outcome, Failure) or drift == 1.0:
        return outcome
    seconds = tuple(second / drift for second in outcome.seconds)
    return Measured(seconds, outcome.output, {**outcome.readings, "drift": round(drift, 4)})
