"""Decides, layer by layer, whether Strassen's algorithm pays, and with which tiles."""

from __future__ import annotations

from tvmbuild.schedules.cache import caches
from tvmbuild.schedules.gemm.register_tile import LANE_STEP, vector_unit
from tvmbuild.schedules.gemm.transformed_plan import Products, cycles, plan_products
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.strassen.compute import PRODUCTS, StrassenPlan, pair_rows
from tvmbuild.target.target import Target

#: Cycles of the transforms for one pair of positions and one vector of channels of either half, on a core of one
#: multiply-add a cycle: their loads and stores.
_INPUT_CYCLES = 11.0
_OUTPUT_CYCLES = 14.0


def is_possible(geometry: Conv2dGeometry, target: Target, dtype: str) -> bool:
    """Whether a convolution can be done so: 1x1, unpadded, halves of whole vectors; float32 alone, for its error."""
    g = geometry
    if g.kernel != (1, 1) or g.is_padded or g.groups != 1 or dtype != "float32":
        return False
    return g.in_channels % (2 * LANE_STEP) == 0 and g.out_channels % (2 * vector_unit(target, dtype).lanes) == 0


def plan_strassen(geometry: Conv2dGeometry, target: Target, dtype: str = "float32") -> StrassenPlan:
    """Choose the tiles."""
    plan = plan_products(products_of(geometry, dtype), target)
    return StrassenPlan(plan.tile, plan.tiles, plan.chunk, plan.group, vector_unit(target, dtype).lanes)


def products_of(geometry: Conv2dGeometry, dtype: str) -> Products:
    """Return the seven products."""
    g = geometry
    return Products(PRODUCTS, *pair_rows(g), g.in_channels // 2, g.out_channels // 2, dtype, PRODUCTS)


def strassen_cost(geometry: Conv2dGeometry, plan: StrassenPlan, target: Target, dtype: str = "float32") -> float:
    """Return predicted cycles."""
    g, unit = geometry, vector_unit(target, dtype)
    transforms = (_INPUT_CYCLES * g.in_channels + _OUTPUT_CYCLES * g.out_channels) / 2
    transforms *= plan.tiles / unit.lanes / unit.core.fma_per_cycle
    weights = PRODUCTS / 4 * g.in_channels * g.out_channels * unit.element_bytes * caches(target).stream
    return g.batch * (cycles(products_of(g, dtype), plan, target) + transforms) + weights
