"""The register-tiled schedule of integer convolutions and matrix products (see ``int8.compute``).

    for blocks of channels, chunk of tiles:               # parallel; chunks first where inputs are stationary
        for tile of positions:
            for block of those that share an epilogue:
                sums[position, channel, lane] = 0         # in registers
                for kernel row, kernel column, run by vectors:
                    sums += inputs * weights              # one step, written out in the core's instructions
                block sums[position, channel] = sums      # on the stack, lanes added; left out for a single whole sum
            outputs = requantize(block sums)              # vectors of up to 16 channels; or apart, after all

A tile of int32 sums stays in registers over the whole reduction. The sums of neighbouring blocks of channels are put
side by side on the stack, so that the epilogue requantizes and stores vectors of up to 16 channels. Around the tiles,
positions are cut into chunks: either blocks of weights stay in cache while all chunks pass, or a chunk of inputs
stays while all blocks pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.contracts import FlatMark, Int8GemmContract
from tvmbuild.schedules.int8 import multiply as int8_multiply
from tvmbuild.schedules.int8.compute import IM2COL, LANE_SUMS
from tvmbuild.schedules.int8.form import int8_form
from tvmbuild.schedules.int8.traffic import traffic_of
from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import WEIGHT_STATIONARY, Choice, Knob
from tvmbuild.schedules.loops.injective import schedule_block
from tvmbuild.schedules.threads import thread_count
from tvmbuild.schedules.tir.access import analyze_access
from tvmbuild.schedules.tir.vector_loops import mark
from tvmbuild.target.target import Target

#: Channels that one vector of the epilogue stores.
_STORED = 16


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers: what is computed together and what stays in cache.

    ``tiles`` is the length of a chunk in tiles of positions; ``blocks`` is how many blocks of channels a tile passes
    before its epilogue; ``WEIGHT_STATIONARY`` is 1 when blocks of weights are the outer loop.
    """
    assert kernel.main is not None
    traffic = traffic_of(kernel)
    chunks = tuple(size for size in range(1, traffic.tiles + 1) if traffic.tiles % size == 0)
    contract = kernel.main.contract(Int8GemmContract)
    is_fused = _epilogue_is_fused(contract)
    together = tuple(
        count
        for count in range(1, max(1, _STORED // contract.tile[1]) + 1)
        if traffic.blocks % count == 0 and (count == 1 or is_fused)
    )
    # Whole sums in lanes fill vectors by themselves; of two blocks LLVM keeps the weights in registers, and spills.
    worth = together if contract.partial > 1 else (1,)
    priced = [
        (traffic.moved(tiles, count, bool(held), target) / math.sqrt(count), tiles, count, held)
        for tiles in chunks
        for count in worth
        for held in (0, 1)
    ]
    _, tiles, blocks, held = min(priced)
    return (Knob("tiles", tiles, chunks), Knob("blocks", blocks, together), Knob(WEIGHT_STATIONARY, held, (0, 1)))


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Schedule a kernel whose main stage is a tiled integer product."""
    main = kernel.main
    assert main is not None
    contract = main.contract(Int8GemmContract)
    block = sch.get_sblock(main.name)
    sums = kernel.epilogue[0].name if kernel.epilogue[0].name == LANE_SUMS else None
    for stage in kernel.epilogue[1 if sums else 0 : -1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    last = sch.get_sblock(kernel.last.name)
    for stage in kernel.producers:
        _schedule_producer(sch, stage, main, target)
    loops = _tile(sch, block, main, target, choice)
    is_fused = _epilogue_is_fused(contract)
    if is_fused:
        _flatten_positions(sch, last)
    stored = sch.get_sblock(sums) if sums else None
    if stored is None and (choice["blocks"] > 1 or not is_fused):
        stored = sch.cache_write(block, 0, "global")
    if stored is not None:
        sch.reverse_compute_at(stored, loops.block, preserve_unit_loops=True)
    if is_fused:
        sch.reverse_compute_at(last, loops.tile, preserve_unit_loops=True)
        _vectorize(sch, last)
    else:
        schedule_block(sch, kernel.last.name, target, 1)
    int8_multiply.mark(sch, loops.step, contract.form)
    _start(sch, block, loops.reduction)
    if sums:
        *_, in_tile, _, _, _ = sch.get_loops(stored)
        int8_multiply.mark_lane_sums(sch, in_tile)
    elif stored is not None:
        _vectorize(sch, stored)


@dataclass(frozen=True)
class _Loops:
    """Loops around a tile of positions, a block of channels in it, its reduction, and one step of that."""

    tile: Any
    block: Any
    reduction: Any
    step: Any


def _tile(sch: Any, block: Any, main: Stage, target: Target, choice: Choice) -> _Loops:
    """Cut and order the loops of the tiled stage."""
    count = len(main.spatial)
    loops = sch.get_loops(block)
    position, channel_block, channel, *parts = loops[:count]
    *taps, run, product = loops[count:]
    contract = main.contract(Int8GemmContract)
    tile, in_tile = sch.split(position, [None, contract.tile[0]])
    outer, step = sch.split(run, [None, contract.vectors])
    if parts:
        vectors, lane = channel, parts[0]
    else:
        vectors, lane = sch.split(channel, [None, int8_form(target).lanes])
    chunk, within = sch.split(tile, [None, choice["tiles"]])
    blocks, together = sch.split(channel_block, [None, choice["blocks"]])
    order = [blocks, chunk] if choice[WEIGHT_STATIONARY] else [chunk, blocks]
    sch.reorder(*order, within, together, *taps, outer, step, in_tile, vectors, lane, product)
    shared = sch.fuse(*order)
    if thread_count(math.prod(main.spatial) * math.prod(main.reduction) / 8, target) > 1:
        sch.parallel(shared)
    return _Loops(within, together, taps[0] if taps else outer, step)


def _epilogue_is_fused(contract: Int8GemmContract) -> bool:
    """Whether the epilogue can run tile by tile: unless a group's last block of channels is only partly used."""
    return contract.groups is None or contract.groups[1] % contract.tile[1] == 0


def _start(sch: Any, block: Any, loop: Any) -> None:
    """Clear the sums before the reduction."""
    start = sch.decompose_reduction(block, loop)
    *_, position, vectors, lane = sch.get_loops(start)
    sch.unroll(position)
    sch.unroll(vectors)
    sch.vectorize(lane)


def _flatten_positions(sch: Any, last: Any) -> None:
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
    vectors, lane = sch.split(channel, [None, math.gcd(int(sch.get(channel).extent.value), _STORED)])
    sch.unroll(vectors)
    sch.vectorize(lane)


def _schedule_producer(sch: Any, stage: Stage, main: Stage, target: Target) -> None:
    """Copy inputs in vectors along a row of a window, or along a row of the image from border to border."""
    block = sch.get_sblock(stage.name)
    access = analyze_access(sch.get(block))
    window = main.contract(Int8GemmContract).window if stage.name == IM2COL else None
    if window is None and not access.contiguous:
        schedule_block(sch, stage.name, target, 1)
        return
    FlatMark().put(sch, block)
    *outer, inner = sch.get_loops(block)
    if window is not None:
        position, kernel_row, inner = sch.split(inner, [None, *window])
        sch.unroll(kernel_row)
        outer = [position]
    if outer and thread_count(stage.iterations / 4, target) > 1:
        sch.parallel(sch.fuse(*outer))
    mark(sch, inner, _STORED, () if window is not None else access.borders)
