"""Each figure that a tuning run shows or decides by is what its definition says, not only more or less than another."""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tuning_fakes import BOARD, task

from tvmbuild.records.board_records import BoardRecords
from tvmbuild.records.trial import Failure, Measurement, Trial
from tvmbuild.support.errors import OutputError, RecordsError
from tvmbuild.target.target import load_target, predicted_core
from tvmbuild.tuning import summary
from tvmbuild.tuning.baseline import MOST_DRIFT, Baselines, is_far
from tvmbuild.tuning.curve import Curve, curve_of, draw_curve, text_curve
from tvmbuild.tuning.runs import RunState, TaskEntry, write_run
from tvmbuild.tuning.search import Search
from tvmbuild.tuning.stopping import (
    LEAST_WINDOW,
    Limits,
    Point,
    expected_gain,
    expected_in,
    reason_to_stop,
    trials_a_second,
)
from tvmbuild.tuning.task_state import TaskState

RPI4 = load_target("rpi4")


def steady(count: int, start: int = 0) -> list[Point]:
    """A run of a trial in two seconds, each of which gains a hundredth of a second."""
    return [Point(start + number, 2.0 * number, 2.0 - 0.01 * number) for number in range(count)]


def line(task: str, seconds: float | None, time: float, *, default: bool = False, cause: str = "crash") -> Trial:
    found = (seconds,) if seconds is not None else ()
    choice = {"rows": int(time)}
    return Trial(task, task, choice, "", found, "" if found else cause, is_default=default, time=time)


@settings(max_examples=40)
@given(
    falls=st.lists(st.floats(0.0, 1.0), min_size=1, max_size=6),
    trials=st.floats(0.5, 1e4),
    start=st.sampled_from([1, 100, 192, 1000]),
)
def test_the_gain_to_come_halves_with_each_half_life(falls: list[float], trials: float, start: int) -> None:
    """Half a window of 48 trials, or of a quarter of all; both of what is to come and of what was."""
    points = [Point(start, 0.0, 10.0)]
    for number, fall in enumerate(falls, 1):
        points.append(Point(start + number, float(number), points[-1].total - fall))
    half = max(24.0, points[-1].trials / 8)
    told = sum(fall * 0.5 ** ((len(falls) - number) / half) for number, fall in enumerate(falls, 1))
    assert expected_gain(points, trials) == pytest.approx(told * (1 - 0.5 ** (trials / half)))


def test_a_total_that_rises_takes_nothing_from_the_gain() -> None:
    points = [Point(1, 0.0, 1.0), Point(2, 1.0, 3.0), Point(3, 2.0, 2.0)]
    assert expected_gain(points, 1e9) == pytest.approx(1.0)
    assert expected_gain(points, 0) == expected_gain(points, -1) == expected_gain(points[:1], 9) == 0.0


def test_the_rate_is_that_of_the_whole_run() -> None:
    assert trials_a_second(steady(11)) == pytest.approx(0.5)
    assert trials_a_second(steady(11, start=100)) == pytest.approx(0.5)
    assert trials_a_second([Point(1, 5.0, 1.0), Point(2, 5.0, 1.0)]) == trials_a_second(steady(1)) == 0.0


