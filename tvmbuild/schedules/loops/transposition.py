"""Loops of blocks that do not read along the axis that they write along: transposes and gathers.

    for other axes, tile of the axis that the inputs lie along:                      # parallel
        for element of the tile:                          # at most TILE, so that lines of input stay in cache
            for vector of the axis that the outputs lie along:
                y[element, vector] = x[vector, element]

Up to four outputs in a row are written out instead, and inputs that lie along no axis are gathered one by one.
"""

from __future__ import annotations

import math
from typing import Any

from tvmbuild.schedules.threads import thread_count
from tvmbuild.schedules.tir.access import Access
from tvmbuild.schedules.tir.vector_loops import mark
from tvmbuild.target.target import Target

#: Elements of a tile along the axis that the input is contiguous in: one cache line of 64 bytes of float32.
TILE = 16
#: Interleaved stores (st2, st3, st4) exist up to this many channels; LLVM makes them of an unrolled loop.
INTERLEAVED = 4


def tile_block(sch: Any, block: Any, access: Access, target: Target) -> None:
    """Tile so that every line of input that is loaded is used whole while it is in the first level cache."""
    loops = list(sch.get_loops(block))
    last = len(loops) - 1
    threads = thread_count(2 * math.prod(access.extents), target)
    across = _contiguous_axis(access)
    if access.extents[last] <= INTERLEAVED and last > 0:
        sch.unroll(loops[last])
        _parallel(sch, loops[:-2], access.extents[:-2], threads)
        return
    if across is None:
        _parallel(sch, loops[:-1], access.extents[:-1], threads)
        return
    divisor = max(d for d in range(1, TILE + 1) if access.extents[across] % d == 0)
    tile_outer, tile_inner = sch.split(loops[across], [None, divisor])
    others = [loop for axis, loop in enumerate(loops) if axis not in (across, last)]
    sch.reorder(*others, tile_outer, tile_inner, loops[last])
    outer = [*others, tile_outer]
    extents = [e for axis, e in enumerate(access.extents) if axis not in (across, last)]
    _parallel(sch, outer, (*extents, access.extents[across] // divisor), threads)
    mark(sch, loops[last], max(1, target.vector_bits // access.bits), access.borders)


def _contiguous_axis(access: Access) -> int | None:
    """Return the axis along which some load is contiguous, the last not counted."""
    for walk in access.walks:
        if walk.store or walk.steps[-1] in (0, 1):
            continue
        for axis in range(len(access.extents) - 2, -1, -1):
            if walk.steps[axis] == 1 and access.extents[axis] > 1:
                return axis
    return None


def _parallel(sch: Any, loops: list[Any], extents: tuple[int, ...], threads: int) -> None:
    if threads > 1 and loops and math.prod(extents) > 1:
        sch.parallel(sch.fuse(*loops))
