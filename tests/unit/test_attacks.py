"""The judges of ``make attack``: what is a fault, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest

from attacks import records
from attacks.__main__ import MARKERS, _render, _row
from attacks.attempt import MEMORY, Attempt, command, program
from attacks.mutate import bytes_of, json_of
from attacks.tally import Tally
from benchmarks.page import insert

#: Nothing wrong: an error in plain words.
REFUSED = Attempt(12, "error: it is damaged.\n  fix: get it again\n")


@pytest.mark.parametrize(
    ("attempt", "fault"),
    [
        (REFUSED, ""),
        (Attempt(0, "fine\n"), ""),
        (Attempt(-9, "", hung=True), "did not end in time"),
        (Attempt(-11, ""), "died of signal 11"),
        (Attempt(1, "Traceback (most recent call last):\n"), "showed a traceback"),
        (Attempt(1, "error: this is a bug in tvmbuild: KeyError"), "called itself a bug"),
        (Attempt(1, "refused: SHA256SUMS is damaged"), ""),
        (Attempt(3, "error: \x1b[2J"), "sent control characters"),
        (Attempt(0, "fine", peak=MEMORY + 1), "took 4.3 GB"),
    ],
)
def test_a_fault_is_told_apart_from_a_refusal(attempt: Attempt, fault: str) -> None:
    assert attempt.fault().startswith(fault)
    assert bool(attempt.fault()) == bool(fault)


def test_what_is_accepted_wrongly_is_a_fault(capsys: pytest.CaptureFixture[str]) -> None:
    tally = Tally("archives")
    tally.take("a", REFUSED)
    tally.take("b", Attempt(0, ""), may_pass=True)
    tally.take("\x1b c", Attempt(0, ""))
    assert _row(tally) == ["archives", "3", "1", "1", "1", "1"]
    assert capsys.readouterr().out == "  archives: \\x1b c: was accepted\n"


@pytest.mark.parametrize("seconds", ["NaN", "-1", '"1"', "null"])
def test_a_time_that_is_none_may_not_be_believed(seconds: str) -> None:
    tally = Tally("journals")
    records._judge(tally, "x", Attempt(0, f'note\n[{{"tasks": [{{"seconds": {seconds}}}]}}]\n'))
    records._judge(tally, "x", Attempt(0, '[{"tasks": [{"seconds": 0.5}]}]'))
    assert (tally.wrongly, len(tally.faults)) == (1, 1)


def test_variations_are_made_from_anything() -> None:
    random, valid = Random(1), {"a": [1, {"b": "c"}], "d": None}
    made = {json_of(random, valid) for _ in range(300)}
    assert len(made) > 100
    assert valid == {"a": [1, {"b": "c"}], "d": None}
    assert {bytes_of(random, b"abc") for _ in range(50)} > {b"ab"}
    bytes_of(random, b"")


def test_the_table_stands_between_its_markers() -> None:
    text = _render([Tally("TOML", tried=1200, refused=1200)], 0, 12.4)
    page = insert(f"before\n\n{MARKERS[0]}\nfigures of yesterday\n{MARKERS[1]}\n\nbehind\n", text, MARKERS)
    assert "| TOML | 1,200 | 1,200 | 0 | 0 | 0 |" in page
    assert page.startswith("before\n")
    assert page.endswith("\nbehind\n")
    assert "yesterday" not in page
    security = (Path(__file__).parents[2] / "docs/security.md").read_text()
    assert all(security.count(marker) == 1 for marker in MARKERS)


@pytest.mark.subprocess
def test_an_attempt_has_limits_and_an_end(tmp_path: Path) -> None:
    done = command(["targets", "--json"], tmp_path)
    assert (done.code, done.fault()) == (0, "")
    listed = next(line for line in done.said.splitlines() if line.startswith("["))
    assert json.loads(listed)[0]["name"]
    done = program(["sh", "-c", "sleep 600 & sleep 600"], tmp_path, seconds=0.5)
    assert done.fault() == "did not end in time"