@pytest.mark.parametrize("start", [0, 500])
def test_the_hour_is_forecast_from_half_a_window_on(start: int) -> None:
    enough = steady(LEAST_WINDOW // 2 + 1, start)
    assert expected_in(enough[:-1], 3600.0, left=10**6) is None
    assert expected_in(enough, 3600.0, left=10**6) == pytest.approx(expected_gain(enough, 1800))
    assert expected_in(enough, 3600.0, left=7) == pytest.approx(expected_gain(enough, 7))
    assert expected_in(steady(3), 1.0, left=-1) == expected_in(steady(3), 1.0, left=0) == 0.0
    assert expected_in(steady(3), 1.0, left=1) is None


@pytest.mark.parametrize(
    ("count", "limits", "left", "unseen", "reason"),
    [
        (0, Limits(), 0, False, ""),
        (1, Limits(trials=1), 0, False, "every choice was tried"),
        (5, Limits(trials=4, min_gain=0.0), 9, False, "the 4 trials asked for are done"),
        (4, Limits(trials=4, min_gain=0.0), 9, False, ""),
        (5, Limits(seconds=8.0, min_gain=0.0), 9, False, "the 8 s asked for are over"),
        (5, Limits(seconds=8.5, min_gain=0.0), 9, False, ""),
        (99, Limits(seconds=150.0, min_gain=0.0), 9, False, "the 2.5 minutes asked for are over"),
        (31, Limits(seconds=59.0, min_gain=0.0), 9, False, "the 59 s asked for are over"),
        (LEAST_WINDOW, Limits(min_gain=0.99), 9, False, ""),
        (LEAST_WINDOW + 1, Limits(min_gain=0.99), 9, True, ""),
        (LEAST_WINDOW + 1, Limits(min_gain=0.99), 9, False, "expected to gain"),
    ],
)
def test_a_run_stops_for_its_first_reason(count: int, limits: Limits, left: int, unseen: bool, reason: str) -> None:
    told = reason_to_stop(steady(count), limits, left, unseen=unseen)
    assert told == reason or (reason and reason in told)


@pytest.mark.parametrize(
    ("limits", "left", "coming"),
    [
        (Limits(), 70, 70),
        (Limits(trials=90), 70, 41),
        (Limits(trials=900), 70, 70),
        (Limits(seconds=118.0), 70, 10),
        (Limits(trials=53, seconds=118.0), 70, 4),
    ],
)
def test_going_on_is_judged_by_the_trials_that_the_limits_leave(limits: Limits, left: int, coming: int) -> None:
    points = steady(50)
    gain = expected_gain(points, coming)
    share = gain / points[-1].total
    goes_on = dataclasses.replace(limits, min_gain=share * 0.999)
    ends = dataclasses.replace(limits, min_gain=share * 1.001)
    assert reason_to_stop(points, goes_on, left) == ""
    told = reason_to_stop(points, ends, left)
    assert f"expected to gain {share:.2%} of the model's time, less than the {ends.min_gain:.2%} of --min-gain" in told


RUN = RunState(
    "net",
    "rpi4",
    {"trials": 1, "time": "", "task": "", "seed": 0, "min_gain": 0.01},
    1,
    100.0,
    "enough",
    (TaskEntry("a", "conv", "1x1", 2, 7), TaskEntry("b", "matmul", "1x1", 3, 7)),
)
TRIALS = (
    line("a", 9.0, 50.0, default=True),
    line("a", 4.0, 101.0, default=True),
    line("b", None, 102.0),
    line("b", 1.0, 103.0, default=True),
    line("other", 1.0, 104.0),
    line("a", 5.0, 105.0),
    line("a", 3.0, 106.0),
    line("b", None, 107.0, cause="time-out"),
    line("other", None, 108.0),
    line("b", 0.5, 109.0),
)


def curve(folder: Path, trials: Sequence[Trial] = TRIALS, run: RunState = RUN) -> Curve:
    write_run(folder, run)
    return curve_of(BoardRecords(folder, BOARD, tuple(trials)), "net")


def test_a_curve_is_the_models_best_time_after_each_trial_of_its_own(tmp_path: Path) -> None:
    found = curve(tmp_path)
    assert found.points == (
        *((2, 2.0, 8.0), (3, 3.0, 11.0)),
        *((5, 5.0, 11.0), (6, 6.0, 9.0), (7, 7.0, 9.0), (9, 9.0, 7.5)),
    )
    assert found.default == 2 * 4.0 + 3 * 1.0
    assert found.failures == {"crash": 1, "time-out": 1}
    assert (found.model, found.board, found.predicted, found.stopped) == ("net", "a fake", True, "enough")
    told = found.to_json()
    assert (told["default_seconds"], told["best_seconds"]) == (11.0, 7.5)
    assert told["points"][0] == {"trials": 2, "elapsed": 2.0, "seconds": 8.0}


def test_a_clock_that_was_set_back_gives_no_time_before_the_start(tmp_path: Path) -> None:
    early = dataclasses.replace(RUN, started=200.0)
    assert {elapsed for _, elapsed, _ in curve(tmp_path, run=early).points} == {0.0}


def test_a_run_without_all_its_defaults_has_no_curve(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match="has no curve"):
        curve(tmp_path, TRIALS[:2])
    later = dataclasses.replace(RUN, first_trial=len(TRIALS))
    with pytest.raises(RecordsError, match="has no curve"):
        curve(tmp_path, run=later)


def drawn(*points: tuple[int, float], default: float) -> list[str]:
    return text_curve(Curve("net", "b", False, default, tuple((t, 0.0, s) for t, s in points), {}, ""))


def test_a_curve_of_characters_has_its_steps_at_their_places() -> None:
    """12 rows from the best to the worst time, 64 columns from the first trial to the last."""
    lines = drawn((1, 0.022), (33, 0.010), (64, 0.0), default=0.02)
    assert [float(line.split()[0]) for line in lines[:12]] == pytest.approx([22.0 - 2 * row for row in range(12)])
    assert lines[0] == f"{22:10.3f} ms |" + 32 * "*"
    assert lines[6] == f"{10:10.3f} ms |" + 32 * " " + 31 * "*"
    assert lines[11] == f"{0:10.3f} ms |" + 63 * " " + "*"
    assert all(line.endswith("|") for row, line in enumerate(lines[:12]) if row not in (0, 6, 11))
    assert lines[12] == 14 * " " + "+" + 64 * "-"
    assert lines[13] == "       trials  1" + "64".rjust(63)


def test_the_default_is_on_the_scale_and_a_flat_curve_is_a_line() -> None:
    assert drawn((1, 0.001), (2, 0.001), default=0.012)[0] == f"{12:10.3f} ms |"
    flat = drawn((1, 0.5), (9, 0.5), default=0.5)
    assert flat[11] == f"{500:10.3f} ms |" + 64 * "*"
    assert flat[0] == f"{1500:10.3f} ms |"


def test_a_file_of_an_unknown_form_is_refused_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"no ending of \.svg, \.png, \.pdf"):
        draw_curve(Curve("net", "b", False, 1.0, ((1, 0.0, 1.0),), {}, ""), tmp_path / "curve.gif")
    assert list(tmp_path.iterdir()) == []


