"""The register-tiled schedule of convolutions and matrix products (see ``gemm.compute``).

    for image, block of channels, chunk of rows:          # parallel; chunks outside blocks where inputs are stationary
        for tile of columns, row of the chunk:
            sums[column, channel] = 0                     # in registers
            for kernel row, kernel column, depth by UNROLL * lane_step:
                for UNROLL steps:                         # written out, like all below
                    x[column, lane_step] = inputs         # a vector a column, where multiply-adds take lanes
                    for k in lane_step: sums += x[:, k] * weights[k, :]
            outputs = epilogue(sums)                      # or apart, after all, where groups end within a block

A tile of accumulators stays in registers over the whole reduction, and the fused epilogue is applied to it before it
is stored. Around the tiles, rows are cut into chunks: either a block of weights stays in cache while all chunks pass,
or a chunk of inputs stays while all blocks of weights pass, whichever is predicted to wait less for memory.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.contracts import GemmContract
from tvmbuild.schedules.gemm.partial_sums import mark_parts, part_count
from tvmbuild.schedules.gemm.register_tile import RegisterTile, vector_unit
from tvmbuild.schedules.gemm.traffic import cheapest_order, chunk_sizes, traffic_of
from tvmbuild.schedules.gemm.widening import (
    AHEAD,
    PARTS,
    Tiles,
    is_widened,
    order_of_halves,
    plan_widening,
    widen_ahead,
    widen_in_registers,
    widening_knobs,
    without_widening,
)
from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import UNROLL, WEIGHT_STATIONARY, Choice, Knob
from tvmbuild.schedules.tir import vector_loops
from tvmbuild.target.target import Target

#: Multiply-accumulates below which starting other cores costs more than it saves.
PARALLEL_MACS = 100_000

#: Producers of our own computes.
_OWN_PRODUCERS = ("padded", "pack")

#: Reduction indices in one trip of the innermost loop, at most: more would leave the instruction cache.
_MOST_STEPS = 16

#: Steps of a reduction from which it pays to take several in one trip; of a shorter one LLVM unrolls what trips remain,
#: and spills accumulators.
_DEEP_STEPS = 16


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers: rows of a chunk, which of weights and inputs stays in cache, and unrolling.

    ``rows`` is the length of a chunk in rows; ``WEIGHT_STATIONARY`` is 1 when blocks of weights are the outer loop;
    ``UNROLL`` is how many steps of the reduction one trip of the innermost loop takes. More hide what remains of the
    loads' latency at the loop's end on cores of two multiply-adds a cycle. Of float16 weights also how they are widened
    (``widening``).
    """
    assert kernel.main is not None
    main = kernel.main
    contract = main.contract(GemmContract)
    tile = RegisterTile(*contract.tile)
    traffic = traffic_of(main.spatial, main.reduction, tile, main.writes[0].dtype)
    order = cheapest_order(traffic, target)
    is_deep = math.prod(main.reduction) // contract.lane_step >= _DEEP_STEPS
    unroll = unroll_knob(main, contract.lane_step, contract.by_vector and is_deep, target)
    held = Knob(WEIGHT_STATIONARY, order.weight_stationary, (0, 1))
    if not is_widened(kernel):
        return (Knob("rows", order.rows, chunk_sizes(traffic)), held, unroll)
    tiles = Tiles.of(main.spatial, main.reduction, tile, target)
    widening = plan_widening(tiles, target, kernel.macs >= PARALLEL_MACS)
    held = Knob(WEIGHT_STATIONARY, order_of_halves(traffic, target).weight_stationary, (0, 1))
    rows = Knob("rows", widening.rows, chunk_sizes(traffic))
    return (rows, held, unroll, *widening_knobs(widening, tiles))


