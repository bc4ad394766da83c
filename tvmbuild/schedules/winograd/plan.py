"""Decides, layer by layer, whether Winograd pays, and with which tiles."""

from __future__ import annotations

from collections.abc import Mapping

from tvmbuild.schedules.cache import caches
from tvmbuild.schedules.gemm.register_tile import LANE_STEP, vector_unit
from tvmbuild.schedules.gemm.transformed_plan import Products, cycles, plan_products
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.winograd.compute import WinogradPlan, depth_of, filtering_of
from tvmbuild.target.target import Target

#: Rows of a transformed tile that are tried. In float16 the transforms of five rows and more, whose terms are up to 100
#: times what they sum to, lose 1e-2 to 1e-1 of the largest output (ReLU inputs, He weights, 16 to 512 channels); F(2x2)
#: of 3x3 loses 1e-3 to 5e-3, less than the 2e-3 to 1.2e-2 of a direct sum in float16, since it is nine times less deep.
_ROWS: Mapping[str, tuple[int, ...]] = {"float32": (7, 6, 5, 4), "float16": (4,)}

#: Outputs of a row of a tile that are tried for three taps and stride 2. In float16 four lose 6e-3 to 2e-2.
_OUTPUTS_OF_STRIDED: Mapping[str, tuple[int, ...]] = {"float32": (5, 4, 3, 2), "float16": (3, 2)}

#: Cycles of the transforms for each value of each of their two passes and one vector of channels, on a core of one
#: multiply-add a cycle.
_INPUT_CYCLES = 2.3
_OUTPUT_CYCLES = 2.0


def possible(geometry: Conv2dGeometry, target: Target, dtype: str) -> list[WinogradPlan]:
    """Return the plans by which a convolution can be done so, largest tiles first; none where it cannot."""
    g = geometry
    if g.kernel[0] != g.kernel[1] or g.stride[0] != g.stride[1] or g.dilation != (1, 1) or g.groups != 1:
        return []
    for phases in sorted({1, g.stride[0]}):
        taps, stride = -(-g.kernel[0] // phases), g.stride[0] // phases
        if any(channels % LANE_STEP or channels < 2 * LANE_STEP for channels in (depth_of(g, phases), g.out_channels)):
            continue
        if stride == 1:
            sizes = [rows - taps + 1 for rows in _ROWS[dtype] if 1 < taps < rows <= taps + 4]
        else:
            sizes = [*_OUTPUTS_OF_STRIDED[dtype]] if (taps, stride) == (3, 2) else []
        if sizes:
            return [plan_winograd(g, m, phases, target, dtype) for m in sizes]
    return []


def plan_winograd(geometry: Conv2dGeometry, m: int, phases: int, target: Target, dtype: str) -> WinogradPlan:
    """Choose how a convolution by tiles of m x m outputs is cut."""
    plan = plan_products(products_of(geometry, m, phases, dtype), target)
    return WinogradPlan(plan.tile, plan.tiles, plan.chunk, plan.group, m, phases)


def products_of(geometry: Conv2dGeometry, m: int, phases: int, dtype: str) -> Products:
    """Return the products of tiles of m x m outputs."""
    g, f = geometry, filtering_of(geometry, m, phases)
    tiles = (-(-g.out_height // m), -(-g.out_width // m))
    return Products(f.places**2, *tiles, depth_of(g, phases), g.out_channels, dtype, f.weights**2)


def winograd_cost(geometry: Conv2dGeometry, plan: WinogradPlan, target: Target, dtype: str = "float32") -> float:
    """Return predicted cycles of a Winograd convolution."""
    g, unit, f = geometry, vector_unit(target, dtype), filtering_of(geometry, plan.m, plan.phases)
    products = products_of(g, plan.m, plan.phases, dtype)
    transforms = _INPUT_CYCLES * f.places * (f.rows + f.places) * products.depth
    transforms += _OUTPUT_CYCLES * (f.places * (f.places + f.m) + f.m * f.m) * g.out_channels
    transforms *= plan.tiles / unit.lanes / unit.core.fma_per_cycle
    weights = products.weights * products.depth * g.out_channels * unit.element_bytes * caches(target).stream
    return g.batch * (cycles(products, plan, target) + transforms) + weights
