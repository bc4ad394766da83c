from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from tuning_fakes import FakeBuilder, FakeMeasurer, FakeTrialRunner, task

from tvmbuild.records.trial import Failure, Measurement, Trial
from tvmbuild.support.errors import OptionError, TuningError
from tvmbuild.support.options import TuneOptions
from tvmbuild.target.target import load_target
from tvmbuild.tuning.measure.protocol import Run
from tvmbuild.tuning.session import FIRST_FAILURES, TuningSession
from tvmbuild.tuning.stopping import LEAST_WINDOW, Limits, Point, expected_gain, expected_in, reason_to_stop
from tvmbuild.tuning.task import Candidate, Task
from tvmbuild.tuning.trials import Keep
from tvmbuild.tuning.tune import tune

Outcome = Callable[[str, Mapping[str, int]], float | Failure]


def session(
    folder: Path, tasks: list[Task], outcome: Outcome, limits: Limits | None = None
) -> tuple[TuningSession, list[Trial], FakeMeasurer]:
    trials: list[Trial] = []
    measurer = FakeMeasurer(outcome)
    made = TuningSession(
        tasks,
        FakeTrialRunner(FakeBuilder(folder), measurer, seed=0),
        store=lambda _task, trial: trials.append(trial),
        limits=limits or Limits(min_gain=0.0),
        predicted=True,
    )
    return made, trials, measurer


def by_rows(_workload: str, choice: Mapping[str, int]) -> float:
    return 1.0 / choice["rows"] + 0.1 * choice["stay"]


def test_defaults_come_first_and_every_choice_is_tried_once(tmp_path: Path) -> None:
    tasks = [task("a", number=1), task("b", number=2)]
    made, trials, _ = session(tmp_path, tasks, by_rows)
    assert made.run() == "every choice was tried"
    assert [trial.is_default for trial in trials[:3]] == [True, True, False]
    assert len(trials) == len({trial.key for trial in trials}) == sum(task.size for task in tasks)
    assert all(made.best(state).choice == {"rows": 4, "stay": 0} for state in made.states)
    assert made.total_seconds == pytest.approx(0.5)
    assert made.default_total_seconds == pytest.approx(2.0)


def test_the_default_stays_when_nothing_beats_it(tmp_path: Path) -> None:
    made, _, _ = session(tmp_path, [task()], lambda _, choice: float(choice["rows"] + choice["stay"]))
    made.run()
    best = made.best(made.states[0])
    assert best is not None
    assert best.is_default


def test_trials_end_a_run(tmp_path: Path) -> None:
    made, trials, _ = session(tmp_path, [task()], by_rows, Limits(trials=5, min_gain=0.0))
    assert made.run() == "the 5 trials asked for are done"
    assert len(trials) == 5


class SlowMeasurer(FakeMeasurer):
    """Answers the later candidates of a batch first."""

    slots = 4

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        answers = super().measure(runs)
        time.sleep(0.002 * (len(self.measured) % 5))
        return answers


def test_batches_overlap_and_the_same_seed_still_tries_the_same(tmp_path: Path) -> None:
    def tried(measurer: FakeMeasurer) -> list[Any]:
        trials: list[Trial] = []
        runner = FakeTrialRunner(FakeBuilder(tmp_path), measurer, seed=0)
        starts = []
        begin = runner.start

        def start(task: Task, candidates: Sequence[Candidate], keep: Keep) -> Iterator[tuple[Candidate, Trial]]:
            starts.append(made.done)
            return begin(task, candidates, keep)

        runner.start = start  # type: ignore[method-assign]
        tasks = [task("a", number=1, rows=40), task("b", number=2, rows=40, calls=3)]
        limits = Limits(trials=60, min_gain=0.0)
        made = TuningSession(
            tasks, runner, store=lambda _task, trial: trials.append(trial), limits=limits, predicted=True
        )
        made.run()
        # The second batch begins before the first one has ended.
        assert starts[:2] == [2, 2]
        assert all(state.under_way == 0 for state in made.states)
        return [trial.key for state in made.states for trial in state.trials]

    first = tried(SlowMeasurer(by_rows))
    assert len(first) == len(set(first)) == 60
    assert first == tried(SlowMeasurer(by_rows))


