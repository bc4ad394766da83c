"""Which rows of which tensor a chain of stages computes, reads and keeps, strip by strip. Numbers only; no TVM.

Stage i is asked for rows [a, b) of its output and for that reads rows [a s - p, (b - 1) s - p + d (k - 1) + 1) of an
input that it reads through a window of k rows. What of these lies outside the input is padding. Going backwards from
the chain's output, each strip asks for the rows of every tensor before it that its readers read. With *rolling* buffers
a tensor's rows that the previous strip of the same core has made are kept and only those below are computed; with
*recomputing* each strip makes all that it reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise

#: Rows [first, second) of a tensor.
Range = tuple[int, int]

EMPTY: Range = (0, 0)


class Policy(Enum):
    """What becomes of rows that two strips of a core read."""

    ROLLING = "rolling"
    RECOMPUTE = "recompute"


@dataclass(frozen=True)
class Window:
    """The rows of an input that a row of the output is made of.

    Attributes:
        kernel: rows of the window.
        stride: rows from one window to the next.
        dilation: rows from one tap to the next.
        top: rows of padding above the input.
        repeat: rows of the output that are made of one window: 2 where each row is doubled.
        whole: whether all rows are read for any row of the output, as those of a vector over channels are.
    """

    kernel: int = 1
    stride: int = 1
    dilation: int = 1
    top: int = 0
    repeat: int = 1
    whole: bool = False

    def reads(self, rows: Range, height: int) -> tuple[Range, int, int]:
        """Return which rows of an input of a height are read for some of the output, and the padding above and below.

        Args:
            rows: of the output; not empty.
            height: rows of the input.
        """
        if self.whole:
            return (0, height), 0, 0
        first, last = rows[0] // self.repeat, (rows[1] - 1) // self.repeat
        low = first * self.stride - self.top
        high = last * self.stride - self.top + self.dilation * (self.kernel - 1) + 1
        inside = (min(max(low, 0), height), max(min(high, height), 0))
        return inside, max(0, -low), max(0, high - height)


#: Row by row.
ALIGNED = Window()
#: All rows, whatever is computed.
WHOLE = Window(whole=True)


@dataclass(frozen=True)
class Read:
    """A tensor that a stage reads, by its number in the chain, and through which window."""

    tensor: int
    window: Window = ALIGNED


@dataclass(frozen=True)
class Node:
    """A stage as far as rows go.

    Attributes:
        reads: what it reads.
        granule: its kernels start and end at multiples of this (or at the end of the tensor).
    """

    reads: tuple[Read, ...]
    granule: int = 1


@dataclass(frozen=True)
class Rows:
    """The chain as far as rows go.

    Attributes:
        heights: rows of each tensor: first those that lie in memory, then what each stage makes, in order.
        nodes: the stages, in an order in which they can run; the last one makes the chain's output.
    """

    heights: tuple[int, ...]
    nodes: tuple[Node, ...]

    @property
    def inputs(self) -> int:
        """How many tensors lie in memory."""
        return len(self.heights) - len(self.nodes)

    @property
    def output(self) -> int:
        """The number of the chain's output."""
        return len(self.heights) - 1


@dataclass(frozen=True)
class Part:
    """Rows of a tensor that a piece reads, and how much padding is above and below them."""

    rows: Range
    top: int = 0
    bottom: int = 0


@dataclass(frozen=True)
class Piece:
    """What a stage does in one strip.

    Attributes:
        node: the stage's number.
        rows: of its output that it makes.
        reads: of each of its reads, in order.
    """

    node: int
    rows: Range
    reads: tuple[Part, ...]


@dataclass(frozen=True)
class Kept:
    """Rows of a scratch that move to its start: ``rows`` of them from ``row`` on."""

    tensor: int
    row: int
    rows: int


@dataclass(frozen=True)
class StripRows:
    """One strip.

    Attributes:
        kept: moves before it.
        pieces: in order.
        bases: by tensor, the row of the whole tensor that its scratch's row 0 is; 0 for those in memory.
    """

    kept: tuple[Kept, ...]
    pieces: tuple[Piece, ...]
    bases: tuple[int, ...]


@dataclass(frozen=True)
class Plan:
    """The strips of a chain.

    Attributes:
        cores: by core, its strips in order.
        scratch: by tensor, the rows that its scratch needs; 0 for those in memory.
    """

    cores: tuple[tuple[StripRows, ...], ...]
    scratch: tuple[int, ...]


