"""Rules that cut a convolution or a matrix product into register tiles."""

from __future__ import annotations

import math

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.register_tile import LANE_STEP, RegisterTile, choose_tile, core_of, tile_cost
from tvmbuild.schedules.tiled_compute import TilePlan
from tvmbuild.target import Target

#: Cycles to copy one input value into a padded buffer, for comparing plans.
_COPY_CYCLES = 0.6


def plan_conv2d(geometry: Conv2dGeometry, target: Target) -> TilePlan:
    """Choose the tiles of a direct convolution."""
    g = geometry
    depth = padded_depth(g.group_in, g.groups, target)
    copied = g.batch * g.height * g.width * depth
    return _plan(
        rows=g.batch * g.out_height,
        columns=g.out_width,
        channels=g.group_out,
        groups=g.groups,
        depth=depth * math.prod(g.kernel),
        step=lane_step(depth, target),
        can_be_flat=g.is_pointwise and depth == g.in_channels,
        copied=0 if g.is_padded or depth != g.group_in else copied,
        target=target,
    )


def plan_matmul(leading: int, rows: int, depth: int, columns: int, shared: bool, target: Target) -> TilePlan:
    """Choose the tiles of a matrix product.

    Args:
        leading: number of products.
        rows: rows of each.
        depth: length of the sums.
        columns: columns of the right factor.
        shared: whether all products have the same right factor.
        target: the board.
    """
    return _plan(
        rows=leading,
        columns=rows,
        channels=columns,
        groups=1,
        depth=depth,
        step=lane_step(depth, target),
        can_be_flat=shared,
        copied=leading * rows * depth,
        target=target,
    )


def padded_depth(channels: int, groups: int, target: Target) -> int:
    """Return the input channels of a group, rounded up where that makes whole vectors of inputs."""
    if groups > 1 or channels <= LANE_STEP or not core_of(target).by_lane:
        return channels
    return -(-channels // LANE_STEP) * LANE_STEP


def lane_step(depth: int, target: Target) -> int:
    """Return how many reduction indices to unroll together."""
    return max(step for step in range(1, LANE_STEP + 1) if depth % step == 0)


def _plan(
    *,
    rows: int,
    columns: int,
    channels: int,
    groups: int,
    depth: int,
    step: int,
    can_be_flat: bool,
    copied: int,
    target: Target,
) -> TilePlan:
    core = core_of(target)
    by_row = choose_tile(columns, channels, target)
    rounded = -(-columns // by_row.columns) * by_row.columns
    plan = TilePlan(by_row, rounded, False, step)
    if not can_be_flat:
        return plan

    def cost(tile: RegisterTile, row_count: int, row_columns: int) -> float:
        return row_count * groups * depth * tile_cost(tile, row_columns, channels, core)

    flat = choose_tile(rows * columns, channels, target, exact_columns=True)
    by_row_cost = cost(by_row, rows, columns) + (_COPY_CYCLES * copied if rounded != columns else 0)
    if cost(flat, 1, rows * columns) <= by_row_cost:
        return TilePlan(flat, columns, True, step)
    return plan
