"""What a run knows of one task."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tvmbuild.records.trial import Trial
from tvmbuild.tuning.search import Search
from tvmbuild.tuning.task import Candidate, Task


@dataclass
class TaskState:
    """What a run knows of a task.

    Attributes:
        task: the task.
        search: proposes its candidates.
        trials: of this run and of earlier ones, in order.
        best: the best time after each trial, in seconds.
        errors: failed trials by cause.
        under_way: candidates whose outcome is not there yet.
    """

    task: Task
    search: Search
    trials: list[Trial] = field(default_factory=list)
    best: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    under_way: int = 0

    @property
    def default_seconds(self) -> float:
        """Time of the default; infinite until it was measured."""
        return next((trial.best for trial in self.trials if trial.is_default), float("inf"))

    @property
    def best_seconds(self) -> float:
        """Best time so far; infinite until one trial succeeded."""
        return self.best[-1] if self.best else float("inf")

    @property
    def is_hopeless(self) -> bool:
        """Whether the default failed, so that there is nothing to compare with."""
        return self.task.default in self.search and self.default_seconds == float("inf")

    def note(self, candidate: Candidate, trial: Trial) -> None:
        """Add a trial."""
        self.trials.append(trial)
        self.search.tell(candidate, trial.best)
        if not trial.ok:
            self.errors[trial.cause] += 1
        self.best.append(min(self.best_seconds, trial.best))
