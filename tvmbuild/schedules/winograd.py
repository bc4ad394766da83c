"""Schedule of Winograd convolutions (see ``winograd_compute``)."""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.partial_sums import mark_parts, part_count
from tvmbuild.schedules.register_tile import core_of
from tvmbuild.schedules.tile_plan import lane_step
from tvmbuild.schedules.tiled import is_half, load_by_vector, repeat_knob, schedule_producers, start_tile, store_tile
from tvmbuild.schedules.winograd_compute import KINDS
from tvmbuild.target import Target

KIND = "conv2d.winograd"

#: Stages of the input transform.
_TRANSFORMS = ("input_columns", "inputs")


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether the kernel is a Winograd convolution legalized by ours."""
    return kernel.kind in KINDS.values()


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers.

    ``chunk`` is how many rows of tiles pass all stages together; ``repeat`` as in ``tiled.knobs``.
    """
    main = _main(kernel)
    repeat = repeat_knob(
        main, lane_step(main.reduction[-1], target, main.writes[0].dtype), core_of(target).by_lane, target
    )
    chosen = int(main.note("chunk"))
    height = int(main.note("geometry")[1])
    rows = -(-(height + sum(int(v) for v in main.note("geometry")[11:14:2]) - 2) // int(main.note("m")))
    if chosen == rows:
        return (Knob("chunk", chosen, (chosen,)), repeat)
    wide = main.spatial[1] // rows
    columns = int(main.note("tile")[0])
    fitting = (size for size in range(1, rows + 1) if rows % size == 0 and size * wide % columns == 0)
    return (Knob("chunk", chosen, tuple(fitting)), repeat)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Schedule a Winograd convolution."""
    main = _main(kernel)
    lanes = core_of(target, main.writes[0].dtype).lanes
    chunk_loop, whole, split_parallel = _outputs(sch, kernel, main, target, choice["chunk"])
    products = sch.get_sblock(main.name)
    inputs = sch.get_sblock("inputs")
    if not whole:
        sch.compute_at(products, chunk_loop, preserve_unit_loops=True)
        sch.compute_at(inputs, chunk_loop, preserve_unit_loops=True)
    _products(sch, products, main, target, choice["repeat"], split_parallel)
    _inputs(sch, inputs, main, lanes, split_parallel)
    schedule_producers(sch, [stage for stage in kernel.producers if stage.name not in _TRANSFORMS], lanes)


def _main(kernel: Kernel) -> Stage:
    assert kernel.main is not None
    return kernel.main


def _outputs(sch: Any, kernel: Kernel, main: Stage, target: Target, chunk: int) -> tuple[Any, bool, bool]:
    """Schedule the output transform with the epilogue in it.

    Returns:
        The loop over chunks, whether there is just one chunk, and whether each stage is to be parallel by itself
        (there are too few chunks to occupy the cores).
    """
    m = int(main.note("m"))
    first, *rest = (stage for stage in kernel.epilogue)
    for stage in rest[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    last = sch.get_sblock(rest[-1].name)
    batch, height, width, channel = sch.get_loops(last)
    chunk_loop, in_chunk, row = sch.split(height, [None, chunk, m])
    across, column = sch.split(width, [None, m])
    width_vector = _vector(rest[-1].spatial[-1], core_of(target, main.writes[0].dtype).lanes)
    vectors, lane = sch.split(channel, [None, width_vector])
    sch.reorder(batch, chunk_loop, in_chunk, across, vectors, row, column, lane)
    chunks = int(sch.get(chunk_loop).extent)
    whole = chunks == 1
    split_parallel = chunks < 2 * target.cores
    if split_parallel:
        tiles = sch.fuse(in_chunk, across)
        sch.parallel(tiles)
    else:
        chunk_loop = sch.fuse(batch, chunk_loop)
        sch.parallel(chunk_loop)
    rows = sch.get_sblock(first.name)
    sch.compute_at(rows, vectors)
    _unroll_transform(sch, rows)
    sch.unroll(row)
    sch.unroll(column)
    sch.vectorize(lane)
    return chunk_loop, whole, split_parallel


def _products(sch: Any, block: Any, main: Stage, target: Target, repeat_count: int, parallel: bool) -> None:
    """Schedule the products: one position after the other, so that its inputs and a block of weights stay in cache."""
    core = core_of(target, main.writes[0].dtype)
    *_, tile, channel_block, position, channel, depth = sch.get_loops(block)
    tile_outer, in_tile = sch.split(tile, [None, int(main.note("tile")[0])])
    step_count = lane_step(main.reduction[-1], target, main.writes[0].dtype)
    parts = part_count(main.reduction[-1], repeat_count * step_count) if is_half(main) else 1
    part, depth_outer, repeat, step = sch.split(depth, [parts, None, repeat_count, step_count])
    vectors, lane = sch.split(channel, [None, core.lanes])
    sch.reorder(position, channel_block, tile_outer, part, depth_outer, repeat, step, in_tile, vectors, lane)
    if parallel:
        sch.parallel(sch.fuse(position, channel_block))
    sch.vectorize(lane)
    if core.by_lane:
        load_by_vector(sch, sch.cache_read(block, 0, "global"), repeat)
    for loop in (repeat, step, in_tile, vectors):
        sch.unroll(loop)
    store_tile(sch, block, tile_outer, core.lanes)
    if is_half(main):
        mark_parts(sch, [part], main.reduction[-1])
    start_tile(sch, block, part)


def _inputs(sch: Any, block: Any, main: Stage, lanes: int, parallel: bool) -> None:
    """Schedule the input transform: both passes for one tile and one vector of channels at a time."""
    *_, tile, row, column, channel = sch.get_loops(block)
    vectors, lane = sch.split(channel, [None, _vector(main.reduction[-1], lanes)])
    sch.reorder(tile, vectors, row, column, lane)
    if parallel:
        sch.parallel(tile)
    sch.unroll(row)
    sch.unroll(column)
    sch.vectorize(lane)
    half = sch.get_sblock("input_columns")
    sch.compute_at(half, vectors)
    _unroll_transform(sch, half)


def _unroll_transform(sch: Any, block: Any) -> None:
    *_, row, column, lane = sch.get_loops(block)
    sch.unroll(row)
    sch.unroll(column)
    sch.vectorize(lane)


def _vector(extent: int, lanes: int) -> int:
    """Return the widest vector, of at most ``lanes``, that divides an extent."""
    while extent % lanes:
        lanes //= 2
    return lanes