def test_when_the_time_is_over_what_is_not_being_measured_is_let_go(tmp_path: Path) -> None:
    now = [0.0]
    # The board is never more than a candidate ahead of what is noted.
    noted = threading.Semaphore(2)

    def slow(workload: str, choice: Mapping[str, int]) -> float:
        assert noted.acquire(timeout=5)
        now[0] += 1.0
        return by_rows(workload, choice)

    measurer, builder = FakeMeasurer(slow), FakeBuilder(tmp_path)
    measurer.slots = builder.workers = 1
    trials: list[Trial] = []
    made = TuningSession(
        [task(rows=40)],
        FakeTrialRunner(builder, measurer, seed=0),
        store=lambda _task, trial: trials.append(trial),
        limits=Limits(seconds=6.0, min_gain=0.0),
        predicted=True,
        listener=lambda _session: noted.release(),
        clock=lambda: now[0],
    )
    assert made.run() == "the 6 s asked for are over"
    # Some more may have begun when the sixth was noted, but never all of the two batches that were under way.
    assert 4 <= len(trials) <= 9


def test_the_same_seed_tries_the_same(tmp_path: Path) -> None:
    runs = []
    for _ in range(2):
        made, _, _ = session(tmp_path, [task(rows=9)], by_rows, Limits(trials=7, min_gain=0.0))
        made.run()
        # The journal has them as they came.
        runs.append([trial.key for trial in made.states[0].trials])
    assert runs[0] == runs[1]


def test_a_resumed_run_repeats_no_trial_and_keeps_the_count(tmp_path: Path) -> None:
    limits = Limits(trials=9, min_gain=0.0)
    made, first, _ = session(tmp_path, [task(rows=9)], by_rows, Limits(trials=4, min_gain=0.0))
    made.run()
    again, second, _ = session(tmp_path, [task(rows=9)], by_rows, limits)
    assert again.recall(first, counted=len(first)) == 4
    again.run()
    keys = Counter(trial.key for trial in (*first, *second))
    assert len(first) + len(second) == 9
    assert set(keys.values()) == {1}


def test_the_first_failures_stop_the_run_with_the_reason(tmp_path: Path) -> None:
    many = [task(str(number), number=number) for number in range(12)]
    made, trials, _ = session(tmp_path, many, lambda *_: Failure("compile", "no such instruction"))
    with pytest.raises(TuningError, match=r"10 x compile.*no such instruction"):
        made.run()
    assert made.done == FIRST_FAILURES <= len(trials)


def test_a_candidate_that_crashes_twice_is_quarantined_and_never_sent_again(tmp_path: Path) -> None:
    def outcome(workload: str, choice: Mapping[str, int]) -> float | Failure:
        return Failure("crash", "SIGSEGV") if choice == {"rows": 3, "stay": 1} else by_rows(workload, choice)

    made, trials, measurer = session(tmp_path, [task()], outcome)
    made.run()
    assert [trial.choice for trial in trials if trial.cause == "quarantined"] == [{"rows": 3, "stay": 1}]
    assert made.states[0].errors == {"quarantined": 1}
    again, more, later = session(tmp_path, [task()], outcome)
    again.recall(trials)
    again.run()
    assert measurer.measured.count((task().workload, {"rows": 3, "stay": 1})) == 2
    assert more == []
    assert later.measured == []


