"""Rules that cut a convolution or a matrix product into register tiles."""

from __future__ import annotations

import dataclasses
import math

from tvmbuild.schedules.cache import LINE, caches, collide
from tvmbuild.schedules.gemm.compute import TilePlan
from tvmbuild.schedules.gemm.register_tile import (
    LANE_STEP,
    TILE_CYCLES,
    VectorUnit,
    choose_tile,
    element_bytes,
    tile_cost,
    vector_unit,
)
from tvmbuild.schedules.gemm.traffic import Traffic, cheapest_order
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.target.target import Target

#: Cycles to copy one input value into a padded buffer, for comparing plans.
_COPY_CYCLES = 0.6

#: Columns of a tile, at most, where few input channels are used of each vector of inputs: there is no more than one
#: multiply-add a channel for its load, and wide tiles wait for their loads.
_FEW_COLUMNS = 4
_ANY_COLUMNS = 16


def plan_conv2d(geometry: Conv2dGeometry, target: Target, dtype: str = "float32") -> TilePlan:
    """Choose the tiles of a direct convolution."""
    g = geometry
    depth = padded_depth(g.group_in, g.groups, target)
    is_few = 1 < g.in_channels < LANE_STEP and g.groups == 1 and vector_unit(target).by_lane
    is_copied = g.is_padded or depth != g.group_in or is_few
    copied = 0 if is_copied else g.height * g.width * g.in_channels
    taps = math.prod(g.kernel)
    most = _FEW_COLUMNS if is_few else _ANY_COLUMNS
    plan = _plan(g.out_height, g.out_width, g.group_out, depth, taps, copied / g.groups, target, dtype, most)
    if is_few:
        return dataclasses.replace(plan, by_vector=True, channels=LANE_STEP)
    channels = _spread_channels(g, plan, target, element_bytes(dtype), is_copied=is_copied)
    return dataclasses.replace(plan, channels=channels)


def _spread_channels(g: Conv2dGeometry, plan: TilePlan, target: Target, size: int, *, is_copied: bool) -> int:
    """Return the channels of the copied input: a line more, where a tile's columns would displace each other in cache.

    A copy that is made for that alone has to be paid back by what its readers no longer load again.
    """
    step, columns = g.stride[1] * plan.channels * size, plan.tile.columns
    if g.groups > 1 or not collide(step, columns, target):
        return plan.channels
    c = caches(target)
    copied = g.batch * g.height * g.width * plan.channels * size
    copying = 0.0 if is_copied else 2 * copied * c.near + 3 * c.lost(copied) * copied * c.far
    tiles = g.batch * g.out_height * (plan.columns // columns) * -(-g.out_channels // plan.tile.channels)
    # A line is loaded in vectors, and is gone again before the next one of it is.
    again = tiles * columns * math.prod(g.kernel) * plan.channels * size * (LINE // (plan.lane_step * size) - 1)
    return plan.channels + LINE // size if again * c.near > copying else plan.channels


def direct_cost(geometry: Conv2dGeometry, target: Target, dtype: str = "float32") -> float:
    """Return predicted cycles of direct convolution."""
    g, unit, c = geometry, vector_unit(target, dtype), caches(target)
    plan = plan_conv2d(g, target, dtype)
    traffic = _traffic(g, plan, unit)
    moving = traffic.weight_bytes * traffic.blocks * c.stream
    if c.is_known:
        moving = cheapest_order(traffic, target).cycles + _copying_cycles(g, plan, target, unit.element_bytes)
    return direct_cycles(geometry, target, dtype) + g.batch * g.groups * moving


def direct_cycles(geometry: Conv2dGeometry, target: Target, dtype: str = "float32") -> float:
    """Return predicted cycles of direct convolution, but for those in which it waits for what it reads."""
    g, unit = geometry, vector_unit(target, dtype)
    plan = plan_conv2d(g, target, dtype)
    reduced = g.kernel[0] * g.kernel[1] * g.group_in
    cost = tile_cost(plan.tile, g.out_width, g.group_out, unit)
    tiles = g.out_height * (plan.columns // plan.tile.columns) * -(-g.group_out // plan.tile.channels)
    starts = tiles * plan.tile.columns * plan.tile.channels / unit.lanes * TILE_CYCLES / unit.core.fma_per_cycle
    return g.batch * g.groups * (g.out_height * reduced * cost + starts)


def _traffic(g: Conv2dGeometry, plan: TilePlan, unit: VectorUnit) -> Traffic:
    """Return what the loops around the tiles of one group read."""
    size, taps = unit.element_bytes, math.prod(g.kernel)
    return Traffic(
        rows=g.out_height,
        strips=plan.columns // plan.tile.columns,
        blocks=-(-g.group_out // plan.tile.channels),
        weight_bytes=taps * g.group_in * plan.tile.channels * size,
        row_bytes=plan.columns * g.group_in * size,
        tile_bytes=plan.tile.columns * taps * g.group_in * size // max(1, g.kernel[1] // 2),
    )


def _copying_cycles(g: Conv2dGeometry, plan: TilePlan, target: Target, element: int) -> float:
    """Return the cycles that one group's copy of the inputs with their padding waits for memory.

    Where it does not stay in the caches it is fetched to be written, written, and read again.
    """
    c = caches(target)
    size = g.height * g.width * g.group_in * element
    is_copied = g.is_padded or (g.groups == 1 and plan.channels != g.in_channels)
    return 3 * c.lost(size * g.groups) * size * c.far if is_copied else 0.0


def plan_matmul(rows: int, depth: int, columns: int, target: Target, dtype: str = "float32") -> TilePlan:
    """Choose the tiles of a matrix product (rows, depth) x (depth, columns)."""
    return _plan(1, rows, columns, depth, 1, float(rows * depth), target, dtype)


def padded_depth(channels: int, groups: int, target: Target) -> int:
    """Return the input channels of a group, rounded up where that makes whole vectors of inputs."""
    if groups > 1 or channels <= LANE_STEP or not vector_unit(target).by_lane:
        return channels
    return -(-channels // LANE_STEP) * LANE_STEP


def lane_step(depth: int, target: Target, dtype: str = "float32") -> int:
    """Return how many reduction indices to unroll together: a vector of inputs where the depth allows."""
    lanes = vector_unit(target, dtype).lanes
    if vector_unit(target).by_lane and depth % lanes == 0:
        return lanes
    return max(step for step in range(1, LANE_STEP + 1) if depth % step == 0)


def _plan(
    rows: int,
    columns: int,
    channels: int,
    depth: int,
    taps: int,
    copied: float,
    target: Target,
    dtype: str,
    most_columns: int = _ANY_COLUMNS,
) -> TilePlan:
    """Choose between tiles that divide the columns and tiles that reach beyond them, which may need a copied input."""
    unit = vector_unit(target, dtype)
    exact = choose_tile(columns, channels, target, exact_columns=True, dtype=dtype, most_columns=most_columns)
    rounded = choose_tile(columns, channels, target, dtype=dtype, most_columns=most_columns)
    tile = exact
    if columns % rounded.columns:
        gain = tile_cost(exact, columns, channels, unit) - tile_cost(rounded, columns, channels, unit)
        if gain * rows * depth * taps > copied * _COPY_CYCLES:
            tile = rounded
    step = lane_step(depth, target, dtype)
    whole = -(-columns // tile.columns) * tile.columns
    by_vector = unit.by_lane and step >= LANE_STEP
    return TilePlan(tile, whole, step, by_vector, channels=depth)
