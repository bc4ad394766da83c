"""The default of each task: what its candidates have to compute, and what puts their times on one scale.

A machine's speed drifts with its temperature, and boards of one kind differ a little. The default is therefore timed
again with each batch or, on each of several boards, every few minutes while a task is tuned; the candidates' times are
divided by how far it has drifted.
"""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.tuning.measure.protocol import Run, wrong_result
from tvmbuild.tuning.task import Task

#: How far a default's time may drift within a run before something is wrong with the machine.
MOST_DRIFT = 1.3


class Baselines:
    """Library, output and time of each task's default."""

    def __init__(self) -> None:
        """Start with none."""
        self._libraries: dict[str, Path] = {}
        self._outputs: dict[str, NDArray[Any]] = {}
        self._seconds: dict[str, float] = {}
        self._recorded: dict[str, float] = {}

    def __contains__(self, task: Task) -> bool:
        """Whether a task's default was run."""
        return task.workload in self._outputs

    def recall(self, task: Task, seconds: float) -> None:
        """Take the time of a default from an earlier run: new times are put on its scale."""
        self._recorded[task.workload] = seconds

    def keep(self, task: Task, library: Path, measured: Measurement) -> None:
        """Take a default that was run."""
        self._outputs[task.workload] = measured.output
        self._libraries[task.workload] = library
        self._seconds[task.workload] = statistics.median_high(measured.seconds)
        self._recorded.setdefault(task.workload, self._seconds[task.workload])

    def run(self, task: Task, inputs: tuple[NDArray[Any], ...]) -> Run:
        """Return the default as something to measure again."""
        return Run(self._libraries[task.workload], inputs)

    def drift(self, task: Task, seconds: float) -> float:
        """Return a default's time now over that of this run's start."""
        return seconds / self._seconds[task.workload]

    def corrected(self, task: Task, outcome: Measurement | Failure, seconds: float) -> Measurement | Failure:
        """Return an outcome on the scale of the recorded times.

        Args:
            task: whose.
            outcome: of a candidate.
            seconds: of the default at about the same time on the same board.
        """
        drift = seconds / self._recorded[task.workload]
        if isinstance(outcome, Failure) or drift == 1.0:
            return outcome
        scaled = tuple(second / drift for second in outcome.seconds)
        readings = {**outcome.readings, "drift": round(drift, 4)}
        return Measurement(scaled, outcome.output, readings, outcome.reference, outcome.board)

    def checked(self, task: Task, outcome: Measurement | Failure) -> Measurement | Failure:
        """Return an outcome, or a failure where its output is not the default's."""
        if isinstance(outcome, Failure) or outcome.output is None:
            return outcome
        wrong = wrong_result(outcome.output, self._outputs[task.workload])
        return Failure("wrong result", wrong) if wrong else outcome


def is_far(drift: float) -> bool:
    """Whether a drift is more than heat explains."""
    return not 1 / MOST_DRIFT <= drift <= MOST_DRIFT