def test_what_failed_for_the_boards_sake_is_tried_once_more(tmp_path: Path) -> None:
    seen: set[str] = set()

    def flaky(workload: str, choice: Mapping[str, int]) -> float | Failure:
        text = repr(choice)
        if choice["stay"] and text not in seen:
            seen.add(text)
            return Failure("lost", "the board is gone")
        return by_rows(workload, choice)

    made, trials, _ = session(tmp_path, [task()], flaky)
    made.run()
    assert seen
    assert all(trial.ok for trial in trials)


def test_a_trial_that_failed_for_the_boards_sake_is_tried_in_the_next_run(tmp_path: Path) -> None:
    made, trials, _ = session(tmp_path, [task()], lambda w, c: Failure("lost", "") if c["stay"] else by_rows(w, c))
    made.run()
    assert {trial.cause for trial in trials} == {"", "lost"}
    again, more, _ = session(tmp_path, [task()], by_rows)
    again.recall(trials)
    again.run()
    assert {trial.key for trial in more} == {trial.key for trial in trials if not trial.ok}


def curve(*totals: float) -> list[Point]:
    return [Point(number, float(number), total) for number, total in enumerate(totals)]


def test_a_flat_curve_expects_nothing_and_stops_the_run() -> None:
    flat = curve(*[1.0] * (2 * LEAST_WINDOW))
    assert expected_gain(flat, 1000) == 0.0
    assert "--min-gain" in reason_to_stop(flat, Limits(), left=1000)


def test_a_falling_curve_goes_on_and_expects_less_than_it_gained() -> None:
    falling = curve(*[2.0 - 0.01 * step for step in range(LEAST_WINDOW + 1)])
    gained = falling[0].total - falling[-1].total
    assert 0.0 < expected_gain(falling, LEAST_WINDOW) < gained
    assert expected_gain(falling, 1e9) <= gained
    assert reason_to_stop(falling, Limits(), left=1000) == ""


def test_few_trials_are_no_reason_to_stop() -> None:
    assert reason_to_stop(curve(1.0, 1.0, 1.0), Limits(), left=10) == ""
    assert reason_to_stop(curve(1.0, 1.0), Limits(), left=0) == "every choice was tried"
    assert reason_to_stop(curve(1.0, 1.0, 1.0), Limits(seconds=2.0), left=10) == "the 2 s asked for are over"


@pytest.mark.parametrize(
    ("flag", "change"),
    [
        ("--trials", {"trials": -1}),
        ("--workers", {"workers": -2}),
        ("--min-gain", {"min_gain": -0.5}),
        ("--min-gain", {"min_gain": 1.0}),
        ("--time", {"time": "3x"}),
    ],
)
def test_limits_that_mean_nothing_are_refused_first(tmp_path: Path, flag: str, change: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=flag):
        tune(tmp_path / "none.onnx", load_target("rpi4"), TuneOptions(records=tmp_path / "logs", **change))
    assert not (tmp_path / "logs").exists()


def test_a_gain_of_long_ago_tells_less_and_less() -> None:
    expected = [expected_gain(curve(2.0, 1.0, *[1.0] * trials), 1e9) for trials in (1, 10, 50, 100, 400)]
    assert expected[0] > 0.9
    # Smoothly: no gain falls out of sight from one trial to the next.
    assert all(0.1 * before < after < 0.95 * before for before, after in itertools.pairwise(expected[:4]))
    assert expected[-1] < 0.01


def test_nothing_is_forecast_from_a_few_trials_nor_more_than_what_is_left_can_bring() -> None:
    falling = [2.0 - 0.01 * step for step in range(LEAST_WINDOW + 1)]
    assert expected_in(curve(*falling[:5]), 3600.0, left=1000) is None
    assert expected_in([], 3600.0, left=1000) is None
    assert expected_in(curve(*falling[:5]), 3600.0, left=0) == 0.0
    hour, rest = (expected_in(curve(*falling), 3600.0, left=left) for left in (1000, 5))
    assert hour is not None
    assert rest is not None
    assert 0.0 < rest < 0.2 * hour
