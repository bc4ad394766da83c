"""The register-tiled schedule of convolutions and matrix products (see ``tiled_compute``).

A tile of accumulators stays in registers over the whole reduction; the fused epilogue is applied to it before it is
stored. Around the tiles, rows are cut into chunks: either a block of weights stays in cache while all chunks pass, or
a chunk of inputs stays while all blocks of weights pass, whichever moves fewer lines.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.register_tile import core_of
from tvmbuild.target import Target

#: Multiply-accumulates below which starting other cores costs more than it saves.
_PARALLEL_MACS = 100_000

#: Share of a cache that may be counted on.
_CACHE_SHARE = 0.7


@dataclass(frozen=True)
class Loops:
    """Extents around the tiles of a kernel.

    Attributes:
        rows: tiles (flat) or rows of tiles, that chunks are made of.
        strips: tiles in a row (1 when flat).
        blocks: blocks of channels.
        weight_bytes: weights of one block.
        row_bytes: inputs that a row brings with it.
        tile_bytes: inputs that one tile reads.
    """

    rows: int
    strips: int
    blocks: int
    weight_bytes: int
    row_bytes: int
    tile_bytes: int


def loops_of(main: Stage) -> Loops:
    """Return the extents around the tiles of a tiled stage."""
    columns, channels = main.note("tile")
    *leading, width, blocks, _ = main.spatial
    reduced = math.prod(main.reduction)
    depth = main.reduction[-1]
    taps = main.reduction[-2] if len(main.reduction) > 1 else 1
    tile_bytes = int(columns) * reduced * 4
    if main.note("flat"):
        rows = math.prod(leading) * width // int(columns)
        return Loops(rows, 1, blocks, reduced * int(channels) * 4, tile_bytes, tile_bytes)
    rows = int(leading[-1]) if leading else 1
    strips = width // int(columns)
    row_bytes = width * depth * 4
    return Loops(rows, strips, blocks, reduced * int(channels) * 4, row_bytes, tile_bytes // max(1, taps // 2))


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers: rows of a chunk, and which of weights and inputs stays in cache.

    ``rows`` is the length of a chunk in rows; ``weights_stay`` is 1 when blocks of weights are the outer loop.
    """
    assert kernel.main is not None
    around = loops_of(kernel.main)
    candidates = tuple(size for size in range(1, around.rows + 1) if around.rows % size == 0)
    priced = [(_lines(around, rows, stay, target), -rows, stay) for rows in candidates for stay in (1, 0)]
    _, negative_rows, stay = min(priced)
    return (Knob("rows", -negative_rows, candidates), Knob("weights_stay", stay, (0, 1)))


def _lines(around: Loops, rows: int, weights_stay: int, target: Target) -> float:
    """Return the bytes that come into the first level cache, by a simple model of what stays there."""
    cache = target.l1d_kib * 1024 * _CACHE_SHARE
    chunks = around.rows // rows
    chunk_bytes = rows * around.row_bytes
    strip_bytes = around.tile_bytes * 1.0
    tiles = around.rows * around.strips
    weights_fit = around.weight_bytes + strip_bytes <= cache
    inputs_fit = chunk_bytes + around.weight_bytes <= cache
    inputs = around.rows * around.row_bytes * 1.0
    weights = around.weight_bytes * around.blocks * 1.0
    if weights_stay:
        return weights * (1 if weights_fit else tiles) + inputs * around.blocks
    moved_inputs = inputs * (1 if inputs_fit else around.blocks)
    return moved_inputs + weights * (chunks if weights_fit else tiles)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Schedule a kernel whose main stage is a tiled one."""
    main = kernel.main
    assert main is not None
    core = core_of(target)
    block = sch.get_sblock(main.name)
    _inline(sch, kernel)
    _producers(sch, kernel, core.lanes)
    tile_loop, reduction, inner = _tile(sch, block, main, core.lanes, choice, parallel=kernel.macs >= _PARALLEL_MACS)
    last = sch.get_sblock(kernel.last.name)
    sch.reverse_compute_at(last, tile_loop)
    if core.by_lane and main.note("lane_step") == 4:
        load_by_vector(sch, block, reduction[-1])
    for loop in inner:
        sch.unroll(loop)
    start_tile(sch, block, reduction[0])
    _vectorize_epilogue(sch, last, core.lanes)


def _inline(sch: Any, kernel: Kernel) -> None:
    """Merge the epilogue into its last stage."""
    for stage in kernel.epilogue[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))


def _producers(sch: Any, kernel: Kernel, lanes: int) -> None:
    """Schedule padding and packing: whole rows, in vectors where the channels allow."""
    for stage in kernel.producers:
        *outer, channel = sch.get_loops(sch.get_sblock(stage.name))
        if stage.iterations >= _PARALLEL_MACS:
            sch.parallel(sch.fuse(*outer[: max(1, len(outer) - 1)]))
        if stage.spatial[-1] % lanes == 0:
            sch.vectorize(sch.split(channel, [None, lanes])[1])


def _tile(
    sch: Any, block: Any, main: Stage, lanes: int, choice: Choice, parallel: bool
) -> tuple[Any, list[Any], list[Any]]:
    """Cut and order the loops of the tiled stage.

    Returns:
        The loop around one tile, the reduction loops outside the unrolled ones, and the loops to unroll.
    """
    count = len(main.spatial)
    loops = sch.get_loops(block)
    *leading, column, channel_block, channel = loops[:count]
    *taps, depth = loops[count:]
    columns = int(main.note("tile")[0])
    rows = choice["rows"]
    if main.note("flat"):
        position = sch.fuse(*leading, column) if leading else column
        row, in_tile = sch.split(position, [None, columns])
        outermost: list[Any] = []
        strip: list[Any] = []
    else:
        *outermost, row = leading or [sch.add_unit_loop(column)]
        strip_loop, in_tile = sch.split(column, [None, columns])
        strip = [strip_loop]
    chunk, in_chunk = sch.split(row, [None, rows])
    depth_outer, step = sch.split(depth, [None, int(main.note("lane_step"))])
    vectors, lane = sch.split(channel, [None, lanes])
    around = [channel_block, chunk] if choice["weights_stay"] else [chunk, channel_block]
    sch.reorder(*outermost, *around, *strip, in_chunk, *taps, depth_outer, step, in_tile, vectors, lane)
    sch.vectorize(lane)
    if parallel:
        sch.parallel(sch.fuse(*outermost, *around))
    return in_chunk, [*taps, depth_outer], [step, in_tile, vectors]


def load_by_vector(sch: Any, block: Any, loop: Any) -> None:
    """Load each column's next inputs as one vector, from which multiply-adds take lanes."""
    loaded = sch.cache_read(block, 0, "global")
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


def _vectorize_epilogue(sch: Any, last: Any, lanes: int) -> None:
    """Vectorize the stores of a tile."""
    *_, column, channel = sch.get_loops(last)
    sch.unroll(column)
    vectors, lane = sch.split(channel, [None, lanes])
    sch.unroll(vectors)
    sch.vectorize(lane)