def unroll_knob(main: Stage, lane_step: int, by_vector: bool, target: Target) -> Knob:
    """Return the knob ``UNROLL``: steps of the innermost reduction axis that one trip of its loop takes."""
    steps = main.reduction[-1] // lane_step
    counts = tuple(count for count in (1, 2, 4) if steps % count == 0 and count * lane_step <= _MOST_STEPS)
    worth = by_vector and target.core.fma_per_cycle > 1
    # Of a reduction of a single trip LLVM hoists the weights out of the loop over tiles, and spills them.
    trips = math.prod(main.reduction[:-1]) * steps
    looping = [count for count in counts if trips // count > 1]
    return Knob(UNROLL, max(looping, default=1) if worth else 1, counts)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Schedule a kernel whose main stage is a tiled one."""
    main = kernel.main
    assert main is not None
    contract = main.contract(GemmContract)
    unit = vector_unit(target, main.writes[0].dtype)
    block = sch.get_sblock(main.name)
    parallel = kernel.macs >= PARALLEL_MACS
    for stage in kernel.epilogue[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    last = sch.get_sblock(kernel.last.name)
    schedule_producers(sch, kernel.producers, unit.lanes)
    ahead = bool(choice.get(AHEAD))
    if is_widened(kernel) and not ahead:
        widen_in_registers(sch)
    loaded = sch.reindex(block, ("read", 0)) if contract.by_vector else None
    loops = _tile(sch, block, main, unit.lanes, choice, parallel)
    if ahead:
        widen_ahead(sch, loops.around, unit.lanes)
    is_fused = _epilogue_is_fused(contract)
    if is_fused:
        sch.reverse_compute_at(last, loops.tile, preserve_unit_loops=True)
    if loaded is not None:
        load_by_vector(sch, loaded, loops.unrolled[0])
    for loop in loops.unrolled:
        sch.unroll(loop)
    if not is_fused:
        store_tile(sch, block, loops.tile, unit.lanes)
        _epilogue_apart(sch, last, contract, unit.lanes, parallel)
    start_tile(sch, block, loops.reduction)
    if is_fused:
        _vectorize_tile(sch, last, unit.lanes)


def _epilogue_is_fused(contract: GemmContract) -> bool:
    """Whether the epilogue can run tile by tile: unless a group's last block of channels is only partly used."""
    geometry = contract.geometry
    return geometry is None or geometry.groups == 1 or geometry.group_out % contract.tile[1] == 0


def _epilogue_apart(sch: Any, last: Any, contract: GemmContract, lanes: int, parallel: bool) -> None:
    """Run the epilogue after all tiles, group by group, in vectors that stay within a block of channels."""
    geometry, block = contract.geometry, contract.tile[1]
    assert geometry is not None
    *outer, channel = sch.get_loops(last)
    _, within = sch.split(channel, [geometry.groups, geometry.group_out])
    vector_loops.mark(sch, within, lanes, range(block, geometry.group_out, block))
    if parallel:
        sch.parallel(sch.fuse(*outer[:2]))


def schedule_producers(sch: Any, stages: Sequence[Stage], lanes: int) -> None:
    """Schedule padding, packing and operators fused before: whole rows, in vectors where the channels allow.

    An element-wise operator right before another producer is merged into it. Weights are not widened here.
    """
    stages = without_widening(stages)
    for position, stage in enumerate(stages):
        block = sch.get_sblock(stage.name)
        if position + 1 < len(stages) and stage.elementwise and stage.name not in _OWN_PRODUCERS:
            sch.compute_inline(block)
            continue
        *outer, channel = sch.get_loops(block)
        if stage.iterations >= PARALLEL_MACS:
            sch.parallel(sch.fuse(*outer[: max(1, len(outer) - 1)]))
        if stage.spatial[-1] % lanes == 0:
            sch.vectorize(sch.split(channel, [None, lanes])[1])


@dataclass(frozen=True)
class _Loops:
    """Loops of the tiled stage.

    Attributes:
        around: the loop around all tiles of a chunk and a block of weights.
        tile: around a tile.
        reduction: the outermost of the reduction.
        unrolled: those to unroll, outermost first.
    """

    around: Any
    tile: Any
    reduction: Any
    unrolled: list[Any]


def _tile(sch: Any, block: Any, main: Stage, lanes: int, choice: Choice, parallel: bool) -> _Loops:
    """Cut and order the loops of the tiled stage."""
    count = len(main.spatial)
    loops = sch.get_loops(block)
    *leading, column, channel_block, channel = loops[:count]
    *taps, depth = loops[count:]
    if len(leading) < 2:
        leading = [*leading, sch.add_unit_loop(column)]
    *outermost, row = leading
    contract = main.contract(GemmContract)
    strip, in_tile = sch.split(column, [None, contract.tile[0]])
    step_count = contract.lane_step
    parts = part_count(main.reduction[-1], choice[UNROLL] * step_count) if is_half(main) else 1
    part, depth_outer, unrolled, step = sch.split(depth, [parts, None, choice[UNROLL], step_count])
    vectors, lane = sch.split(channel, [None, lanes])
    inner = [*taps, part, depth_outer, unrolled, step, in_tile, vectors, lane]
    chunk, around_tile = sch.split(row, [None, choice["rows"]])
    around = [channel_block, chunk] if choice[WEIGHT_STATIONARY] else [chunk, channel_block]
    within = [strip, around_tile]
    if choice.get(AHEAD):
        # A core widens a group of blocks for all chunks of its rows.
        group, channel_block = sch.split(channel_block, [None, choice[AHEAD]])
        own_rows, chunk = sch.split(chunk, [math.gcd(choice[PARTS], int(sch.get(chunk).extent)), None])
        around, within = [group, own_rows], [chunk, channel_block, *within]
    sch.reorder(*outermost, *around, *within, *inner)
    shared = sch.fuse(*outermost, *around)
    if parallel:
        sch.parallel(shared)
    sch.vectorize(lane)
    if is_half(main):
        mark_parts(sch, [*taps, part], math.prod(main.reduction))
    return _Loops(shared, around_tile, taps[0] if taps else part, [unrolled, step, in_tile, vectors])


def is_half(main: Stage) -> bool:
    """Whether a stage accumulates in float16."""
    return main.writes[0].dtype == "float16"


def load_by_vector(sch: Any, loaded: Any, loop: Any) -> None:
    """Load each column's next inputs as one vector, from which multiply-adds take lanes.

    Args:
        sch: the schedule.
        loaded: a copy of the inputs that the tiled stage reads.
        loop: the reduction loop around the unrolled steps.
    """
    around = sch.get(loop).loop_var
    sch.compute_at(loaded, loop, preserve_unit_loops=True)
    loops = sch.get_loops(loaded)
    first = next(i for i, candidate in enumerate(loops) if sch.get(candidate).loop_var.same_as(around)) + 1
    for position in loops[first:-1]:
        sch.unroll(position)
    sch.vectorize(loops[-1])


def start_tile(sch: Any, block: Any, loop: Any) -> None:
    """Clear the accumulators before a reduction loop."""
    start = sch.decompose_reduction(block, loop)
    *_, column, vectors, lane = sch.get_loops(start)
    sch.unroll(column)
    sch.unroll(vectors)
    sch.vectorize(lane)


def store_tile(sch: Any, block: Any, loop: Any, lanes: int) -> None:
    """Keep the tile of a loop in registers and store it when it is complete."""
    stored = sch.cache_write(block, 0, "global")
    sch.reverse_compute_at(stored, loop, preserve_unit_loops=True)
    _vectorize_tile(sch, stored, lanes)


def _vectorize_tile(sch: Any, block: Any, lanes: int) -> None:
    """Vectorize the stores of a tile."""
    *_, column, channel = sch.get_loops(block)
    vectors, lane = sch.split(channel, [None, lanes])
    sch.unroll(column)
    sch.unroll(vectors)
    sch.vectorize(lane)
