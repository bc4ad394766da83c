"""What the commands print: one JSON object on stdout with --json, everything else for people."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmbuild.support import progress
from tvmbuild.support.escape import json_text, one_line, printable

if TYPE_CHECKING:
    from rich.console import Console as RichConsole
    from rich.console import RenderableType
    from rich.progress import Progress

#: Options that every command takes.
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout, all else on stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Say more: options, notes, every kernel.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print errors only.")]

#: Options of commands that may run on a board behind a tracker (also TVMBUILD_TRACKER and TVMBUILD_KEY).
Tracker = Annotated[str | None, typer.Option("--tracker", help="HOST:PORT of the tracker, for rpc.")]
Key = Annotated[str | None, typer.Option("--key", help="What the boards registered as. [the target's name]")]
Board = Annotated[str, typer.Option("-t", "--target", help="Which library of a bundle for several boards.")]

#: Option of commands that read a model.
Limit = Annotated[
    list[str] | None,
    typer.Option("--limit", help="Raise a limit of reading a model: nodes=, bytes=, memory=, seconds=NUMBER[K|M|G]."),
]

#: A step longer than this gets a bar on a terminal.
BAR_AFTER_SECONDS = 2.0


def emit(text: str, *, error: bool = False, style: str = "") -> None:
    """Print text on stdout or stderr; nothing else of tvmbuild prints, so that no text reaches a terminal as it came.

    Args:
        text: lines, whatever they hold; control characters are shown as ``\\x1b``.
        error: print on stderr.
        style: "red" for red, where stderr is a terminal that wants colour.
    """
    stream = sys.stderr if error else sys.stdout
    clean = printable(text)
    colour = style == "red" and stream.isatty() and "NO_COLOR" not in os.environ
    print(f"\033[31m{clean}\033[0m" if colour else clean, file=stream, flush=error)


@dataclasses.dataclass
class _Stdout:
    """Whether the one JSON object of the running command is on stdout already."""

    has_object: bool = False


_stdout = _Stdout()


def begin() -> None:
    """Start another command: it may print one JSON object."""
    _stdout.has_object = False


def emit_json(value: Any) -> None:
    """Print one JSON object on stdout, in one line without control characters."""
    _stdout.has_object = True
    print(json_text(json.dumps(value, default=plain, ensure_ascii=False)))


def emit_error(kind: str, message: str, hint: str, code: int, details: Mapping[str, Any] | None = None) -> None:
    """Print an error as the one JSON object of its command, unless that is printed already.

    A server says what it listens on when it starts; being told to stop later is no second answer.

    Args:
        kind: the error's class.
        message: what failed and why.
        hint: what to do next.
        code: exit code.
        details: more fields.
    """
    if _stdout.has_object:
        return
    described = {"class": kind, "message": message, "hint": hint, "exit_code": code}
    emit_json({"error": {**described, **(details or {})}})


@dataclasses.dataclass(frozen=True)
class Console:
    """Printer of one command.

    Attributes:
        as_json: results go to stdout as one JSON object; text for people goes to stderr.
        verbose: say more.
        quiet: print errors only.
    """

    as_json: bool = False
    verbose: bool = False
    quiet: bool = False

    @staticmethod
    def say(text: str, style: str = "") -> None:
        """Print lines on stderr, in colour on a terminal."""
        emit(text, error=True, style=style)

    def text(self, line: str = "") -> None:
        """Print a line of the result for people."""
        if not self.quiet:
            emit(one_line(line), error=self.as_json)

    def detail(self, line: str) -> None:
        """Print a line only with -v."""
        if self.verbose:
            self.text(line)

    def table(self, header: Sequence[str], rows: Iterable[Sequence[str]], indent: str = "") -> None:
        """Print columns, numbers to the right."""
        for line in table_lines(header, rows):
            self.text(indent + line)

    def result(self, value: Any) -> None:
        """Print the JSON object."""
        if self.as_json:
            emit_json(value)

    @property
    def live(self) -> bool:
        """Whether to draw bars and tables that change."""
        return not self.quiet and sys.stderr.isatty() and os.environ.get("TERM") != "dumb" and "CI" not in os.environ

    @contextmanager
    def stages(self) -> Iterator[None]:
        """Show the stages that run inside the block."""
        if self.quiet:
            yield
        elif self.live:
            with _bars():
                yield
        else:
            with progress.listening(_print_finished):
                yield


def table_lines(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lay out columns: text to the left, numbers to the right, a rule under the header."""
    body = [tuple(map(one_line, row)) for row in rows]
    header = tuple(map(one_line, header))
    columns = list(zip(header, *body, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    numeric = [bool(body) and all(cell[:1].isdigit() or cell[:1] in "-<" for cell in column[1:]) for column in columns]

    def line(cells: Sequence[str]) -> str:
        parts = (c.rjust(w) if n else c.ljust(w) for c, w, n in zip(cells, widths, numeric, strict=True))
        return "  ".join(parts).rstrip()

    return [line(header), "  ".join("-" * width for width in widths), *(line(row) for row in body)]


def size_text(count: float) -> str:
    """Return a size in bytes for people ("4.2 MB"), in powers of ten."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def stage_line(stage: progress.Stage) -> str:
    """Return the line that a finished stage leaves behind."""
    mark = "x" if stage.failed else "*"
    detail = f": {stage.detail}" if stage.detail else ""
    return one_line(f"  {mark} {stage.name}{detail}  {stage.seconds or 0.0:.1f} s")


def _print_finished(stage: progress.Stage) -> None:
    if stage.seconds is not None:
        emit(stage_line(stage), error=True)


@contextmanager
def _bars() -> Iterator[None]:
    from rich.console import Console as RichConsole

    bars, show = stage_bars(RichConsole(stderr=True))
    with bars, progress.listening(show):
        yield


def stage_bars(terminal: RichConsole) -> tuple[Progress, progress.Listener]:
    """Return bars of the stages that run, and the listener that moves them and prints a line for each that ended."""
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    class SlowOnly(Progress):
        """Shows a task only once it has run for a while: quick steps would flicker."""

        def get_renderables(self) -> Iterable[RenderableType]:
            slow = [task for task in self.tasks if (task.elapsed or 0.0) > BAR_AFTER_SECONDS]
            yield self.make_tasks_table(slow)

    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    bars = SlowOnly(*columns, console=terminal, transient=True)
    tasks: dict[int, Any] = {}

    def show(stage: progress.Stage) -> None:
        if id(stage) not in tasks:
            tasks[id(stage)] = bars.add_task(one_line(stage.name), total=stage.total)
        task = tasks[id(stage)]
        if stage.seconds is None:
            bars.update(task, completed=stage.done, total=stage.total)
        else:
            bars.remove_task(task)
            del tasks[id(stage)]
            terminal.print(stage_line(stage), markup=False, highlight=False)

    return bars, show


def plain(value: Any) -> Any:
    """Turn dataclasses, paths and arrays into what JSON has."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    with contextlib.suppress(AttributeError):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} is not JSON")
