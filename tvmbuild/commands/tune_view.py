"""How a tuning run looks: one live table on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tvmbuild.commands.console import Console

if TYPE_CHECKING:
    from tvmbuild.target import Target
    from tvmbuild.tuning.session import Session
    from tvmbuild.tuning.summary import Row, Summary
    from tvmbuild.tuning.tune import TuneResult

#: Seconds between two drawings of the table, and between two plain lines.
_DRAW_SECONDS = 0.5
_LINE_SECONDS = 15.0
#: Tasks that the live table lists; the others are added up.
_LISTED = 20
#: Columns of a terminal that shows the names too.
_WIDE = 120
#: Width of a column that is not cut, where the numbers in it may be wide.
_LEAST = {"share": 6, "default us": 10, "best us": 8, "gain": 5, "of limit": 8, "trials": 7}
#: Width of all columns with numbers and errors, and of the one with names, gaps included.
_NUMBERS, _NAME = 62, 34
COLUMNS = ("task", "shape", "share", "default us", "best us", "gain", "of limit", "trials", "errors")


@contextmanager
def watching(console: Console, target: Target) -> Iterator[Callable[[Session], None]]:
    """Give the listener that shows a run."""
    if console.quiet:
        yield lambda session: None
    elif sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "CI" not in os.environ:
        with _live(target) as listener:
            yield listener
    else:
        yield _lines(target)


def _lines(target: Target) -> Callable[[Session], None]:
    from tvmbuild.tuning.summary import summarize

    last = 0.0

    def show(session: Session) -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS:
            last = time.monotonic()
            print("  " + headline(summarize(session, target)), file=sys.stderr, flush=True)

    return show


@contextmanager
def _live(target: Target) -> Iterator[Callable[[Session], None]]:
    from rich.console import Console as RichConsole
    from rich.console import Group
    from rich.live import Live
    from rich.table import Table
    from rich.text import Text

    from tvmbuild.tuning.summary import summarize

    terminal = RichConsole(stderr=True)

    def draw(summary: Summary) -> Any:
        # The names go first where there is little room, then the ends of the shapes; never a number.
        left = 0 if terminal.width >= _WIDE else 1
        table = Table(box=None, padding=(0, 1, 0, 0))
        for column in COLUMNS[left:]:
            text = column in ("task", "shape", "errors")
            table.add_column(column, justify="left" if text else "right", no_wrap=True, min_width=_LEAST.get(column, 4))
        room = max(10, terminal.width - _NUMBERS - (0 if left else _NAME))
        for row in summary.rows[:_LISTED]:
            name, shape, *numbers = cells(row)
            table.add_row(*(_cut(name, _NAME - 1), _cut(shape, room), *numbers)[left:])
        rest = summary.rows[_LISTED:]
        if rest:
            table.add_row(*(f"{len(rest)} others", "", f"{sum(row.share for row in rest):.1%}")[left:])
        return Group(table, Text(headline(summary)))

    last = 0.0
    with Live(console=terminal, auto_refresh=False, transient=True) as live:

        def show(session: Session) -> None:
            nonlocal last
            if time.monotonic() - last >= _DRAW_SECONDS:
                last = time.monotonic()
                live.update(draw(summarize(session, target)), refresh=True)

        yield show


def headline(summary: Summary) -> str:
    """Return a run in one line."""
    word = "predicted " if summary.predicted else ""
    rate = 60 * summary.trials / summary.elapsed if summary.elapsed else 0.0
    eta = "" if summary.eta is None else f", at most {clock_text(summary.eta)} to go"
    return (
        f"{summary.trials} trials in {clock_text(summary.elapsed)} ({rate:.0f} a minute{eta}); model {word}"
        f"{summary.best * 1e3:.3f} ms, default {summary.default * 1e3:.3f} ms; "
        f"the next hour is expected to buy {summary.next_hour * 1e3:.3f} ms"
    )


def cells(row: Row) -> tuple[str, ...]:
    """Return a task's row of the table."""
    gain = f"{1 - row.best / row.default:.1%}" if row.best and row.default else ""
    limit = f"{row.limit / row.best:.0%}" if row.limit and row.best else ""
    errors = ", ".join(f"{count} {cause}" for cause, count in sorted(row.errors.items()))
    return (
        row.name,
        row.shape,
        f"{row.share:.1%}",
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
    console.table(COLUMNS, [tuple(cell or "-" for cell in cells(row)) for row in rows])
    console.text(headline(summary))
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
