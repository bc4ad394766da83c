"""Several boards, not equally fast, that get hot: each times the default now and then, for one scale."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from tuning_fakes import FakeBuilder, FakeTrialRunner, task

from tvmbuild.records.fingerprint import BoardIdentity
from tvmbuild.records.trial import Failure, Measurement, Trial
from tvmbuild.tuning import trials as trials_module
from tvmbuild.tuning.measure.protocol import Run
from tvmbuild.tuning.measure.rpc import References
from tvmbuild.tuning.session import TuningSession
from tvmbuild.tuning.stopping import Limits

RUN = Run(Path("candidate.so"), (), Run(Path("default.so"), ()), max_age=100.0)


def test_each_board_times_the_default_when_it_did_not_do_so_lately() -> None:
    now = [0.0]
    known = References(lambda: now[0])
    due = known.due("one", RUN)
    assert due is not None
    assert due.library == Path("default.so")
    assert known.keep("one", RUN, (3.0, 1.0, 2.0)) == 2.0
    now[0] = 99.0
    assert known.due("one", RUN) is None
    assert known.keep("one", RUN, ()) == 2.0
    assert known.due("two", RUN) is not None
    now[0] = 101.0
    assert known.due("one", RUN) is not None
    assert known.due("one", Run(RUN.library, ())) is None


class Boards:
    """Measures on board after board; ``speed`` says how much slower than the first one a board is."""

    batched = False
    slots = 1

    def __init__(self, speed: Sequence[float]) -> None:
        self.board = BoardIdentity("cortex-a72", False, "two boards", {})
        self._speed = list(speed)
        self.timed = 0

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        answers: list[Measurement | Failure] = []
        for run in runs:
            speed = self._speed[min(self.timed, len(self._speed) - 1)]
            self.timed += 1
            seconds, reference = self._seconds(run) * speed, self._seconds(run.reference) * speed
            answers.append(
                Measurement((seconds,) * 5, np.zeros(3, "float32"), {"mhz_after": 1500.0}, reference, "board")
            )
        return answers

    @staticmethod
    def _seconds(run: Run | None) -> float:
        return 1.0 / eval(run.library.read_text())[1]["rows"] if run is not None else 0.0

    def close(self) -> None: ...


def tuned(folder: Path, boards: Boards) -> list[Trial]:
    trials: list[Trial] = []
    builder = FakeBuilder(folder)
    builder.workers = 1
    session = TuningSession(
        [task(rows=4)],
        FakeTrialRunner(builder, boards, seed=0),
        store=lambda _task, trial: trials.append(trial),
        limits=Limits(min_gain=0.0),
    )
    session.run()
    return trials


def test_times_of_a_slower_board_are_put_on_the_scale_of_the_first(tmp_path: Path) -> None:
    trials = tuned(tmp_path, Boards([1.0, 1.2, 1.1, 0.9]))
    assert len(trials) == 8
    assert all(trial.best == pytest.approx(1.0 / trial.choice["rows"]) for trial in trials)
    assert {trial.readings.get("drift") for trial in trials} == {None, 1.2, 1.1, 0.9}
    assert all(trial.readings["mhz_after"] == 1500.0 and trial.board == "board" for trial in trials)


def test_a_board_that_is_far_too_slow_is_let_cool_and_measures_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trials_module, "_COOLING_SECONDS", 0.0)
    boards = Boards([1.0, 2.0, 1.0])
    trials = tuned(tmp_path, boards)
    assert all(trial.ok for trial in trials)
    assert boards.timed == len(trials) + 1
    assert {trial.cause for trial in tuned(tmp_path, Boards([1.0, 2.0]))} == {"", "throttled"}
