"""How a tuning run looks: one live table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tvmbuild.commands.console import Console, emit
from tvmbuild.support.escape import one_line

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType

    from tvmbuild.target.target import Target
    from tvmbuild.tuning.session import TuningSession
    from tvmbuild.tuning.summary import Row, Summary
    from tvmbuild.tuning.tune import TuneResult

#: Seconds between two drawings of the table, and between two plain lines.
_DRAW_SECONDS = 0.5
_LINE_SECONDS = 15.0
#: Tasks that the table lists; the others are added up.
_LISTED = 20
#: Columns of a terminal that shows the names too, and of one that shows the default's times.
_WIDE, _MIDDLE = 120, 100
#: Lines of a terminal that the table leaves to what stands above and below it.
_OTHER_LINES = 8
#: Width of a column that is not cut, where the numbers in it may be wide.
_LEAST = {"share": 6, "default us": 10, "best us": 8, "gain": 6, "of limit": 8, "trials": 7, "errors": 6}
#: Width of a column with names.
_NAME = 34
COLUMNS = ("task", "shape", "share", "default us", "best us", "gain", "of limit", "trials", "errors")


@contextmanager
def watching(console: Console, target: Target) -> Iterator[Callable[[TuningSession], None]]:
    """Give the listener that shows a run; the stages that run inside the block are shown too."""
    if console.quiet:
        yield lambda session: None
    elif console.live:
        with _live(target) as listener:
            yield listener
    else:
        with console.stages():
            yield _lines(target)


def _lines(target: Target) -> Callable[[TuningSession], None]:
    from tvmbuild.tuning.summary import summarize

    last = 0.0

    def show(session: TuningSession) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            emit("  " + "; ".join(headlines(summarize(session, target))), error=True)

    return show


@contextmanager
def _live(target: Target) -> Iterator[Callable[[TuningSession], None]]:
    from rich.console import Console as RichConsole
    from rich.live import Live

    from tvmbuild.commands.console import stage_bars
    from tvmbuild.support import progress
    from tvmbuild.tuning.summary import summarize

    terminal = RichConsole(stderr=True)
    # Two live displays would overwrite each other: the bars of the stages are part of this one.
    bars, show_stage = stage_bars(terminal)
    drawn: list[tuple[float, Summary]] = []

    def draw() -> RenderableType:
        if not drawn:
            return bars
        when, summary = drawn[0]
        return _table(summary.after(time.monotonic() - when), terminal)

    def show(session: TuningSession) -> None:
        if not drawn or time.monotonic() - drawn[0][0] >= _DRAW_SECONDS:
            drawn[:] = [(time.monotonic(), summarize(session, target))]

    live = Live(console=terminal, get_renderable=draw, refresh_per_second=1 / _DRAW_SECONDS, transient=True)
    with live, progress.listening(show_stage):
        yield show


def _table(summary: Summary, terminal: RichConsole) -> RenderableType:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    columns = columns_of(terminal.width)
    table = Table(box=None, padding=(0, 1, 0, 0))
    for column in columns:
        text = column in ("task", "shape", "errors")
        table.add_column(column, justify="left" if text else "right", no_wrap=True, min_width=_LEAST.get(column, 4))
    listed = max(3, min(_LISTED, terminal.height - _OTHER_LINES))
    # Each column ends with a blank, the last one too.
    for texts in cut_rows(summary.rows[:listed], columns, terminal.width - 1, 1):
        # As text: what looks like rich's markup in a name is none.
        table.add_row(*(Text(one_line(text)) for text in texts))
    rest = summary.rows[listed:]
    if rest:
        words = f"{len(rest)} others"
        table.add_row(*([words] if "task" not in columns else [words, ""]), f"{sum(row.share for row in rest):.1%}")
    return Group(table, *(Text(one_line(line)) for line in headlines(summary)))


def columns_of(width: int) -> list[str]:
    """Return the columns that a terminal has room for; 0 for any width.

    Names go first where there is little room, then the default's times, then the ends of the shapes; never a number.
    """
    hidden = set()
    if 0 < width < _WIDE:
        hidden.add("task")
    if 0 < width < _MIDDLE:
        hidden.add("default us")
    return [column for column in COLUMNS if column not in hidden]


def cut_rows(rows: Sequence[Row], columns: Sequence[str], width: int, gap: int) -> list[list[str]]:
    """Return the rows of the table, names and shapes cut to what a terminal has room for.

    Args:
        rows: tasks.
        columns: of ``columns_of``.
        width: of the terminal; 0 for any.
        gap: blanks between two columns.
    """
    texts = [dict(zip(COLUMNS, cells(row), strict=True)) for row in rows]
    numbers = sum(
        max(len(column), _LEAST[column], *(len(text[column]) for text in texts)) + gap
        for column in columns
        if column in _LEAST
    )
    names = _NAME + gap if "task" in columns else 0
    room = {"task": _NAME, "shape": max(10, width - numbers - names)}
    return [
        [_cut(text[column], room[column]) if width and column in room else text[column] for column in columns]
        for text in texts
    ]


def headlines(summary: Summary) -> list[str]:
    """Return a run in a few lines."""
    word = "predicted " if summary.predicted else ""
    rate = 60 * summary.trials / summary.elapsed if summary.elapsed else 0.0
    eta = "" if summary.eta is None else f", at most {clock_text(summary.eta)} to go"
    lines = [f"{summary.trials} trials in {clock_text(summary.elapsed)} ({rate:.0f} a minute{eta})"]
    if summary.defaults < len(summary.rows):
        lines.append(f"the default schedules come first: {summary.defaults} of {len(summary.rows)} kernels")
    else:
        gain = 1 - summary.best / summary.default if summary.default else 0.0
        lines.append(
            f"model {word}{summary.best * 1e3:.3f} ms, default {summary.default * 1e3:.3f} ms: {gain:.1%} less"
        )
        if summary.next_hour is not None:
            lines.append(f"the next hour is expected to buy {summary.next_hour * 1e3:.3f} ms")
    return [*lines, *filter(None, [summary.limit_text])]


def cells(row: Row) -> tuple[str, ...]:
    """Return a task's row of the table."""
    gain = f"{1 - row.best / row.default:.1%}" if row.best and row.default else ""
    limit = f"{row.limit / row.best:.0%}" if row.limit and row.best else ""
    errors = ", ".join(f"{count} {cause}" for cause, count in sorted(row.errors.items()))
    return (
        row.name,
        row.shape,
        f"{row.share:.1%}" if row.best else "",
        _microseconds(row.default),
        _microseconds(row.best),
        gain,
        limit,
        f"{row.trials}/{row.size}",
        errors,
    )


def show_result(console: Console, result: TuneResult, target: Target, model: Path) -> None:
    """Print what a run found."""
    from tvmbuild.tuning.summary import summarize

    summary = summarize(result.session, target)
    console.result({**summary.to_json(), "stopped": result.reason, "records": result.folder})
    rows = summary.rows if console.verbose else summary.rows[:_LISTED]
    output = sys.stderr if console.as_json else sys.stdout
    # What goes into a file or to another program is not cut.
    width = shutil.get_terminal_size().columns if output.isatty() else 0
    columns = columns_of(width)
    console.table(columns, [tuple(cell or "-" for cell in row) for row in cut_rows(rows, columns, width, 2)])
    for line in headlines(replace(summary, eta=None)):
        console.text(line)
    console.text(f"stopped: {result.reason}")
    console.text(f"records in {result.folder}")
    console.text(f"next: tvmbuild build {model} -t {target.name} --records {result.folder.parent.parent}")


def clock_text(seconds: float) -> str:
    """Return a duration for people ("42 s", "12 min", "1.5 h")."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _microseconds(seconds: float | None) -> str:
    return "" if seconds is None else f"{seconds * 1e6:.1f}"
