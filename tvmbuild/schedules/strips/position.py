"""What depends on a strip's position, as expressions: whether it is one of some, and the rows that it works on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any


def condition(position: Any, members: Iterable[int]) -> Any:
    """Return the condition that a position is among some, by runs of neighbours (imports tvm)."""
    from tvm import tirx

    conditions = [
        position == first if first == last else tirx.all(position >= first, position <= last)
        for first, last in runs(members)
    ]
    return tirx.any(*conditions) if len(conditions) > 1 else conditions[0]


def row_at(position: Any, rows: Mapping[int, int]) -> Any:
    """Return the row of a position: a straight line for as many positions as lie on one, and so on (imports tvm)."""
    from tvm import tirx

    base, slope = line_of_most(rows)
    rest = {at: row for at, row in rows.items() if row != base + slope * at}
    value = position * slope + base if slope else tirx.const(base, "int32")
    return tirx.Select(condition(position, rest), row_at(position, rest), value) if rest else value


def runs(members: Iterable[int]) -> list[tuple[int, int]]:
    """Return the runs of neighbours among some numbers, by their ends."""
    found: list[tuple[int, int]] = []
    for at in sorted(members):
        if found and found[-1][1] == at - 1:
            found[-1] = (found[-1][0], at)
        else:
            found.append((at, at))
    return found


def line_of_most(points: Mapping[int, int]) -> tuple[int, int]:
    """Return base and slope of the line of whole numbers that most points lie on, of those through two neighbours."""
    inside = sorted(points.items())
    lines = {(row, 0) for _, row in inside}
    for (at, row), (next_at, next_row) in pairwise(inside):
        slope, remainder = divmod(next_row - row, next_at - at)
        if not remainder:
            lines.add((row - slope * at, slope))
    return max(sorted(lines), key=lambda line: sum(row == line[0] + line[1] * at for at, row in inside))
