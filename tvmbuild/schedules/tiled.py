"""The register-tiled schedule of convolutions and matrix products (see ``tiled_compute``).

A tile of accumulators stays in registers over the whole reduction (or a part of it). Around the tiles, rows are cut
into chunks: either a block of weights stays in cache while all chunks pass, or a chunk of inputs stays while all
blocks of weights pass, whichever moves fewer lines. An undivided reduction has the fused epilogue applied to the tile
before it is stored; parts of a reduction are added up, and the epilogue applied, chunk by chunk.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.register_tile import LANE_STEP, core_of
from tvmbuild.target import Target

#: Multiply-accumulates below which starting other cores costs more than it saves.
_PARALLEL_MACS = 100_000

#: Share of a cache that may be counted on.
_CACHE_SHARE = 0.7


@dataclass(frozen=True)
class Traffic:
    """What the loops around the tiles read.

    Attributes:
        rows: rows of tiles, that chunks are made of.
        strips: tiles in a row.
        blocks: blocks of channels.
        parts: parts of the reduction.
        weight_bytes: weights of one block and part.
        row_bytes: inputs that a row brings with it, in one part.
        tile_bytes: inputs that one tile reads, in one part.
    """

    rows: int
    strips: int
    blocks: int
    parts: int
    weight_bytes: int
    row_bytes: int
    tile_bytes: int


def traffic_of(main: Stage) -> Traffic:
    """Return what the loops around the tiles of a tiled stage read."""
    columns, channels = (int(extent) for extent in main.note("tile"))
    *leading, width, blocks, parts, _ = main.spatial
    reduced = math.prod(main.reduction)
    depth = main.reduction[-1]
    taps = main.reduction[-2] if len(main.reduction) > 1 else 1
    return Traffic(
        rows=leading[-1] if len(leading) > 1 else 1,
        strips=width // columns,
        blocks=blocks,
        parts=parts,
        weight_bytes=reduced * channels * 4,
        row_bytes=width * depth * 4,
        tile_bytes=columns * reduced * 4 // max(1, taps // 2),
    )


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers: rows of a chunk, and which of weights and inputs stays in cache.

    ``rows`` is the length of a chunk in rows; ``weights_stay`` is 1 when blocks of weights are the outer loop.
    """
    assert kernel.main is not None
    traffic = traffic_of(kernel.main)
    candidates = tuple(size for size in range(1, traffic.rows + 1) if traffic.rows % size == 0)
    orders = (0,) if traffic.parts > 1 else (0, 1)
    priced = [(_moved(traffic, rows, stay, target), rows, stay) for rows in candidates for stay in orders]
    _, rows, stay = min(priced)
    return (Knob("rows", rows, candidates), Knob("weights_stay", stay, orders))


