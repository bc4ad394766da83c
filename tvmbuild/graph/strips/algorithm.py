"""How a convolution of a chain is computed: as the whole layer would be, so that strips give the same sums.

By its definition any rows can be computed. Winograd's algorithm computes tiles of rows, and Strassen's pairs of
positions that may span two rows: their strips begin where a tile of the whole layer does.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from tvmbuild.graph.rewriter import Call, array
from tvmbuild.schedules.cache import caches
from tvmbuild.schedules.gemm.register_tile import vector_unit
from tvmbuild.schedules.gemm.tile_plan import direct_cycles
from tvmbuild.schedules.gemm.transformed_plan import Products, TransformedPlan
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize import conv2d_plan
from tvmbuild.schedules.legalize.conv2d import oihw
from tvmbuild.schedules.legalize.conv2d_choices import Plans, name_of, planned
from tvmbuild.schedules.strassen import plan as strassen
from tvmbuild.schedules.strassen.compute import StrassenPlan
from tvmbuild.schedules.winograd import plan as winograd
from tvmbuild.schedules.winograd.compute import WinogradPlan
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class Algorithm:
    """A convolution's algorithm.

    Attributes:
        name: of its plan ("winograd4").
        cycles: of the whole layer on one core, without waiting for weights.
        granule: strips begin at multiples of so many rows.
        weights: bytes of its weights as they are packed.
        temporary: bytes that it needs for one granule of rows, besides what it reads and writes.
    """

    name: str
    cycles: float
    granule: int
    weights: int
    temporary: int


def algorithm_of(call: Call, geometry: Conv2dGeometry, target: Target, plans: Plans) -> Algorithm:
    """Return the algorithm of a convolution that is not depthwise.

    Args:
        call: the operator, with constant weights.
        geometry: of the whole layer.
        target: the board.
        plans: names of plans of whole layers, where they are not the rule's.
    """
    kernel = oihw(array(call.args[1]), str(call.attrs.kernel_layout))
    plan = planned(plans, geometry, kernel, target) or conv2d_plan.choose(geometry, kernel, target)
    dtype = str(kernel.dtype)
    if isinstance(plan, WinogradPlan):
        m, phases = plan.m, plan.phases
        strip = _strip(geometry, m)
        small = winograd.plan_winograd(strip, m, phases, target, dtype)
        products = winograd.products_of(strip, m, phases, dtype)
        return _transformed(geometry, plan, small, products, m, target)
    if isinstance(plan, StrassenPlan):
        granule = 2 if geometry.out_width % 2 else 1
        strip = _strip(geometry, granule)
        small_pairs = strassen.plan_strassen(strip, target, dtype)
        return _transformed(geometry, plan, small_pairs, strassen.products_of(strip, dtype), granule, target)
    return Algorithm(name_of(plan), direct_cycles(geometry, target, dtype), 1, kernel.nbytes, 0)


def _strip(geometry: Conv2dGeometry, rows: int) -> Conv2dGeometry:
    """Return a convolution with so many rows of output."""
    height = (rows - 1) * geometry.stride[0] + geometry.dilation[0] * (geometry.kernel[0] - 1) + 1
    _, left, _, right = geometry.padding
    return dataclasses.replace(geometry, height=height, padding=(0, left, 0, right))


def _transformed(
    geometry: Conv2dGeometry,
    plan: WinogradPlan | StrassenPlan,
    strip: TransformedPlan,
    products: Products,
    granule: int,
    target: Target,
) -> Algorithm:
    p, unit = products, vector_unit(target, products.dtype)
    weights = p.weights * p.depth * p.channels * unit.element_bytes
    cycles = conv2d_plan.cost_of(geometry, plan, target, p.dtype) - weights * caches(target).stream
    channels = min(strip.group * strip.tile.channels, p.channels)
    kept = p.positions * p.row_tiles * math.prod((p.rows, p.depth + channels)) * unit.element_bytes
    return Algorithm(name_of(plan), cycles, granule, weights, kept)
