"""Two emulated boards behind a real tracker tune one model together, while a board and the tracker are killed."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import onnx_models
import pytest
from onnx import helper

from tvmbuild.device.fleet.emulated_boards import EmulatedBoards
from tvmbuild.records.journal import JOURNAL, read_journal
from tvmbuild.support.options import TuneOptions
from tvmbuild.target.target import load_target
from tvmbuild.tuning import trials as trials_module
from tvmbuild.tuning.session import TuningSession
from tvmbuild.tuning.tune import tune

TRIALS = 9


def small_model(folder: Path) -> Path:
    weights = np.random.default_rng(0).normal(0, 0.1, (16, 16, 1, 1)).astype("float32")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    return onnx_models.saved(onnx_models.model(nodes, {"x": [1, 16, 12, 12]}, ["y"], {"w": weights}), folder)


@pytest.mark.usefixtures("predictor")
def test_boards_and_tracker_may_die_and_no_trial_is_lost(tmp_path: Path) -> None:
    target = load_target("rpi4")
    killed: list[int] = []
    with EmulatedBoards(target, 2) as boards:

        def kill(session: TuningSession) -> None:
            """End a board after some trials, and the tracker after some more; both are started again."""
            wanted = {3: boards.pids[0], 6: boards.tracker_pid}
            if session.done in wanted and len(killed) < session.done // 3:
                killed.append(wanted[session.done])
                os.kill(killed[-1], signal.SIGKILL)

        options = TuneOptions(
            tracker=boards.tracker, key=boards.key, trials=TRIALS, task="*conv2d*", records=tmp_path, min_gain=0.0
        )
        result = tune(small_model(tmp_path), target, options, listener=kill)
    assert len(killed) == 2
    trials = read_journal(result.folder / JOURNAL)
    assert len(trials) == len({trial.key for trial in trials}) == TRIALS
    assert all(trial.ok for trial in trials), [trial.message for trial in trials]
    assert result.folder.name.startswith("predicted-cortex-a72-")


def test_boards_that_are_timed_measure_the_default_beside_the_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """This machine stands for two boards, which are timed; how fast it is does not matter."""
    monkeypatch.setattr(trials_module, "_COOLING_SECONDS", 0.0)
    target = load_target("host")
    with EmulatedBoards(target, 2, native=True) as boards:
        options = TuneOptions(
            tracker=boards.tracker, key=boards.key, trials=TRIALS, task="*conv2d*", records=tmp_path, min_gain=0.0
        )
        result = tune(small_model(tmp_path), target, options)
    trials = read_journal(result.folder / JOURNAL)
    assert len(trials) == len({trial.key for trial in trials}) == TRIALS
    # Other load may make the default far slower than it was; nothing else may go wrong.
    assert {trial.cause for trial in trials} <= {"", "throttled"}
    timed = [trial for trial in trials if trial.ok]
    assert all(len(trial.seconds) == 5 and trial.board.startswith("127.0.0.1:") for trial in timed)
    # Two timings of the default are never the same to the last digit, so a drift is noted.
    assert all("drift" in trial.readings for trial in timed if not trial.is_default)
    assert result.session.waits is not None
    assert result.folder.name.startswith("measured-")
