"""Cuts marked loops into vectors, after the schedule.

``Schedule.split`` by a factor that does not divide the extent leaves a predicate in the vector loop, which makes it
scalar, and a concatenation in the vectorised axis leaves a condition there. A schedule therefore only marks the loop
here. The loop is then cut at the given borders into sections, each section into as many whole vectors as fit, and the
rest into vectors of half, a quarter, ... of the lanes, so that no element is computed twice (the output may lie
over an input) and no lane is masked.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from tvmbuild.schedules.contracts import VectorMark
from tvmbuild.schedules.tir.rewrite import in_sequence, substitute, vector_loop


def mark(sch: Any, loop: Any, lanes: int, borders: Sequence[int] = ()) -> None:
    """Mark a loop of constant extent to be vectorised by ``cut_vectors``.

    Args:
        sch: the ``tvm.s_tir.Schedule``.
        loop: the loop; its body must be vectorisable, innermost.
        lanes: elements of a vector, a power of two.
        borders: iterations at which no vector may cross, e.g. where a concatenation changes its source.
    """
    VectorMark(lanes, tuple(borders)).put(sch, loop)


def pieces(extent: int, lanes: int, borders: Sequence[int] = ()) -> Iterator[tuple[int, int, int]]:
    """Yield (start, vectors, lanes) that cover ``range(extent)`` in order, none crossing a border."""
    edges = [0, *sorted({border for border in borders if 0 < border < extent}), extent]
    for start, end in itertools.pairwise(edges):
        position, width = start, lanes
        while position < end:
            count = (end - position) // width
            if count:
                yield position, count, width
                position += count * width
            width //= 2


def cut_vectors(func: Any) -> Any:
    """Cut the loops marked by ``mark`` in a scheduled PrimFunc (imports tvm)."""
    import tvm_ffi
    from tvm import s_tir, tirx

    changed = False

    def cut(loop: Any, mutator: Any) -> Any:
        nonlocal changed
        loop = mutator.default_mutate(loop)
        mark = VectorMark.find(loop)
        if mark is None:
            return loop
        changed = True
        parts = [_piece(loop, *piece) for piece in pieces(int(loop.extent.value), mark.lanes, mark.borders)]
        return in_sequence(parts)

    body = tvm_ffi.structural_mutate(func.body, (tirx.For, cut))
    return s_tir.renew_defs(func.with_body(body)) if changed else func


def _piece(loop: Any, start: int, count: int, lanes: int) -> Any:
    from tvm import tirx

    dtype = loop.loop_var.ty.dtype

    def constant(value: int) -> Any:
        return tirx.const(value, dtype)

    index = loop.min + constant(start)
    vector, lane = tirx.Var("vector", dtype), tirx.Var("lane", dtype)
    if count > 1:
        index = index + vector * constant(lanes)
    if lanes > 1:
        index = index + lane
    body = substitute(loop.body, loop.loop_var, index)
    if lanes > 1:
        body = vector_loop(lane, lanes, body)
    if count > 1:
        body = tirx.For(vector, constant(0), constant(count), tirx.ForKind.SERIAL, body)
    return body
