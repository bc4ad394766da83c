"""What was published: published.toml, checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from tvmbuild.support.border import Border, Line, Positive, Word
from tvmbuild.support.errors import TargetError

PATH = Path(__file__).with_name("published.toml")
#: Milliseconds: least, most and average.
Times = Annotated[tuple[float, ...], Meta(min_length=3, max_length=3)]
_BORDER = Border("The published times", TargetError, "See benchmarks/truth/published.toml for the form.")


@dataclass(frozen=True)
class Published:
    """A board's published times.

    Attributes:
        title: of the board, for people.
        target: name of its target.
        mhz: clock that the times were taken at.
        counts: board whose counts they are compared with.
        wheel: version of ncnn that was counted.
        source: address of the figures.
        date: of the figures.
        command: that was timed; THREADS stands for the number of threads.
        remark: what makes the comparison weaker.
        times: milliseconds (least, most, average) by threads and net.
    """

    title: Line
    target: Word
    mhz: Positive
    counts: Word
    wheel: Word
    source: Line
    date: Line
    command: Line
    remark: Line
    times: dict[str, dict[str, Times]]

    def milliseconds(self, threads: int) -> dict[str, float]:
        """Return the least time of each net: what is predicted knows of no disturbance."""
        return {net: times[0] for net, times in self.times[str(threads)].items()}


@dataclass(frozen=True)
class Table:
    """A table that is not compared, milliseconds by board and net."""

    source: Line
    date: Line
    command: Line
    remark: Line
    times: dict[str, dict[str, float]]


@dataclass(frozen=True)
class _File:
    boards: dict[str, Published]
    xnnpack: Table


def load_published(path: Path = PATH) -> dict[str, Published]:
    """Return what was published, by board.

    Raises:
        TargetError: the file does not have the form.
    """
    return _BORDER.checked(_BORDER.toml(path), _File, path).boards
