"""The register-tiled schedule of integer convolutions and matrix products (see ``int8_compute``).

A tile of int32 sums stays in registers over the whole reduction, and the epilogue requantizes it before it is stored.
Around the tiles, positions are cut into chunks: either a block of weights stays in cache while all chunks pass, or a
chunk of inputs stays while all blocks pass.
"""

from __future__ import annotations

import math
from typing import Any

from tvmbuild.schedules import int8_compute, int8_multiply
from tvmbuild.schedules.access import FLAT
from tvmbuild.schedules.injective import schedule_block
from tvmbuild.schedules.int8_compute import LANE_SUMS, WINDOWS
from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.threads import thread_count
from tvmbuild.target import Target
from tvmbuild.schedules.vector_loops import mark
from tvmbuild.schedules.int8_form import int8_form

KIND = "int8"

#: Share of a cache that may be counted on.
_CACHE_SHARE = 0.7


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether the kernel is an integer product legalized by ours."""
    return kernel.kind in (int8_compute.CONV2D, int8_compute.MATMUL)


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers: tiles of a chunk, and whether the weights of a block stay while chunks pass."""
    assert kernel.main is not None
    main = kernel.main
    tiles = main.spatial[0] // int(main.note("tile")[0])
    candidates = tuple(size for size in range(1, tiles + 1) if tiles % size == 0)
    return (Knob("tiles", tiles, candidates), Knob("weights_stay", 1, (0, 1)))


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Schedule a kernel whose main stage is a tiled integer product."""
    main = kernel.main
    assert main is not None
    block = sch.get_sblock(main.name)
    sums = [stage for stage in kernel.epilogue if stage.name == LANE_SUMS]
    others = kernel.epilogue[len(sums) :]
    for stage in others[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    last = sch.get_sblock(kernel.last.name)
    for stage in kernel.producers:
        _schedule_producer(sch, stage, main, target)
    around, reduction, step = _tile(sch, block, main, target, choice)
    joins = _epilogue_joins(main)
    if joins:
        _flatten_positions(sch, last, main)
    for stage in sums:
        sch.reverse_compute_at(sch.get_sblock(stage.name), around, preserve_unit_loops=True)
    if joins:
        sch.reverse_compute_at(last, around, preserve_unit_loops=True)
        _vectorize(sch, last)
    else:
        _epilogue_apart(sch, block if not sums else None, around, kernel, target)
    int8_multiply.mark(sch, step, str(main.note("form")))
    _start(sch, block, reduction)
    for stage in sums:
        *_, in_tile, _, _, _ = sch.get_loops(sch.get_sblock(stage.name))
        int8_multiply.mark_lane_sums(sch, in_tile)


def _epilogue_joins(main: Stage) -> bool:
    """Whether the epilogue can run tile by tile: unless a group's last block of channels is only partly used."""
    _, group_out = (int(number) for number in main.note("groups", (1, 0)))
    return bool(group_out % int(main.note("tile")[1]) == 0)


def _epilogue_apart(sch: Any, stored: Any, tile: Any, kernel: Kernel, target: Target) -> None:
    """Run the epilogue after all tiles, whose sums are stored."""
    if stored is not None:
        copy = sch.cache_write(stored, 0, "global")
        sch.reverse_compute_at(copy, tile, preserve_unit_loops=True)
        _vectorize(sch, copy)
    schedule_block(sch, kernel.last.name, target, 1)


def _tile(sch: Any, block: Any, main: Stage, target: Target, choice: Choice) -> tuple[Any, Any, Any]:
    """Cut and order the loops: return those around a tile, around its reduction, and around one step of it."""
    count = len(main.spatial)
    loops = sch.get_loops(block)
    position, channel_block, channel, *parts = loops[:count]
    *taps, run, product = loops[count:]
    tile, in_tile = sch.split(position, [None, int(main.note("tile")[0])])
    outer, step = sch.split(run, [None, int(main.note("vectors"))])
    if parts:
        vectors, lane = channel, parts[0]
    else:
        vectors, lane = sch.split(channel, [None, int8_form(target).lanes])
    chunk, within = sch.split(tile, [None, choice["tiles"]])
    order = [channel_block, chunk] if choice["weights_stay"] else [chunk, channel_block]
    sch.reorder(*order, within, *taps, outer, step, in_tile, vectors, lane, product)
    shared = sch.fuse(*order)
    if thread_count(math.prod(main.spatial) * math.prod(main.reduction) / 8, target) > 1:
        sch.parallel(shared)
    return within, (taps[0] if taps else outer), step


def _start(sch: Any, block: Any, loop: Any) -> None:
    """Clear the sums before the reduction."""
    start = sch.decompose_reduction(block, loop)
    *_, position, vectors, lane = sch.get_loops(start)
    sch.unroll(position)
    sch.unroll(vectors)
    sch.vectorize(lane)


def _flatten_positions(sch: Any, last: Any, main: Stage) -> None:
    """Make the positions of the last stage one axis, as those of the tiles are."""
    from tvm.tirx import IndexMap

    extents = [int(axis.dom.extent.value) for axis in sch.get(last).iter_vars]

    def flat(*axes: Any) -> list[Any]:
        position = axes[0]
        for axis, extent in zip(axes[1:-1], extents[1:-1], strict=True):
            position = position * extent + axis
        return [position, axes[-1]]

    dtype = str(sch.get(last).iter_vars[0].var.ty.dtype)
    sch.transform_block_layout(last, IndexMap.from_func(flat, ndim=len(extents), index_dtype=dtype))


def _vectorize(sch: Any, block: Any) -> None:
    """Vectorize the epilogue of a tile."""
    *_, position, channel = sch.get_loops(block)
    sch.unroll(position)
    extent = int(sch.get(channel).extent.value)
    vectors, lane = sch.split(channel, [None, math.gcd(extent, 16)])
    sch.unroll(vectors)
    sch.vectorize(lane)


def _schedule_producer(sch: Any, stage: Stage, main: Stage, target: Target) -> None:
    """Copy inputs in the longest vectors that lie in a row, whole windows or the whole padded image."""
    if stage.name != WINDOWS:
        schedule_block(sch, stage.name, target, 1)
        return
    block = sch.get_sblock(stage.name)
    sch.annotate(block, FLAT, 1)
    rows, row = (int(number) for number in main.note("window"))
    (index,) = sch.get_loops(block)
    position, kernel_row, column = sch.split(index, [None, rows, row])
    sch.unroll(kernel_row)
    if thread_count(stage.iterations / 4, target) > 1:
        sch.parallel(position)
    mark(sch, column, 16)
