"""A tuning run: measures every default, then gives trials to the task that promises most, until it is not worth it."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType

from tvmbuild.records.selection import best_trial
from tvmbuild.records.trial import TRANSIENT, Trial
from tvmbuild.support.errors import TuningError
from tvmbuild.tuning.cost_model import CostModel
from tvmbuild.tuning.scheduler import Progress, next_task
from tvmbuild.tuning.search import Search
from tvmbuild.tuning.stopping import Limits, Point, reason_to_stop
from tvmbuild.tuning.task import Candidate, Task
from tvmbuild.tuning.task_state import TaskState
from tvmbuild.tuning.trials import TrialRunner
from tvmbuild.tuning.waits import Waits

#: If so many trials fail before one succeeds, something is wrong with the set-up and not with the candidates.
FIRST_FAILURES = 10

#: Candidates of a task, besides each variant's default, that a run tries before it judges what more would gain.
FIRST_LOOK = 8


class TuningSession:
    """One run over the tasks of a model."""

    def __init__(
        self,
        tasks: Sequence[Task],
        runner: TrialRunner,
        *,
        store: Callable[[Task, Trial], None],
        limits: Limits,
        seed: int = 0,
        model: CostModel | None = None,
        warm: Mapping[str, Candidate] = MappingProxyType({}),
        predicted: bool = False,
        listener: Callable[[TuningSession], None] = lambda session: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Prepare a run.

        Args:
            tasks: what to tune; tasks of a single candidate are measured once.
            runner: runs trials.
            store: keeps each trial; called before anything else is done with it, from one thread at a time.
            limits: when to stop.
            seed: of the searches.
            model: ranks candidates.
            warm: what was best for the nearest shape, by the task's workload.
            predicted: whether figures are predicted.
            listener: called before the first trial and after each.
            clock: seconds.
        """
        self.states = [
            TaskState(
                task,
                Search(
                    task,
                    seed,
                    model,
                    ([warm[task.workload]] if task.workload in warm else []) + list(task.variant_defaults),
                ),
            )
            for task in tasks
        ]
        self.limits = limits
        self.curve: list[Point] = []
        self.done = 0
        self.stopped = ""
        self.predicted = predicted
        self._runner = runner
        self._store = store
        self._storing = threading.Lock()
        self._model = model
        self._listener = listener
        self._clock = clock
        self._started = clock()
        self._elapsed_before = 0.0
        self._failed_first: list[Trial] = []

    def recall(self, trials: Iterable[Trial], *, counted: int = 0, elapsed: float = 0.0) -> int:
        """Take note of earlier trials, so that none is repeated.

        Args:
            trials: the journal.
            counted: how many of the last trials belong to the run that is resumed, and count against its limits.
            elapsed: seconds that the resumed run had taken.

        Returns:
            How many of the trials are in the tasks' spaces.
        """
        known = {variant.workload: state for state in self.states for variant in state.task.variants}
        recalled = 0
        for trial in trials:
            state = known.get(trial.workload)
            candidate = state.task.candidate(trial.workload, trial.choice) if state is not None else None
            # What failed for the board's sake tells nothing of the candidate, which may be tried again.
            if state is None or candidate is None or trial.cause in TRANSIENT:
                continue
            state.note(candidate, trial)
            recalled += 1
        self.done = counted
        self._elapsed_before = elapsed
        for state in self.states:
            if state.default_seconds != float("inf"):
                self._runner.recall_default(state.task, state.default_seconds)
            self._learn(state, [trial for trial in state.trials if trial.ok])
        return recalled

    @property
    def elapsed(self) -> float:
        """Seconds since the start, those of a resumed run included."""
        return self._clock() - self._started + self._elapsed_before

    @property
    def total_seconds(self) -> float:
        """Sum of calls x best time, over the tasks that have one."""
        return sum(s.task.calls * s.best_seconds for s in self.states if s.best_seconds != float("inf"))

    @property
    def default_total_seconds(self) -> float:
        """Sum of calls x the default's time, over the tasks that have one."""
        return sum(s.task.calls * s.default_seconds for s in self.states if s.default_seconds != float("inf"))

    @property
    def waits(self) -> Waits | None:
        """Who waited for whom; None where compiling and measuring take turns."""
        return self._runner.waits

    @property
    def left(self) -> int:
        """Candidates that were not tried yet."""
        return sum(max(0, state.task.size - state.search.tried) for state in self.states if not state.is_hopeless)

    def run(self) -> str:
        """Tune until there is a reason to stop, and return it.

        Raises:
            TuningError: the first trials all failed.
        """
        self._listener(self)
        self._try_defaults()
        self._point()
        under_way: deque[tuple[TaskState, Iterator[tuple[Candidate, Trial]]]] = deque()
        while True:
            while len(under_way) < self._runner.depth and (batch := self._next_batch()) is not None:
                under_way.append(batch)
            if not under_way:
                return self.stopped
            self._finish(*under_way.popleft())

    def best(self, state: TaskState) -> Trial | None:
        """Return the trial that a build will use for a task."""
        return best_trial(state.trials, predicted=self.predicted)

    def _try_defaults(self) -> None:
        new = [state for state in self.states if state.task.default not in state.search]
        if self.limits.trials:
            new = new[: max(0, self.limits.trials - self.done)]
        by_task = {state.task.workload: state for state in new}
        for task, trial in self._runner.try_defaults([state.task for state in new], self._keep):
            state = by_task[task.workload]
            self._note(state, task.default, trial)
            # Meanwhile the boards measure the others.
            with self._runner.searching():
                self._learn(state, [trial] if trial.ok else [])

    def _next_batch(self) -> tuple[TaskState, Iterator[tuple[Candidate, Trial]]] | None:
        """Begin the batch that promises most; None when there is none to begin, now or ever.

        What is under way is taken to bring nothing: whatever the boards' speed, the same seed proposes the same.
        """
        count = self._runner.batch
        if self.limits.trials:
            count = min(count, self.limits.trials - self.done - sum(state.under_way for state in self.states))
        if self._over() or count <= 0:
            return None
        with self._runner.searching():
            chosen = next_task([self._progress(state) for state in self.states])
            if chosen is None:
                self.stopped = "every choice was tried"
                return None
            state = self.states[chosen]
            candidates = state.search.propose(count)
            state.search.expect(candidates)
            state.under_way += len(candidates)
        return state, self._runner.start(state.task, candidates, self._keep)

    def _finish(self, state: TaskState, batch: Iterator[tuple[Candidate, Trial]]) -> None:
        """Wait for a batch, note its trials and learn from them."""
        made = []
        for candidate, trial in batch:
            state.under_way -= 1
            made.append(trial)
            self._note(state, candidate, trial)
        with self._runner.searching():
            self._learn(state, [trial for trial in made if trial.ok])

    def _keep(self, task: Task, trial: Trial) -> None:
        """Store a trial the moment that it is there: what was measured must not wait for a slower one before it."""
        with self._storing:
            self._store(task, trial)

    def _note(self, state: TaskState, candidate: Candidate, trial: Trial) -> None:
        state.note(candidate, trial)
        self.done += 1
        self._check_first(trial)
        if all(other.best for other in self.states):
            self._point()
        self._listener(self)
        if self.limits.seconds and self.elapsed >= self.limits.seconds:
            # What is not being measured yet would come too late.
            self._runner.drop()

    def _over(self) -> bool:
        if self.limits.seconds and self.elapsed >= self.limits.seconds and self.curve:
            self._point()
        self.stopped = reason_to_stop(self.curve, self.limits, self.left, unseen=any(map(self._is_unseen, self.states)))
        return bool(self.stopped)

    def _is_unseen(self, state: TaskState) -> bool:
        """Whether a task that takes more of the time than the least gain has had less than a first look."""
        matters = state.task.calls * state.best_seconds > self.limits.min_gain * self.total_seconds
        look = min(state.task.size, FIRST_LOOK + len(state.task.variants))
        return matters and not state.is_hopeless and state.search.tried < look

    def _learn(self, state: TaskState, trials: Sequence[Trial]) -> None:
        if self._model is None or not trials:
            return
        pairs = [(state.task.candidate(trial.workload, trial.choice), trial.best) for trial in trials]
        known = [(candidate, seconds) for candidate, seconds in pairs if candidate is not None]
        self._model.learn(state.task, [candidate for candidate, _ in known], [seconds for _, seconds in known])

    def _check_first(self, trial: Trial) -> None:
        """Stop when the first trials all fail."""
        if trial.ok or self.done > FIRST_FAILURES:
            self._failed_first = []
            return
        self._failed_first.append(trial)
        if len(self._failed_first) == FIRST_FAILURES == self.done:
            causes = Counter(failed.cause for failed in self._failed_first)
            listed = ", ".join(f"{count} x {cause}" for cause, count in causes.most_common())
            raise TuningError(
                f"The first {FIRST_FAILURES} candidates all failed ({listed}); the last one: {trial.message}",
                "Check the board with 'tvmbuild device check', or the model with 'tvmbuild verify'.",
            )

    def _point(self) -> None:
        self.curve.append(Point(self.done, self.elapsed, self.total_seconds))

    @staticmethod
    def _progress(state: TaskState) -> Progress:
        task = state.task
        best = state.best + [state.best_seconds] * state.under_way
        return Progress(task.calls, task.macs, task.kind, best, state.search.exhausted or state.is_hopeless)