class Axes:
    """Takes down what is drawn."""

    def __init__(self) -> None:
        self.drawn: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}

    def __getattr__(self, name: str) -> Any:
        return lambda *arguments, **options: self.drawn.update({name: (arguments, options)})


@pytest.mark.parametrize(("best", "least"), [(0.010, 9.95), (0.0199, 19 * 0.995)])
def test_the_picture_shows_milliseconds_and_no_small_gain_as_a_large_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, best: float, least: float
) -> None:
    axes = Axes()
    figure = SimpleNamespace(add_subplot=lambda: axes, savefig=lambda path: path.write_text("drawn"))
    monkeypatch.setitem(sys.modules, "matplotlib", ModuleType("matplotlib"))
    monkeypatch.setitem(sys.modules, "matplotlib.figure", SimpleNamespace(Figure=lambda **_: figure))
    made = Curve("net", "a board", True, 0.020, ((3, 1.0, 0.024), (9, 2.0, best)), {}, "")
    draw_curve(made, tmp_path / "there" / "curve.svg")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["curve.svg"]
    (trials, times), options = axes.drawn["step"]
    assert (trials, times) == ([3, 9], pytest.approx([24.0, best * 1e3]))
    assert options["label"] == f"best: {best * 1e3:.3f} ms, {1 - best / 0.020:.1%} less"
    assert axes.drawn["axhline"][0] == pytest.approx((20.0,))
    assert axes.drawn["axhline"][1]["label"] == "default schedules: 20.000 ms"
    assert axes.drawn["set_ylim"][0] == pytest.approx((least, 24 * 1.005))
    assert axes.drawn["set_ylabel"][0] == ("predicted time of the model, ms",)
    assert axes.drawn["set_title"][0] == ("net, a board",)