def _moved(traffic: Traffic, rows: int, weights_stay: int, target: Target) -> float:
    """Return the bytes that come into the first level cache, by a simple model of what stays there."""
    cache = target.l1d_kib * 1024 * _CACHE_SHARE
    chunks = traffic.rows // rows
    tiles = traffic.rows * traffic.strips
    weights_fit = traffic.weight_bytes + traffic.tile_bytes <= cache
    inputs_fit = rows * traffic.row_bytes + traffic.weight_bytes <= cache
    inputs = float(traffic.rows * traffic.row_bytes)
    weights = float(traffic.weight_bytes * traffic.blocks)
    if weights_stay:
        return weights * (1 if weights_fit else tiles) + inputs * traffic.blocks
    moved_inputs = inputs * (1 if inputs_fit else traffic.blocks)
    return moved_inputs + weights * (chunks if weights_fit else tiles)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Schedule a kernel whose main stage is a tiled one."""
    main = kernel.main
    assert main is not None
    core = core_of(target)
    block = sch.get_sblock(main.name)
    parallel = kernel.macs >= _PARALLEL_MACS
    for stage in kernel.epilogue[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    last = sch.get_sblock(kernel.last.name)
    _producers(sch, kernel, core.lanes)
    by_vector = core.by_lane and main.note("lane_step") == LANE_STEP
    loaded = sch.reindex(block, ("read", 0)) if by_vector else None
    in_parts = main.spatial[-2] > 1
    if in_parts:
        _chunk(sch, block, last, choice["rows"], core.lanes, parallel)
    loops = _tile(sch, block, main, core.lanes, choice, parallel)
    if not in_parts:
        sch.reverse_compute_at(last, loops.tile)
    if by_vector:
        load_by_vector(sch, loaded, loops.reduction[-1])
    for loop in loops.unrolled:
        sch.unroll(loop)
    if in_parts:
        store_tile(sch, block, loops.tile, core.lanes)
    else:
        _vectorize_tile(sch, last, core.lanes)
    start_tile(sch, block, loops.reduction[0])


def _producers(sch: Any, kernel: Kernel, lanes: int) -> None:
    """Schedule padding and packing: whole rows, in vectors where the channels allow."""
    for stage in kernel.producers:
        *outer, channel = sch.get_loops(sch.get_sblock(stage.name))
        if stage.iterations >= _PARALLEL_MACS:
            sch.parallel(sch.fuse(*outer[: max(1, len(outer) - 1)]))
        if stage.spatial[-1] % lanes == 0:
            sch.vectorize(sch.split(channel, [None, lanes])[1])


@dataclass(frozen=True)
class _Loops:
    """Loops of the tiled stage: around a tile, of the reduction, and to unroll."""

    tile: Any
    reduction: list[Any]
    unrolled: list[Any]


def _chunk(sch: Any, block: Any, last: Any, rows: int, lanes: int, parallel: bool) -> None:
    """Cut the epilogue into chunks of rows, and compute the parts of a chunk before it."""
    *outermost, row, column, channel = sch.get_loops(last)
    chunk, in_chunk = sch.split(row, [None, rows])
    around = sch.fuse(*outermost, chunk)
    vectors, lane = sch.split(channel, [None, lanes])
    sch.vectorize(lane)
    if parallel:
        sch.parallel(around)
    sch.compute_at(block, around, preserve_unit_loops=True)


def _tile(sch: Any, block: Any, main: Stage, lanes: int, choice: Choice, parallel: bool) -> _Loops:
    """Cut and order the loops of the tiled stage."""
    count = len(main.spatial)
    in_parts = main.spatial[-2] > 1
    loops = sch.get_loops(block)[1 if in_parts else 0 :]
    *leading, column, channel_block, part, channel = loops[:count]
    *taps, depth = loops[count:]
    if len(leading) < 2:
        leading = [*leading, sch.add_unit_loop(column)]
    *outermost, row = leading
    strip, in_tile = sch.split(column, [None, int(main.note("tile")[0])])
    depth_outer, step = sch.split(depth, [None, int(main.note("lane_step"))])
    vectors, lane = sch.split(channel, [None, lanes])
    inner = [*taps, depth_outer, step, in_tile, vectors, lane]
    if in_parts:
        around_tile = row
        sch.reorder(*outermost, part, channel_block, strip, row, *inner)
    else:
        chunk, around_tile = sch.split(row, [None, choice["rows"]])
        around = [channel_block, chunk] if choice["weights_stay"] else [chunk, channel_block]
        sch.reorder(*outermost, *around, part, strip, around_tile, *inner)
        shared = sch.fuse(*outermost, *around)
        if parallel:
            sch.parallel(shared)
    sch.vectorize(lane)
    return _Loops(around_tile, [*taps, depth_outer], [step, in_tile, vectors])


def load_by_vector(sch: Any, loaded: Any, loop: Any) -> None:
    """Load each column's next inputs as one vector, from which multiply-adds take lanes.

    Args:
        sch: the schedule.
        loaded: a copy of the inputs that the tiled stage reads.
        loop: the reduction loop around the unrolled steps.
    """
    sch.compute_at(loaded, loop)
    *_, column, lane = sch.get_loops(loaded)
    sch.unroll(column)
    sch.vectorize(lane)


def start_tile(sch: Any, block: Any, loop: Any) -> None:
    """Clear the accumulators before a reduction loop."""
    start = sch.decompose_reduction(block, loop)
    *_, unrolled, vector = sch.get_loops(start)
    sch.unroll(unrolled)
    sch.vectorize(vector)


def store_tile(sch: Any, block: Any, loop: Any, lanes: int) -> None:
    """Keep the tile of a loop in registers and store it when it is complete."""
    stored = sch.cache_write(block, 0, "global")
    sch.reverse_compute_at(stored, loop)
    _vectorize_tile(sch, stored, lanes)


def _vectorize_tile(sch: Any, block: Any, lanes: int) -> None:
    """Vectorize the stores of a tile."""
    *_, column, channel = sch.get_loops(block)
    vectors, lane = sch.split(channel, [None, lanes])
    sch.unroll(column)
    sch.unroll(vectors)
    sch.vectorize(lane)
