"""Timing beside busy processes: who runs when, and what the table and the verdict say."""

from __future__ import annotations

import pytest

from benchmarks import busy
from benchmarks.busy import OTHER, OWN, TVMS, Contest, render, result_of, take_turns, verdict


def made(own: float, tvms: float, other: float) -> dict[str, object]:
    return result_of({OWN: [own], TVMS: [tvms], OTHER: [other]}, 0.25)


def test_programs_take_turns_and_slow_ones_run_less_often():
    calls = []

    def program(name, seconds):
        def run(count):
            calls.append((name, count))
            return [seconds] * count

        return run

    contest = Contest("net", {OWN: program(OWN, 0.01), OTHER: program(OTHER, 5.0), TVMS: program(TVMS, 1e-5)})
    times = take_turns(contest, 2, 0.4)
    first = [(OWN, busy.LEAST), (OTHER, busy.LEAST), (TVMS, busy.LEAST)]
    assert calls == [*first, (OWN, 40), (OTHER, busy.LEAST), (TVMS, busy.MOST)]
    assert {name: len(seconds) for name, seconds in times.items()} == {OWN: 43, OTHER: 6, TVMS: 203}


def test_a_result_has_the_best_run_the_median_and_the_slow_ones():
    times = {OWN: [0.001 * i for i in range(1, 102)]}
    assert result_of(times, 1.5)[OWN] == pytest.approx({"best": 1, "p50": 51, "p95": 96})
    assert result_of(times, 1.5)["load_before"] == 1.5


def test_the_table_has_a_row_for_each_run_with_both_ratios():
    body = render({"net beside 0": made(0.002, 0.002, 0.003), "net beside 2": made(0.004, 0.1, 0.01)})
    assert "| net | 0 | 2.00 (2.00) | 2.00 (2.00) | 3.00 (3.00) | 1.00 | **1.50** |" in body
    assert "| net | 2 | 4.00 (4.00) | 100.00 (100.00) | 10.00 (10.00) | 25.00 | **2.50** |" in body


@pytest.mark.parametrize(
    ("beside_none", "beside_two", "words"),
    [
        ((2, 2, 3), (4, 9, 5), ["any run: met (least 1.25, net beside 2)", "+0.0 % (at most 2 %: met)"]),
        ((2, 2, 3), (4, 9, 3), ["any run: **not met** (least 0.75, net beside 2)"]),
        ((2, 1.9, 3), (4, 9, 5), ["+5.3 % (at most 2 %: **not met**)"]),
        # Beside others TVM's threads say nothing of the cost when alone.
        (None, (4, 2, 5), ["any run: met (least 1.25, net beside 2)."]),
    ],
)
def test_the_verdict(beside_none, beside_two, words):
    results = {"net beside 2": made(*beside_two)}
    if beside_none is not None:
        results["net beside 0"] = made(*beside_none)
    said = verdict(results)
    assert all(word in said for word in words)
    assert ("Cost when alone" in said) == (beside_none is not None)
