"""The plans of a convolution that tuning may try, each with a name for records ("direct 8x8", "winograd4").

Weights are packed for a plan when an operator becomes a kernel, so a plan cannot be a knob of the kernel's schedule: it
is chosen before, by the rule of ``conv2d_plan`` or by a record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TypeAlias

from tvmbuild.schedules.gemm.packing import Array
from tvmbuild.schedules.gemm.register_tile import cheapest_tiles
from tvmbuild.schedules.gemm.tile_plan import plan_conv2d
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize.conv2d_plan import MAX_ERROR, Conv2dPlan, possible, relative_error
from tvmbuild.schedules.strassen.compute import StrassenPlan
from tvmbuild.schedules.winograd.compute import WinogradPlan
from tvmbuild.target.target import Target

#: A convolution to choose a plan for: ``Conv2dGeometry.numbers()`` and the element type.
PlanKey: TypeAlias = tuple[tuple[int, ...], str]
#: Names of plans by convolution, where they are not the rule's.
Plans: TypeAlias = Mapping[PlanKey, str]

#: Register tiles of the direct convolution that are tried, at most.
_TILES = 4


def plan_key(geometry: Conv2dGeometry, dtype: str) -> PlanKey:
    """Return the key of a convolution."""
    return tuple(int(number) for number in geometry.numbers()), dtype


def name_of(plan: Conv2dPlan) -> str:
    """Return the name of a plan."""
    if isinstance(plan, WinogradPlan):
        return f"winograd{plan.m}"
    if isinstance(plan, StrassenPlan):
        return "strassen"
    return f"direct {plan.tile.columns}x{plan.tile.channels}"


def plan_choices(geometry: Conv2dGeometry, target: Target, dtype: str) -> dict[str, Conv2dPlan]:
    """Return the plans to try by name: direct ones with several register tiles, and the other algorithms."""
    direct = plan_conv2d(geometry, target, dtype)
    plans: list[Conv2dPlan] = [direct]
    width = geometry.out_width
    for tile in cheapest_tiles(width, geometry.group_out, target, _TILES, dtype):
        plans.append(dataclasses.replace(direct, tile=tile, columns=-(-width // tile.columns) * tile.columns))
    plans += possible(geometry, target, dtype)
    return {name_of(plan): plan for plan in plans}


def planned(plans: Plans, geometry: Conv2dGeometry, kernel: Array, target: Target) -> Conv2dPlan | None:
    """Return the plan that is named for a convolution; None for none, or one that these weights lose too much with."""
    dtype = str(kernel.dtype)
    name = plans.get(plan_key(geometry, dtype))
    plan = plan_choices(geometry, target, dtype).get(name) if name is not None else None
    if plan is None or relative_error(geometry, kernel, plan) > MAX_ERROR[dtype]:
        return None
    return plan
