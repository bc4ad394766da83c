"""Decides, layer by layer, whether Winograd pays, and with which tiles."""

from __future__ import annotations

from collections.abc import Mapping

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.register_tile import LANE_STEP, core_of
from tvmbuild.schedules.transformed_plan import Products, cycles, plan_products
from tvmbuild.schedules.winograd_compute import WinogradPlan, depth_of, taps_of
from tvmbuild.target import Target

#: Rows of a transformed tile that are tried. In float16 the transforms of six rows, whose terms are up to 100 times
#: what they sum to, lose 2e-2 to 1e-1 of the largest output (ReLU inputs, He weights, 16 to 512 channels); F(2x2) of
#: 3x3 loses 1e-3 to 5e-3, less than the 2e-3 to 1.2e-2 of a direct sum in float16, since it is nine times less deep.
_ROWS: Mapping[str, tuple[int, ...]] = {"float32": (6, 4), "float16": (4,)}

#: Cycles of the transforms for each value of each of their two passes and one vector of channels, on a core of one
#: multiply-add a cycle.
_INPUT_CYCLES = 2.3
_OUTPUT_CYCLES = 2.0


def tile_sizes(geometry: Conv2dGeometry, dtype: str) -> list[int]:
    """Return the sizes m of tiles of outputs with which a convolution can be done so; none where it cannot."""
    g = geometry
    if g.kernel[0] != g.kernel[1] or g.stride[0] != g.stride[1] or g.dilation != (1, 1) or g.groups != 1:
        return []
    if any(channels % LANE_STEP or channels < 2 * LANE_STEP for channels in (depth_of(g), g.out_channels)):
        return []
    taps = taps_of(g)
    return [rows - taps + 1 for rows in _ROWS[dtype] if 1 < taps < rows]


def plan_winograd(geometry: Conv2dGeometry, m: int, target: Target, dtype: str = "float32") -> WinogradPlan:
    """Choose how a convolution by tiles of m x m outputs is cut."""
    plan = plan_products(products_of(geometry, m, dtype), target)
    return WinogradPlan(plan.tile, plan.tiles, plan.chunk, plan.group, m)


def products_of(geometry: Conv2dGeometry, m: int, dtype: str) -> Products:
    """Return the products of tiles of m x m outputs."""
    g = geometry
    positions = (m + taps_of(g) - 1) ** 2
    return Products(positions, -(-g.out_height // m), -(-g.out_width // m), depth_of(g), g.out_channels, dtype)


def winograd_cost(geometry: Conv2dGeometry, plan: WinogradPlan, target: Target, dtype: str = "float32") -> float:
    """Return predicted cycles of a Winograd convolution."""
    g, core = geometry, core_of(target, dtype)
    products = cycles(products_of(g, plan.m, dtype), plan, target)
    m, depth = plan.m, depth_of(g)
    a = m + taps_of(g) - 1
    transforms = _INPUT_CYCLES * 2 * a * a * depth + _OUTPUT_CYCLES * (a * a + a * m + m * m) * g.out_channels
    transforms *= plan.tiles / core.lanes / core.fma_per_cycle
    weights = a * a * depth * g.out_channels * core.element_bytes / 64 * core.memory_line
    return g.batch * (products + transforms) + weights