def plan_rows(rows: Rows, cores: int, height: int, policy: Policy, only: int | None = None) -> Plan:
    """Cut a chain into strips.

    Args:
        rows: the chain.
        cores: how many work on it; each gets neighbouring rows of the output, as equal as can be.
        height: rows of the output in a strip, at most; a multiple of the last stage's granule.
        policy: what becomes of rows that two strips of a core read.
        only: the one core to plan for, where the others do not matter.
    """
    shares = split(rows.heights[-1], cores, rows.nodes[-1].granule)
    chosen = shares if only is None else [shares[only]]
    planned = [_plan_core(rows, cut(share, height), policy) for share in chosen]
    scratch = [0] * len(rows.heights)
    for _, needed in planned:
        scratch = [max(pair) for pair in zip(scratch, needed, strict=True)]
    return Plan(tuple(strips for strips, _ in planned), tuple(scratch))


def split(height: int, cores: int, granule: int = 1) -> list[Range]:
    """Return each core's rows: neighbouring, as equal as can be, of whole granules but for the last."""
    count = -(-height // granule)
    ends = [min(height, granule * (count * core // cores)) for core in range(cores + 1)]
    return list(pairwise(ends))


def cut(share: Range, height: int) -> list[Range]:
    """Return a core's strips: of ``height`` rows, the last of what is left."""
    return [(low, min(low + height, share[1])) for low in range(share[0], share[1], height)]


def _plan_core(rows: Rows, strips: Sequence[Range], policy: Policy) -> tuple[tuple[StripRows, ...], list[int]]:
    pieces = []
    done = [0] * len(rows.heights)  # Up to which row each tensor is made.
    for index, strip in enumerate(strips):
        fresh = index == 0 or policy is Policy.RECOMPUTE
        pieces.append(_pieces(rows, strip, None if fresh else done))
        for piece in pieces[-1]:
            done[rows.inputs + piece.node] = piece.rows[1]
    return _place(rows, pieces)


def _pieces(rows: Rows, strip: Range, done: Sequence[int] | None) -> tuple[Piece, ...]:
    """Return what each stage does for a strip of the output, given what is made already."""
    wanted: list[Range] = [EMPTY] * len(rows.heights)
    wanted[-1] = strip
    found = []
    for number in reversed(range(len(rows.nodes))):
        node, tensor = rows.nodes[number], rows.inputs + number
        low, high = wanted[tensor]
        low = max(low, done[tensor]) if done is not None else low
        if low >= high:
            continue
        low -= low % node.granule
        high = min(-(-high // node.granule) * node.granule, rows.heights[tensor])
        parts = []
        for read in node.reads:
            inside, top, bottom = read.window.reads((low, high), rows.heights[read.tensor])
            parts.append(Part(inside, top, bottom))
            wanted[read.tensor] = _hull(wanted[read.tensor], inside)
        found.append(Piece(number, (low, high), tuple(parts)))
    return tuple(reversed(found))


def _hull(one: Range, other: Range) -> Range:
    if one[0] >= one[1]:
        return other
    return one if other[0] >= other[1] else (min(one[0], other[0]), max(one[1], other[1]))


def _place(rows: Rows, strips: Sequence[tuple[Piece, ...]]) -> tuple[tuple[StripRows, ...], list[int]]:
    """Say where in its scratch each row lies, what is kept from strip to strip, and how large each scratch is."""
    count = len(rows.heights)
    scratch, bases, ends = [0] * count, [0] * count, [0] * count
    placed = []
    first = _first_reads(rows, strips)
    for pieces, needed in zip(strips, first, strict=True):
        made = {rows.inputs + piece.node: piece.rows for piece in pieces}
        kept = []
        for tensor in range(rows.inputs, count - 1):
            start = made.get(tensor, (ends[tensor], ends[tensor]))[0]
            base = min(start, needed[tensor])
            moved = min(ends[tensor], start) - base
            # What is made anew is not kept.
            if moved > 0 and base > bases[tensor]:
                kept.append(Kept(tensor, base - bases[tensor], moved))
            bases[tensor] = base
            ends[tensor] = made.get(tensor, (0, ends[tensor]))[1]
            scratch[tensor] = max(scratch[tensor], ends[tensor] - base)
        placed.append(StripRows(tuple(kept), pieces, tuple(bases)))
    return tuple(placed), scratch


def _first_reads(rows: Rows, strips: Sequence[tuple[Piece, ...]]) -> list[list[int]]:
    """Return by strip and tensor the first row that is read of it, in that strip or a later one."""
    count = len(rows.heights)
    first = [max(rows.heights)] * count
    found = []
    for pieces in reversed(strips):
        for piece in pieces:
            for read, part in zip(rows.nodes[piece.node].reads, piece.reads, strict=True):
                if part.rows[0] < part.rows[1]:
                    first[read.tensor] = min(first[read.tensor], part.rows[0])
        found.append(list(first))
    return found[::-1]
