"""How the stages of a transformed convolution are cut into chunks and groups: by what they move between caches."""

from __future__ import annotations

from dataclasses import dataclass

from tvmbuild.schedules.cache import MEMORY_COST, usable_bytes
from tvmbuild.schedules.gemm.register_tile import TILE_CYCLES, RegisterTile, choose_tile, tile_cost, vector_unit
from tvmbuild.schedules.gemm.transformed import group_sizes
from tvmbuild.target.target import Target

#: Cycles to start the loop over the register tiles of one position and block, on a core of one multiply-add a cycle.
_LOOP_CYCLES = 40.0

#: Share of the lines from the second level cache or memory that arithmetic does not hide.
_EXPOSED = 0.3


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
    """Return cycles to move transformed inputs, products and weights, but for the first time, between the caches.

    What arithmetic hides is taken off.
    """
    p, unit = products, vector_unit(target, products.dtype)
    first, second = usable_bytes(target)
    blocks = -(-p.channels // plan.tile.channels)
    chunks, groups = p.rows // plan.chunk, -(-blocks // plan.group)
    of_block = p.positions * plan.tile.channels * unit.element_bytes
    weights = p.weights * plan.tile.channels * unit.element_bytes * p.depth * blocks
    inputs = p.positions * p.depth * plan.tiles * unit.element_bytes
    outputs = of_block * plan.tiles * plan.group
    kept = (inputs + outputs) / chunks
    level = 1 if kept <= second else MEMORY_COST
    again = 1 if weights + kept <= target.l2_kib * 1024 else MEMORY_COST
    moved = weights * (chunks - 1) * again + inputs * (1 + groups) * level
    if outputs / chunks > first / 2:
        moved += 2 * outputs * groups * level
    return _EXPOSED * moved / 64 * unit.core.shared_memory_line / (MEMORY_COST + 1)
