"""What a tuning run shows, from made-up runs."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console as RichConsole

from tvmbuild.commands import tune_view
from tvmbuild.commands.console import plain, table_lines
from tvmbuild.tuning.summary import Row, Summary
from tvmbuild.tuning.waits import Waits, limit_text

WAITS = Waits(60.0, 4, 2, 0.5, 0.43, 0.9, 0.0)


def row(name: str = "fused_conv2d_relu", share: float = 0.1) -> Row:
    shape = "conv2d 1x14x14x1024 to 256, 1x1 stride 1"
    return Row(name, shape, "conv2d.direct", 5, share, 8.7e-3, 8.1e-3, 8e-3, 99, 264, {"time-out": 2}, {"rows": 1})


def summary(rows: int = 2, *, next_hour: float | None = 1e-3, defaults: int | None = None) -> Summary:
    return Summary(
        predicted=True,
        trials=100,
        elapsed=60.0,
        eta=120.0,
        default=0.2,
        best=0.15,
        next_hour=next_hour,
        defaults=rows if defaults is None else defaults,
        rows=tuple(row(f"kernel{number}") for number in range(rows)),
        waits=WAITS,
        limit="builder",
        limit_text=limit_text(WAITS, "builder"),
    )


def drawn(shown: Summary, width: int, height: int) -> list[str]:
    output = io.StringIO()
    terminal = RichConsole(file=output, width=width, height=height, force_terminal=True, color_system=None)
    terminal.print(tune_view._table(shown, terminal))
    return output.getvalue().splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (100, 30), (140, 50)])
def test_the_table_fits_the_terminal_and_cuts_no_number(width: int, height: int) -> None:
    lines = drawn(summary(rows=34), width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    first = lines[1]
    for number in ("10.0%", "8100.0", "6.9%", "99%", "99/264", "2 time-out"):
        assert number in first
    assert ("8700.0" in first) == (width >= 100)
    assert ("kernel0" in first) == (width >= 120)
    assert any("others" in line for line in lines)
    assert any("boards waited for the builder 43% of the time" in line for line in lines)


def test_the_headline_says_only_what_is_known() -> None:
    assert any("the next hour is expected to buy 1.000 ms" in line for line in tune_view.headlines(summary()))
    assert not any("next hour" in line for line in tune_view.headlines(summary(next_hour=None)))
    early = tune_view.headlines(summary(rows=34, defaults=6))
    assert "the default schedules come first: 6 of 34 kernels" in early
    assert not any("model" in line for line in early)


def test_time_goes_on_between_two_trials() -> None:
    later = summary().after(30.0)
    assert "100 trials in 90 s (67 a minute, at most 90 s to go)" in tune_view.headlines(later)


def test_json_names_the_limit() -> None:
    told = json.loads(json.dumps(summary().to_json(), default=plain))
    assert told["limit"] == "builder"
    assert told["waits"]["boards_waited"] == 0.43
    assert told["limit_text"].startswith("boards waited for the builder 43% of the time")


@pytest.mark.parametrize("width", [70, 90, 130])
def test_the_last_table_fits_too_and_is_whole_in_a_file(width: int) -> None:
    columns = tune_view.columns_of(width)
    lines = table_lines(columns, tune_view.cut_rows([row()], columns, width, 2))
    assert max(map(len, lines)) <= width
    assert "99/264" in lines[2]
    assert tune_view.cut_rows([row()], tune_view.columns_of(0), 0, 2) == [list(tune_view.cells(row()))]
