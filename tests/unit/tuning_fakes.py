"""A builder and a measurer that do nothing real: a candidate's time is a function of its choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from tvmbuild.records.fingerprint import BoardIdentity
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.schedules.knob import Knob
from tvmbuild.tuning.measure.protocol import Run
from tvmbuild.tuning.task import Task, Variant
from tvmbuild.tuning.trials import TrialRunner

BOARD = BoardIdentity("cortex-a72", True, "a fake", {"revision": "1"})


def task(name: str = "conv", calls: int = 1, rows: int = 4, number: int = 1, macs: int = 1000) -> Task:
    knobs = (Knob("rows", 1, tuple(range(1, rows + 1))), Knob("stay", 0, (0, 1)))
    return Task(name, "conv2d.direct", f"{name} shape", (), "", calls, macs, (Variant(f"{number:016x}", knobs),))


class FakeBuilder:
    """Makes a file that holds the choice."""

    workers = 2

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    def build(self, variant: Variant, choice: Mapping[str, int]) -> Path | Failure:
        path = self._folder / f"{variant.workload}-{'-'.join(map(str, choice.values()))}.so"
        path.write_text(repr((variant.workload, dict(choice))))
        return path


class FakeMeasurer:
    """Answers with ``outcome(workload, choice)``: seconds, or a failure."""

    batched = False
    slots = 2
    board = BOARD

    def __init__(self, outcome: Callable[[str, Mapping[str, int]], float | Failure]) -> None:
        self._outcome = outcome
        self.measured: list[tuple[str, dict[str, int]]] = []

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        answers: list[Measurement | Failure] = []
        for run in runs:
            workload, choice = eval(run.library.read_text())
            self.measured.append((workload, choice))
            outcome = self._outcome(workload, choice)
            if isinstance(outcome, Failure):
                answers.append(outcome)
            else:
                answers.append(Measurement((outcome,), np.zeros(3, "float32")))
        return answers

    def close(self) -> None: ...


class FakeTrialRunner(TrialRunner):
    """Needs no PrimFunc for its inputs."""

    def _arguments(self, variant: Variant) -> tuple[np.ndarray, ...]:
        return ()
