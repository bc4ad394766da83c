"""Decides, layer by layer, whether Winograd pays, and with which tiles."""

from __future__ import annotations

from collections.abc import Mapping

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.register_tile import LANE_STEP, core_of
from tvmbuild.schedules.transformed_plan import Products, cycles, plan_products
from tvmbuild.schedules.winograd_compute import WinogradPlan
from tvmbuild.target import Target

#: Tiles that are tried. In float16 the transforms of F(4x4), whose terms are up to 100 times what they sum to, lose
#: 2e-2 to 1e-1 of the largest output (ReLU inputs, He weights, 16 to 512 channels); F(2x2) loses 1e-3 to 5e-3, less
#: than the 2e-3 to 1.2e-2 of a direct sum in float16, since it is nine times less deep.
TILES: Mapping[str, tuple[int, ...]] = {"float32": (4, 2), "float16": (2,)}

#: Cycles of the transforms for one tile and one vector of channels on a core of one multiply-add a cycle, by m.
_INPUT_CYCLES = {2: 70.0, 4: 170.0}
_OUTPUT_CYCLES = {2: 60.0, 4: 150.0}


def is_possible(geometry: Conv2dGeometry) -> bool:
    """Whether a convolution can be done so: 3x3, stride 1, with enough channels in whole vectors."""
    g = geometry
    if g.kernel != (3, 3) or g.stride != (1, 1) or g.dilation != (1, 1) or g.groups != 1:
        return False
    return (
        g.in_channels % LANE_STEP == 0 and g.out_channels % LANE_STEP == 0 and min(g.in_channels, g.out_channels) >= 8
    )


def plan_winograd(geometry: Conv2dGeometry, m: int, target: Target, dtype: str = "float32") -> WinogradPlan:
    """Choose the tiles of F(m x m, 3 x 3)."""
    plan = plan_products(products_of(geometry, m, dtype), target)
    return WinogradPlan(plan.tile, plan.tiles, plan.chunk, plan.group, m)


def products_of(geometry: Conv2dGeometry, m: int, dtype: str) -> Products:
    """Return the products of F(m x m, 3 x 3)."""
    g = geometry
    return Products((m + 2) ** 2, -(-g.out_height // m), -(-g.out_width // m), g.in_channels, g.out_channels, dtype)


def winograd_cost(geometry: Conv2dGeometry, plan: WinogradPlan, target: Target, dtype: str = "float32") -> float:
    """Return predicted cycles of a Winograd convolution."""
    g, core = geometry, core_of(target, dtype)
    products = cycles(products_of(g, plan.m, dtype), plan, target)
    transforms = _INPUT_CYCLES[plan.m] * g.in_channels + _OUTPUT_CYCLES[plan.m] * g.out_channels
    transforms *= plan.tiles / core.lanes / core.fma_per_cycle
    weights = (plan.m + 2) ** 2 * g.in_channels * g.out_channels * core.element_bytes / 64 * core.memory_line
    return g.batch * (products + transforms) + weights
