"""Chooses the algorithm of a convolution together with the form of its weights, for all of a board's cores.

All cores share the way to memory: a layer takes its computing divided by the cores, and each line of its weights. So
an algorithm that multiplies less but whose weights are larger pays less often than by the cycles of one core
(``conv2d_plan``), by which builds choose that ask nothing of their weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tvmbuild.schedules.cache import LINE, caches
from tvmbuild.schedules.gemm.packing import Array
from tvmbuild.schedules.gemm.register_tile import vector_unit
from tvmbuild.schedules.gemm.tile_plan import padded_depth, plan_conv2d
from tvmbuild.schedules.gemm.tiled import PARALLEL_MACS
from tvmbuild.schedules.gemm.widening import AHEAD_CYCLES, IN_REGISTERS_CYCLES, Tiles, plan_widening
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize.conv2d_plan import LEAST_GAIN, MAX_ERROR, Conv2dPlan, cost_of, possible, relative_error
from tvmbuild.schedules.legalize.storage import (
    DOES_NOT_PAY,
    MAX_ROUNDING,
    Storage,
    line_cycles,
    why_not_half,
)
from tvmbuild.schedules.strassen.compute import PRODUCTS, StrassenPlan
from tvmbuild.schedules.winograd.compute import WinogradPlan, depth_of, filtering_of
from tvmbuild.support.weights import Prefer, Weights
from tvmbuild.target.target import Target

_SINGLE, _HALF = 4, 2


@dataclass(frozen=True)
class StoredPlan:
    """How a convolution is computed and stored.

    Attributes:
        plan: the algorithm.
        half: whether its weights are stored as float16.
        reason: why not, "" where they are or nobody asked.
    """

    plan: Conv2dPlan
    half: bool = False
    reason: str = ""


def choose(geometry: Conv2dGeometry, kernel: Array, target: Target, storage: Storage) -> StoredPlan:
    """Return the plan that a build's wishes for its weights lead to.

    Args:
        geometry: the convolution.
        kernel: its weights, OIHW, float32.
        target: the board.
        storage: the wishes.
    """
    refusal = why_not_half(kernel, target) if storage.weights.halves else ""
    halves = [True, False] if storage.weights.halves and not refusal else [False]
    found = [
        StoredPlan(plan, half, "" if half else refusal)
        for plan in [plan_conv2d(geometry, target), *possible(geometry, target, "float32")]
        for half in halves
    ]
    if storage.prefer is Prefer.SIZE:
        found = [each for each in found if stored_bytes(geometry, each) <= _SINGLE * kernel.size]
    forced = storage.weights is Weights.FP16

    def price(each: StoredPlan) -> float:
        gain = LEAST_GAIN if isinstance(each.plan, WinogradPlan | StrassenPlan) else 0.0
        return cycles(geometry, each, target) / (1 - gain)

    found.sort(key=lambda each: (forced and not each.half, price(each)))
    best = next(each for each in found if _is_exact_enough(geometry, kernel, each))
    return StoredPlan(best.plan, best.half, refusal or ("" if best.half or not len(halves) > 1 else DOES_NOT_PAY))


def stored_bytes(geometry: Conv2dGeometry, stored: StoredPlan) -> int:
    """Return the bytes of a convolution's stored weights, before channels are rounded up to whole blocks."""
    return stored_elements(geometry, stored.plan) * (_HALF if stored.half else _SINGLE)


def stored_elements(geometry: Conv2dGeometry, plan: Conv2dPlan) -> int:
    """Return the weights that a plan stores, before channels are rounded up to whole blocks."""
    g = geometry
    if isinstance(plan, WinogradPlan):
        return filtering_of(g, plan.m, plan.phases).weights ** 2 * depth_of(g, plan.phases) * g.out_channels
    count = math.prod(g.kernel) * g.group_in * g.out_channels
    return PRODUCTS * count // 4 if isinstance(plan, StrassenPlan) else count


def cycles(geometry: Conv2dGeometry, stored: StoredPlan, target: Target) -> float:
    """Return predicted cycles of a convolution on all of a board's cores."""
    elements = stored_elements(geometry, stored.plan)
    first_way = elements * _SINGLE * caches(target).stream
    computing = cost_of(geometry, stored.plan, target, "float32") - first_way
    if stored.half:
        computing += widening_cycles(geometry, stored.plan, target)
    return computing / target.cores + stored_bytes(geometry, stored) / LINE * line_cycles(target)


def widening_cycles(geometry: Conv2dGeometry, plan: Conv2dPlan, target: Target) -> float:
    """Return the cycles in which a convolution widens its weights, added over the cores."""
    g = geometry
    if isinstance(plan, WinogradPlan | StrassenPlan):
        high = -(-g.out_height // plan.m) if isinstance(plan, WinogradPlan) else g.out_height
        chunks = max(1, high // plan.chunk)
        uses = plan.tiles / chunks / plan.tile.columns
        each = min(AHEAD_CYCLES, IN_REGISTERS_CYCLES * uses)
        return g.batch * chunks * stored_elements(g, plan) / vector_unit(target).lanes * each
    blocks = g.groups * -(-g.group_out // plan.tile.channels)
    spatial = (g.batch, g.out_height, plan.columns, blocks, plan.tile.channels)
    reduction = (*g.kernel, padded_depth(g.group_in, g.groups, target))
    tiles = Tiles.of(spatial, reduction, plan.tile, target)
    return plan_widening(tiles, target, g.macs >= PARALLEL_MACS).extra


def _is_exact_enough(geometry: Conv2dGeometry, kernel: Array, stored: StoredPlan) -> bool:
    """Whether a plan's error stays under the limit; the definition's was measured before."""
    if not isinstance(stored.plan, WinogradPlan | StrassenPlan):
        return True
    limit = MAX_ROUNDING if stored.half else MAX_ERROR[np.dtype(np.float32).name]
    return relative_error(geometry, kernel, stored.plan, half_weights=stored.half) <= limit
