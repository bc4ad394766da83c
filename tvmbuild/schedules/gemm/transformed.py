"""The products of a transformed convolution, and the loops around its stages.

    for image, chunk of rows of tiles:                    # parallel, if there are enough for the cores
        inputs[tile, place] = transform(image)            # of the chunk; else for all, parallel over tiles
        for group of blocks of channels:                  # parallel, where chunks are too few
            for place, block of the group:                # parallel, where groups are too few as well
                for register tile of tiles:
                    sums[tile, channel] = 0               # in registers
                    for depth by UNROLL * lane_step: sums += inputs[tile, place, depth] * weights[place, depth, channel]
                    products[tile, block, place, channel] = sums
            outputs = epilogue(transform back(products))  # of the chunk and group

Winograd's and Strassen's algorithms have one form: transform the inputs, multiply place by place with transformed
weights, transform the products back. The loops around the stages cut the rows of tiles into chunks and the blocks of
output channels into groups: a chunk's inputs are transformed, then for one group after the other its products are made
and transformed back, so that few products are kept at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.contracts import TransformedContract
from tvmbuild.schedules.gemm.partial_sums import mark_parts, part_count
from tvmbuild.schedules.gemm.register_tile import element_bytes, vector_unit
from tvmbuild.schedules.gemm.tile_plan import lane_step
from tvmbuild.schedules.gemm.tiled import is_half, load_by_vector, start_tile, store_tile, unroll_knob
from tvmbuild.schedules.gemm.widening import AHEAD, block_knob, is_widened, widen_ahead, widen_in_registers
from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import UNROLL, Choice, Knob
from tvmbuild.target.target import Target

#: Bytes at a multiple of which tiles are taken to share sets.
_SET_PERIOD = 2048

#: The distance of such tiles is rounded up to a multiple of so many bytes, and a line.
_SPREAD = 1024
_LINE = 64


@dataclass(frozen=True)
class Around:
    """Loops around all stages.

    Attributes:
        chunk: loop over chunks of rows of tiles, where the inputs are transformed; None when there is one chunk.
        group: loop over groups of blocks of channels, where the products are made; None when there is one of each.
        split_parallel: whether the input transform is to be parallel by itself, since the chunks are too few to
            occupy the cores.
        products_parallel: whether the products are, since the groups are too few as well.
    """

    chunk: Any
    group: Any
    split_parallel: bool
    products_parallel: bool

    @classmethod
    def of(cls, sch: Any, chunks: list[Any], group: Any, tiles: list[Any], target: Target) -> Around:
        """Choose what runs in parallel.

        Args:
            sch: the schedule.
            chunks: the loops over images and chunks of the output transform, outermost.
            group: the loop over groups in them.
            tiles: the loops over tiles in that.
            target: the board.
        """
        counts = [int(sch.get(loop).extent) for loop in chunks]
        count, groups = counts[-1], int(sch.get(group).extent)
        split_parallel = count < 2 * target.cores
        by_group = split_parallel and groups > 1
        chunk = chunks[-1]
        if by_group:
            sch.parallel(group)
        elif split_parallel:
            sch.parallel(sch.fuse(*tiles))
        else:
            chunk = sch.fuse(*chunks)
            sch.parallel(chunk)
        whole = count == 1
        return cls(
            None if whole else chunk,
            None if whole and groups == 1 else group,
            split_parallel,
            split_parallel and not by_group,
        )


def main_of(kernel: Kernel) -> Stage:
    """Return the stage of the products."""
    assert kernel.main is not None
    return kernel.main


def transformed_knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers.

    ``chunk`` is how many rows of tiles pass all stages together, ``group`` how many blocks of output channels;
    ``UNROLL`` as in ``tiled.knobs``. Of float16 weights ``ahead``: whether a block of them is widened before its uses.
    """
    main = main_of(kernel)
    step = lane_step(main.reduction[-1], target, main.writes[0].dtype)
    unroll = unroll_knob(main, step, vector_unit(target).by_lane, target)
    contract = main.contract(TransformedContract)
    chunk, group = contract.chunk, contract.group
    rows, wide = contract.rows
    columns, channels = contract.tile
    blocks = main.spatial[2]
    groups = group_sizes(blocks, blocks * channels == contract.channels and main.spatial[1] == rows * wide)
    tiles = main.spatial[1] if chunk == rows else chunk * wide
    ahead = (block_knob(tiles / columns),) if is_widened(kernel) else ()
    if chunk == rows:
        return (Knob("chunk", chunk, (chunk,)), Knob("group", group, groups), unroll, *ahead)
    fitting = (size for size in range(1, rows + 1) if rows % size == 0 and size * wide % columns == 0)
    return (Knob("chunk", chunk, tuple(fitting)), Knob("group", group, groups), unroll, *ahead)


def group_sizes(blocks: int, is_whole: bool) -> tuple[int, ...]:
    """Return the sizes of groups that divide the blocks; only all, where the last block or tile is not full."""
    return tuple(size for size in range(1, blocks + 1) if blocks % size == 0) if is_whole else (blocks,)


def spread_tiles(sch: Any, inputs: Any, main: Stage) -> None:
    """Lay transformed tiles apart so that those of a register tile do not share sets of the first level cache."""
    size = element_bytes(main.writes[0].dtype)
    positions = main.spatial[3]
    if positions * main.reduction[-1] * size % _SET_PERIOD == 0:
        sch.storage_align(inputs, 0, 1, _SPREAD // size, _LINE // size)


def schedule_products(sch: Any, kernel: Kernel, target: Target, choice: Choice, around: Around) -> None:
    """Schedule the products: one position after the other, so that its inputs and a block of weights stay in cache."""
    main, unroll, ahead = main_of(kernel), choice[UNROLL], choice.get(AHEAD)
    if ahead == 0:
        widen_in_registers(sch)
    block = sch.get_sblock(main.name)
    if around.group is not None:
        sch.compute_at(block, around.group, preserve_unit_loops=True)
    unit = vector_unit(target, main.writes[0].dtype)
    *_, tile, channel_block, position, channel, depth = sch.get_loops(block)
    tile_outer, in_tile = sch.split(tile, [None, main.contract(TransformedContract).tile[0]])
    step_count = lane_step(main.reduction[-1], target, main.writes[0].dtype)
    parts = part_count(main.reduction[-1], unroll * step_count) if is_half(main) else 1
    part, depth_outer, unrolled, step = sch.split(depth, [parts, None, unroll, step_count])
    vectors, lane = sch.split(channel, [None, unit.lanes])
    sch.reorder(position, channel_block, tile_outer, part, depth_outer, unrolled, step, in_tile, vectors, lane)
    if around.products_parallel:
        channel_block = sch.fuse(position, channel_block)
        sch.parallel(channel_block)
    if ahead:
        widen_ahead(sch, channel_block, unit.lanes)
    sch.vectorize(lane)
    if unit.by_lane:
        load_by_vector(sch, sch.cache_read(block, 0, "global"), unrolled)
    for loop in (unrolled, step, in_tile, vectors):
        sch.unroll(loop)
    store_tile(sch, block, tile_outer, unit.lanes)
    if is_half(main):
        mark_parts(sch, [part], main.reduction[-1])
    start_tile(sch, block, part)


def widest_vector(extent: int, lanes: int) -> int:
    """Return the widest vector, of at most ``lanes``, that divides an extent."""
    while extent % lanes:
        lanes //= 2
    return lanes