@pytest.mark.parametrize(
    ("macs", "kind", "threads", "known"),
    [
        (10**9, "conv2d.direct", 1, True),
        (10**9, "conv2d.direct", 4, True),
        (10**9, "depthwise", 1, True),
        (10**9, "matmul", 1, True),
        (0, "conv2d.direct", 1, False),
        (10**9, "conv2d.winograd", 1, False),
        (10**9, "elementwise", 1, False),
    ],
)
def test_the_limit_of_a_kernel_is_its_sums_over_those_of_the_core(
    macs: int, kind: str, threads: int, known: bool
) -> None:
    found = summary.limit_seconds(macs, kind, RPI4, threads)
    expected = macs / (predicted_core(RPI4).float32_macs * RPI4.max_mhz * 1e6 * threads)
    assert found == (pytest.approx(expected) if known else None)
    assert summary.limit_seconds(macs, kind, dataclasses.replace(RPI4, max_mhz=0), threads) is None
    assert summary.limit_seconds(macs, kind, load_target("host"), threads) is None


class Run:
    """A session of two tasks of which only figures are asked: one fell from 8 s to 2 s, the other has no time yet."""

    predicted, waits = True, None
    done, elapsed, left = 11, 22.0, 100
    default_total_seconds, total_seconds = 8.0, 5.0

    def __init__(self, limits: Limits, points: int = 11) -> None:
        self.limits, self.curve = limits, steady(points)
        self.states = []
        for number, (name, macs) in enumerate((("quiet", 0), ("loud", 1000)), 1):
            one = task(name, number=number, macs=macs, calls=2)
            self.states.append(TaskState(one, Search(one, 0, None)))
        loud = self.states[1]
        loud.note(loud.task.default, line("loud", 4.0, 1.0, default=True))
        loud.note(next(iter(list(loud.task.candidates())[1:])), line("loud", 2.0, 2.0))
        loud.note(list(loud.task.candidates())[2], line("loud", None, 3.0))

    def best(self, state: Any) -> Trial | None:
        return state.trials[1] if state.trials else None


@pytest.mark.parametrize(
    ("limits", "points", "eta"),
    [
        (Limits(), 1, None),
        (Limits(), 11, 200.0),
        (Limits(trials=31), 11, 40.0),
        (Limits(trials=31, seconds=52.0), 11, 30.0),
        (Limits(seconds=400.0), 11, 200.0),
        (Limits(seconds=400.0), 1, 378.0),
        (Limits(trials=5), 11, 0.0),
    ],
)
def test_the_time_left_is_that_to_the_first_limit(limits: Limits, points: int, eta: float | None) -> None:
    run: Any = Run(limits, points)
    found = summary.summarize(run, RPI4)
    assert found.eta == (None if eta is None else pytest.approx(eta))
    later = found.after(30.0)
    assert later.elapsed == 52.0
    assert later.eta == (None if eta is None else pytest.approx(max(0.0, eta - 30.0)))


def test_a_summary_has_each_tasks_figures_the_costliest_first() -> None:
    run: Any = Run(Limits())
    found = summary.summarize(run, RPI4)
    assert (found.trials, found.elapsed, found.default, found.best, found.defaults) == (11, 22.0, 8.0, 5.0, 1)
    assert (found.waits, found.limit, found.limit_text, found.next_hour) == (None, "", "", None)
    loud, quiet = found.rows
    assert (loud.name, loud.calls, loud.share, loud.default, loud.best) == ("loud", 2, 0.8, 4.0, 2.0)
    assert (loud.trials, loud.size, loud.errors, loud.choice) == (3, 8, {"crash": 1}, {"rows": 2})
    assert loud.limit == summary.limit_seconds(1000, "conv2d.direct", RPI4, 1)
    assert (quiet.share, quiet.default, quiet.best, quiet.limit, quiet.choice) == (0.0, None, None, None, {})


