"""How the stages of a transformed convolution are cut into chunks and groups: by what they move between caches."""

from __future__ import annotations

from dataclasses import dataclass

from tvmbuild.schedules.cache import caches
from tvmbuild.schedules.gemm.register_tile import TILE_CYCLES, RegisterTile, choose_tile, tile_cost, vector_unit
from tvmbuild.schedules.gemm.transformed import group_sizes
from tvmbuild.target.target import Target

#: Cycles to start the loop over the register tiles of one position and block, on a core of one multiply-add a cycle.
_LOOP_CYCLES = 40.0


@dataclass(frozen=True)
class Products:
    """Products of a transformed convolution.

    Attributes:
        positions: places of a transformed tile.
        rows: rows of tiles of an image.
        row_tiles: tiles of a row.
        depth: transformed input channels.
        channels: output channels at each place.
        dtype: element type.
        weights: transformed weights of an input and output channel; fewer than positions, where some share theirs.
    """

    positions: int
    rows: int
    row_tiles: int
    depth: int
    channels: int
    dtype: str
    weights: int


@dataclass(frozen=True)
class TransformedPlan:
    """How the products are cut.

    Attributes:
        tile: products kept in registers (columns are tiles of outputs).
        tiles: tiles of outputs of an image, rounded up to whole register tiles.
        chunk: rows of tiles that pass all stages together.
        group: blocks of output channels that pass products and output transform together.
    """

    tile: RegisterTile
    tiles: int
    chunk: int
    group: int


def plan_products(products: Products, target: Target) -> TransformedPlan:
    """Choose register tile, chunk and group with the least predicted cycles."""
    p, plans = products, []
    count = p.rows * p.row_tiles
    for chunk in (size for size in range(1, p.rows + 1) if p.rows % size == 0):
        tile = choose_tile(chunk * p.row_tiles, p.channels, target, exact_columns=True, dtype=p.dtype)
        blocks = -(-p.channels // tile.channels)
        for group in group_sizes(blocks, p.channels % tile.channels == 0):
            # Each core is to have groups of its own where there are too few chunks.
            if group == blocks or p.rows // chunk >= 2 * target.cores or blocks // group >= 2 * target.cores:
                plans.append(TransformedPlan(tile, count, chunk, group))
    rounded = choose_tile(count, p.channels, target, dtype=p.dtype)
    if count % rounded.columns:
        tiles = -(-count // rounded.columns) * rounded.columns
        plans.append(TransformedPlan(rounded, tiles, p.rows, -(-p.channels // rounded.channels)))
    return min(plans, key=lambda plan: cycles(p, plan, target))


def cycles(products: Products, plan: TransformedPlan, target: Target) -> float:
    """Return predicted cycles of an image, without the transforms and the weights' first way from memory."""
    return _product_cycles(products, plan, target) + _moving_cycles(products, plan, target)


def _product_cycles(products: Products, plan: TransformedPlan, target: Target) -> float:
    """Return predicted cycles of the multiplications of an image."""
    p, unit = products, vector_unit(target, products.dtype)
    blocks = -(-p.channels // plan.tile.channels)
    starts = plan.tiles * blocks * plan.tile.channels / unit.lanes * TILE_CYCLES
    starts += blocks * p.rows / plan.chunk * _LOOP_CYCLES
    return p.positions * (
        starts / unit.core.fma_per_cycle + p.depth * tile_cost(plan.tile, plan.tiles, p.channels, unit)
    )


def _moving_cycles(products: Products, plan: TransformedPlan, target: Target) -> float:
    """Return cycles to move transformed inputs, products and weights between the caches, and to start loops.

    The weights' first way from memory is not counted, nor is the way of the inputs and outputs themselves.
    """
    p, unit, c = products, vector_unit(target, products.dtype), caches(target)
    blocks = -(-p.channels // plan.tile.channels)
    chunks, groups = p.rows // plan.chunk, -(-blocks // plan.group)
    weights = p.weights * plan.tile.channels * unit.element_bytes * p.depth * blocks
    inputs = p.positions * p.depth * plan.tiles * unit.element_bytes
    outputs = p.positions * plan.tile.channels * unit.element_bytes * plan.tiles * plan.group
    by_chunk = chunks >= 2 * c.cores
    # The cores work on chunks of their own, or on groups of one chunk; a group's weights pass in between.
    common, of_each = (0.0, inputs + outputs) if by_chunk else (inputs, outputs)
    passing = (weights / groups, 0.0) if by_chunk else (0.0, weights / groups)
    lost = c.lost(common / chunks + passing[0], of_each / chunks + passing[1])
    rounds = -(-chunks // c.cores) if by_chunk else chunks
    near = weights * (chunks - 1) + inputs * (1 + groups)
    # What does not stay is fetched to be written, written, and read again by each group; of what stays it is the place
    # that one chunk has.
    far = 2 * (1 - lost) * (common + c.cores * of_each) / chunks + lost * inputs * (2 + groups)
    if outputs / chunks > c.first / 2:
        near += 2 * outputs * groups
        far += 3 * lost * outputs * groups
    if not by_chunk and groups == 1:
        # Each core goes through the blocks of a position of its own, whose inputs it reads for each of them.
        far += c.lost(0, inputs / chunks / p.positions) * inputs * (blocks - 1)
    far += c.lost(weights + common / chunks, of_each / chunks) * weights * (rounds - 1)
    # Beyond the one of any kernel.
    launches = 0 if by_chunk else chunks * (2 if groups > 1 else 3) - 1
    return near * c.near + far * c.far + launches * c.launch
