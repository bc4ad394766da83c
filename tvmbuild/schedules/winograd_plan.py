"""Decides, layer by layer, whether Winograd pays, and with which tiles."""

from __future__ import annotations

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.register_tile import LANE_STEP, choose_tile, core_of, tile_cost
from tvmbuild.schedules.tile_plan import plan_conv2d
from tvmbuild.schedules.winograd_compute import WinogradPlan
from tvmbuild.target import Target

#: Largest error of a layer over its largest output, with float32 (``winograd_transform.relative_error``). Ten such
#: layers in a row stay an order of magnitude under the 1e-4 that a model is held to.
MAX_ERROR = 2e-5

#: Cycles of the transforms for one tile and one vector of channels on a core of one multiply-add a cycle, by m.
_INPUT_CYCLES = {2: 70.0, 4: 170.0}
_OUTPUT_CYCLES = {2: 60.0, 4: 150.0}

#: Cycles to start and store one register tile, per accumulator vector.
_TILE_CYCLES = 2.5

#: Share of the second level cache for the intermediates of a chunk.
_CACHE_SHARE = 0.5


def candidates(geometry: Conv2dGeometry, target: Target) -> list[WinogradPlan]:
    """Return the Winograd plans predicted to be faster than direct convolution, the fastest first."""
    g = geometry
    if g.kernel != (3, 3) or g.stride != (1, 1) or g.dilation != (1, 1) or g.groups != 1:
        return []
    if g.in_channels % LANE_STEP or g.out_channels % LANE_STEP or min(g.in_channels, g.out_channels) < 8:
        return []
    limit = direct_cost(g, target)
    plans = [plan_winograd(g, m, target) for m in (4, 2)]
    priced = [(winograd_cost(g, plan, target), plan) for plan in plans]
    return [plan for cost, plan in sorted(priced, key=lambda pair: pair[0]) if cost < limit]


def plan_winograd(geometry: Conv2dGeometry, m: int, target: Target) -> WinogradPlan:
    """Choose the tiles of F(m x m, 3 x 3)."""
    g = geometry
    high, wide = -(-g.out_height // m), -(-g.out_width // m)
    row_bytes = wide * (m + 2) ** 2 * (g.in_channels + g.out_channels) * 4
    cache = target.l2_kib * 1024 * _CACHE_SHARE
    chunk = max([rows for rows in range(1, high + 1) if high % rows == 0 and rows * row_bytes <= cache], default=1)
    if chunk == high:
        tile = choose_tile(high * wide, g.out_channels, target)
        tiles = -(-high * wide // tile.columns) * tile.columns
        return WinogradPlan(m, tile, tiles, chunk)
    tile = choose_tile(chunk * wide, g.out_channels, target, exact_columns=True)
    return WinogradPlan(m, tile, high * wide, chunk)


def direct_cost(geometry: Conv2dGeometry, target: Target) -> float:
    """Return predicted cycles of direct convolution."""
    g = geometry
    plan = plan_conv2d(g, target)
    reduced = g.kernel[0] * g.kernel[1] * g.group_in
    cost = tile_cost(plan.tile, g.out_width, g.group_out, core_of(target))
    weights = reduced * g.out_channels * 4 / 64 * core_of(target).memory_line
    return g.batch * g.out_height * g.groups * reduced * cost + weights


def winograd_cost(geometry: Conv2dGeometry, plan: WinogradPlan, target: Target) -> float:
    """Return predicted cycles of a Winograd convolution."""
    g, core = geometry, core_of(target)
    positions = (plan.m + 2) ** 2
    vectors = -(-g.out_channels // plan.tile.channels) * plan.tile.channels / core.lanes
    products = positions * (
        g.in_channels * tile_cost(plan.tile, plan.tiles, g.out_channels, core)
        + plan.tiles * vectors * _TILE_CYCLES / core.fma_per_cycle
    )
    transforms = _INPUT_CYCLES[plan.m] * g.in_channels + _OUTPUT_CYCLES[plan.m] * g.out_channels
    transforms *= plan.tiles / core.lanes / core.fma_per_cycle
    weights = positions * g.in_channels * g.out_channels * 4 / 64 * core.memory_line
    return g.batch * (products + transforms) + weights
