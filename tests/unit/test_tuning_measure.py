"""What candidates are run with, and what their outputs and times are held against."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tuning_fakes import FakeBuilder, FakeMeasurer, FakeTrialRunner, task

from tvmbuild.records.trial import Trial
from tvmbuild.tuning import candidate
from tvmbuild.tuning.measure.protocol import arguments_of, no_measure, wrong_result
from tvmbuild.tuning.task import Variant

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("output", "expected", "words"),
    [
        ([1.0, NAN], [1.0, 2.0], "NaN"),
        ([NAN, NAN], [NAN, NAN], "NaN"),
        ([1.0, INF], [1.0, 2.0], "infinite"),
        ([1.0, 2.0], [1.0, INF], "infinite"),
        ([1.0, -INF], [1.0, INF], "infinite"),
        ([1.5, INF], [1.0, INF], "differs"),
        ([1.0, INF], [1.0, INF], ""),
        ([1.00001, 2.0], [1.0, 2.0], ""),
        ([1.0, 2.1], [1.0, 2.0], "differs"),
    ],
)
def test_an_output_that_is_no_number_passes_for_none(output: list[float], expected: list[float], words: str) -> None:
    told = wrong_result(np.array(output, "float32"), np.array(expected, "float32"))
    assert words in told
    assert bool(words) == bool(told)


@pytest.mark.parametrize(
    ("values", "useless"), [([1.0, NAN], True), ([INF, -INF], True), ([1.0, INF], False), ([0.0], False), ([], False)]
)
def test_a_default_without_numbers_measures_nothing(values: list[float], useless: bool) -> None:
    assert bool(no_measure(np.array(values, "float16"))) == useless


class NanMeasurer(FakeMeasurer):
    """Every output is NaN, that of the default too."""

    def measure(self, runs: Any) -> Any:
        outcomes = super().measure(runs)
        for outcome in outcomes:
            outcome.output[:] = NAN
        return outcomes


def tried(folder: Path, measurer: FakeMeasurer) -> list[Trial]:
    one = task(rows=2)
    runner = FakeTrialRunner(FakeBuilder(folder), measurer, 0)
    kept: list[Trial] = []
    list(runner.start(one, list(one.candidates())[:2], lambda _, trial: kept.append(trial)))
    runner.close()
    return kept


def test_no_candidate_is_recorded_where_the_default_gives_nan(tmp_path: Path) -> None:
    kept = tried(tmp_path, NanMeasurer(lambda *_: 1.0))
    assert {trial.cause for trial in kept} == {"wrong result"}


@pytest.mark.parametrize("seconds", [NAN, -1.0, 0.0, INF])
def test_a_time_that_cannot_be_is_none(tmp_path: Path, seconds: float) -> None:
    def outcome(_: str, choice: Any) -> float:
        return seconds if choice["rows"] == 2 or choice["stay"] else 1.0

    kept = tried(tmp_path, FakeMeasurer(outcome))
    assert sorted(trial.cause for trial in kept) == ["", "lost"]


@pytest.mark.parametrize(("dtype", "low", "high"), [("int8", -128, 127), ("uint8", 0, 255), ("int16", -32768, 32767)])
def test_codes_of_the_whole_range_are_drawn(monkeypatch: pytest.MonkeyPatch, dtype: str, low: int, high: int) -> None:
    drawn = arrays(monkeypatch, (1 << 19,), dtype)
    assert (drawn.dtype, drawn.min(), drawn.max()) == (dtype, low, high)


def test_integers_that_may_be_indices_stay_small(monkeypatch: pytest.MonkeyPatch) -> None:
    for dtype in ("int32", "int64"):
        drawn = arrays(monkeypatch, (1000,), dtype)
        assert drawn.min() >= 0
        assert drawn.max() < 64


def arrays(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    parameters: Callable[[Any], Any] = lambda _: [(shape, dtype), ((1,), "int32")]  # noqa: E731
    monkeypatch.setattr(candidate, "parameters", parameters)
    (drawn,) = arguments_of(Variant("a", ()), 0)
    return drawn