def test_a_measured_limit_is_of_all_cores() -> None:
    run: Any = Run(Limits())
    run.predicted = False
    assert summary.summarize(run, RPI4).rows[0].limit == summary.limit_seconds(1000, "conv2d.direct", RPI4, RPI4.cores)


def measured(*seconds: float, output: Any = 1.0) -> Measurement:
    return Measurement(seconds, np.full(3, output, "float32"), {"mhz": 7.0}, 0.25, "there")


def test_a_candidate_is_put_on_the_scale_of_the_first_default() -> None:
    one, known = task(), Baselines()
    known.recall(one, 2.0)
    assert one not in known
    known.keep(one, Path("default.so"), measured(4.0, 3.0, 5.0, 9.0))
    assert one in known
    # The higher of the two in the middle; what was recorded before stays the scale.
    assert known.drift(one, 10.0) == 2.0
    found = known.corrected(one, measured(3.0, 6.0), 10.0)
    assert isinstance(found, Measurement)
    assert found.seconds == pytest.approx((0.6, 1.2))
    assert found.readings == {"mhz": 7.0, "drift": 5.0}
    assert (found.reference, found.board) == (0.25, "there")
    same = measured(3.0)
    assert known.corrected(one, same, 2.0) is same
    failed = Failure("crash", "")
    assert known.corrected(one, failed, 10.0) is known.checked(one, failed) is failed
    assert known.run(one, ()).library == Path("default.so")


def test_what_a_candidate_computed_is_held_against_the_default() -> None:
    one, known = task(), Baselines()
    known.keep(one, Path("default.so"), measured(1.0))
    good, bad = measured(1.0), known.checked(one, measured(1.0, output=2.0))
    assert known.checked(one, good) is good
    assert isinstance(bad, Failure)
    assert bad.cause == "wrong result"
    silent = Measurement((1.0,))
    assert known.checked(one, silent) is silent


def test_a_drift_of_three_tenths_either_way_is_heat() -> None:
    assert MOST_DRIFT == 1.3
    assert [is_far(drift) for drift in (1 / 1.31, 1 / 1.3, 1.0, 1.3, 1.31)] == [True, False, False, False, True]


def test_a_task_without_a_time_of_its_default_is_hopeless_only_once_that_was_tried() -> None:
    one = task()
    state = TaskState(one, Search(one, 0, None))
    assert (state.default_seconds, state.best_seconds, state.is_hopeless) == (math.inf, math.inf, False)
    state.note(one.default, line("conv", None, 1.0, default=True))
    assert state.is_hopeless
    assert (dict(state.errors), state.best) == ({"crash": 1}, [math.inf])
    state.note(one.default, line("conv", 4.0, 2.0, default=True))
    state.note(list(one.candidates())[1], line("conv", 7.0, 3.0))
    assert (state.default_seconds, state.best) == (math.inf, [math.inf, 4.0, 4.0])


def test_the_waits_of_a_run_are_shown_with_what_would_help(monkeypatch: pytest.MonkeyPatch) -> None:
    run: Any = Run(Limits())
    run.waits = SimpleNamespace(seconds=1.0)
    asked: list[int] = []

    def limit_of(_: object, cores: int) -> str:
        asked.append(cores)
        return "boards"

    monkeypatch.setattr(summary.os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(summary, "limit_of", limit_of)
    monkeypatch.setattr(summary, "limit_text", lambda _, limit: f"because of {limit}")
    for predicted in (True, False):
        run.predicted = predicted
        found = summary.summarize(run, RPI4)
        assert (found.limit, found.limit_text) == ("boards", "because of boards")
    assert asked == [3, 0]
