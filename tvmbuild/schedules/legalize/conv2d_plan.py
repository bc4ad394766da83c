"""Chooses the algorithm of a convolution, layer by layer: the cheapest as predicted whose error is small enough."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from tvmbuild.schedules.gemm.compute import TilePlan
from tvmbuild.schedules.gemm.packing import Array
from tvmbuild.schedules.gemm.tile_plan import direct_cost, plan_conv2d
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.strassen import compute as strassen_compute
from tvmbuild.schedules.strassen import plan as strassen_plan
from tvmbuild.schedules.strassen.compute import StrassenPlan
from tvmbuild.schedules.winograd import plan as winograd_plan
from tvmbuild.schedules.winograd import transform as winograd_transform
from tvmbuild.schedules.winograd.compute import WinogradPlan, filtering_of
from tvmbuild.schedules.winograd.transform import phase_kernel
from tvmbuild.target.target import Target

#: How a convolution is computed: by its definition, or by one of the algorithms that multiply less.
Conv2dPlan: TypeAlias = TilePlan | WinogradPlan | StrassenPlan

#: Largest error of a layer over its largest output, by dtype, of an algorithm that is not the definition. Ten layers of
#: float32's limit in a row stay an order of magnitude under the 1e-4 that a model is held to. In float16 ordinary
#: layers of ResNet-50 and SqueezeNet measure 1e-3 to 6.1e-3, varying with the sample; the limit is above those and
#: under the 1e-2 that a model is held to.
MAX_ERROR: Mapping[str, float] = {"float32": 2e-5, "float16": 8e-3}

#: Share of the definition's cycles that another algorithm must save: less is within the error of the rules, which
#: estimate what lines the temporaries move.
LEAST_GAIN = 0.05


def choose(geometry: Conv2dGeometry, kernel: Array, target: Target) -> Conv2dPlan:
    """Return the cheapest plan as predicted, of those whose error with these weights stays under the limit.

    Args:
        geometry: the convolution.
        kernel: its weights, OIHW; their type is that of the computation.
        target: the board.
    """
    dtype = str(kernel.dtype)
    for plan in alternatives(geometry, target, dtype):
        if relative_error(geometry, kernel, plan) <= MAX_ERROR[dtype]:
            return plan
    return plan_conv2d(geometry, target, dtype)


def alternatives(geometry: Conv2dGeometry, target: Target, dtype: str) -> list[Conv2dPlan]:
    """Return the plans of other algorithms that are predicted to be faster than the definition, fastest first."""
    limit = (1 - LEAST_GAIN) * direct_cost(geometry, target, dtype)
    priced = [(cost_of(geometry, plan, target, dtype), plan) for plan in possible(geometry, target, dtype)]
    return [plan for cost, plan in sorted(priced, key=lambda pair: pair[0]) if cost < limit]


def possible(geometry: Conv2dGeometry, target: Target, dtype: str) -> list[Conv2dPlan]:
    """Return the plans of other algorithms than the definition that can compute a convolution."""
    plans: list[Conv2dPlan] = []
    if strassen_plan.is_possible(geometry, target, dtype):
        plans.append(strassen_plan.plan_strassen(geometry, target, dtype))
    plans += winograd_plan.possible(geometry, target, dtype)
    return plans


def cost_of(geometry: Conv2dGeometry, plan: Conv2dPlan, target: Target, dtype: str) -> float:
    """Return predicted cycles."""
    if isinstance(plan, WinogradPlan):
        return winograd_plan.winograd_cost(geometry, plan, target, dtype)
    if isinstance(plan, StrassenPlan):
        return strassen_plan.strassen_cost(geometry, plan, target, dtype)
    return direct_cost(geometry, target, dtype)


def relative_error(geometry: Conv2dGeometry, kernel: Array, plan: Conv2dPlan, *, half_weights: bool = False) -> float:
    """Measure the error of a layer over its largest output, on a sample; 0 for the definition, which sets the scale.

    Args:
        geometry: the convolution.
        kernel: its weights, OIHW.
        plan: the algorithm.
        half_weights: whether float32 weights are rounded to float16 when they are transformed.
    """
    if isinstance(plan, WinogradPlan):
        filtering = filtering_of(geometry, plan.m, plan.phases)
        return winograd_transform.relative_error(
            phase_kernel(kernel, plan.phases), filtering, half_weights=half_weights
        )
    if isinstance(plan, StrassenPlan):
        return strassen_compute.relative_error(kernel, half_weights=half_weights)
    return 0.0
