"""Decides, layer by layer, whether weights lie in the library as float16, and keeps what was decided.

A weight rounded to float16 is off by at most 2**-11 of itself, so an output of a layer by at most 2**-11 times
sum |w| |x| over its inputs. That bound is measured on the layer's own weights, output channel by output channel, since
it does not hold for subnormal numbers (below 6.1e-5); a weight beyond 65504 would become infinite. A layer that misses
it stays as it is. Computing stays in float32, and the sums are those of the rounded weights.

Transformed weights are rounded after their transform; what that costs is measured on a sample. Of Winograd's
algorithm F(2x2) of 3x3 loses 3e-4 of the largest output, little more than the definition (2e-4), but F(3x3) 2e-3,
F(4x4) 4e-3 and F(5x5) 6e-3, as their transforms back multiply the errors. bfloat16 would lose eight times as much
everywhere (1.6e-3 by the definition), and save 0.75 of the 2.75 cycles of widening a vector on a Cortex-A72, none on
a Cortex-A53; its way from memory costs 6 as float32, for all cores together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tvmbuild.schedules.cache import LINE, caches
from tvmbuild.schedules.gemm.packing import Array
from tvmbuild.support.weights import Prefer, Weights
from tvmbuild.target.target import Target

#: Largest share of sum |w| that rounding may change in an output channel: what it is for float16's normal numbers. It
#: is the limit for what transformed weights lose of a layer's largest output as well.
MAX_ROUNDING = 2.0**-11

#: The same of the largest sum of any channel, which is allowed in channels of next to no weights: what an algorithm in
#: float32 may lose (``conv2d_plan.MAX_ERROR``).
NEGLIGIBLE = 2e-5

_LARGEST = float(np.finfo(np.float16).max)

#: Reason of a layer that could be stored as float16 and is not.
DOES_NOT_PAY = "it would not be faster"

_SAVED_BYTES = 2


@dataclass(frozen=True)
class StoredLayer:
    """How the weights of a layer lie in the library.

    Attributes:
        workload: the layer, for people.
        algorithm: what they are arranged for ("direct", "winograd4", "strassen", "matmul").
        elements: weights in the model.
        bytes: in the library.
        half: whether as float16.
        reason: why not, "" where they are or nobody asked.
    """

    workload: str
    algorithm: str
    elements: int
    bytes: int
    half: bool
    reason: str = ""


@dataclass(frozen=True)
class Storage:
    """What a build wants of its weights, and how each layer's came to lie: ``layers`` grows as layers are legalized.

    Attributes:
        weights: the form.
        prefer: speed or size.
        layers: what was stored, in the order of the layers.
    """

    weights: Weights = Weights.FP32
    prefer: Prefer = Prefer.SPEED
    layers: list[StoredLayer] = field(default_factory=list)

    @property
    def is_plain(self) -> bool:
        """Whether nothing is asked for but speed in float32."""
        return self.weights is Weights.FP32 and self.prefer is Prefer.SPEED

    def form(self, weight: Array, target: Target, widening: Callable[[], float]) -> tuple[bool, str]:
        """Return whether weights are to be stored as float16, and why not where that was asked for.

        Args:
            weight: shape (outputs, ...), as stored.
            target: the board.
            widening: gives the cycles in which the layer would widen them, added over the cores.
        """
        if not self.weights.halves or weight.dtype != np.float32:
            return False, ""
        reason = why_not_half(weight, target)
        if not reason and self.weights is Weights.AUTO and gained_cycles(weight.size, widening(), target) <= 0:
            reason = DOES_NOT_PAY
        return not reason, reason

    def constant(
        self, packed: Array, half: bool, workload: str, algorithm: str, elements: int, reason: str = ""
    ) -> Any:
        """Return packed weights as a constant of Relax in the form decided; arguments as of ``StoredLayer``."""
        from tvm import relax

        stored = packed.astype(np.float16) if half else packed
        self.layers.append(StoredLayer(workload, algorithm, elements, stored.nbytes, half, reason))
        return relax.const(stored)


def why_not_half(weight: Array, target: Target) -> str:
    """Return why weights cannot be stored as float16, "" where they can.

    Args:
        weight: shape (outputs, ...), float32.
        target: the board.
    """
    if not target.widens_halves:
        return "the board's cores cannot widen float16"
    share = rounding_share(weight)
    if np.isinf(share):
        return f"it has weights beyond float16's largest, {_LARGEST:.0f}"
    if share > MAX_ROUNDING:
        return "it has an output of weights below float16's normal numbers"
    return ""


def rounding_share(weight: Array) -> float:
    """Return the largest share of an output's weights that rounding to float16 changes: of sum |w|.

    Args:
        weight: shape (outputs, ...).

    Returns:
        At most ``MAX_ROUNDING`` where all weights are normal numbers of float16 or zero; infinite where one becomes
        infinite or is no number.
    """
    sizes = np.abs(weight.astype(np.float64)).reshape(len(weight), -1)
    if not sizes.size:
        return 0.0
    if not np.all(sizes <= _LARGEST):
        return float("inf")
    lost = np.abs(sizes - sizes.astype(np.float16)).sum(axis=1)
    sums = sizes.sum(axis=1)
    counted = np.maximum(sums, NEGLIGIBLE / MAX_ROUNDING * sums.max())
    return float((lost / np.where(counted, counted, 1.0)).max())


def gained_cycles(elements: int, extra: float, target: Target) -> float:
    """Return the cycles that a layer takes less, on all cores, if its stored weights are halves.

    Args:
        elements: stored weights.
        extra: cycles of widening, added over the cores.
        target: the board.
    """
    return elements * _SAVED_BYTES / LINE * line_cycles(target) - extra / target.cores


def line_cycles(target: Target) -> float:
    """Return the cycles that a line from memory takes for all cores together."""
    c = caches(target)
    # What all cores wait for counts once for each of them, where the table of cores charges for it.
    return c.stream * LINE / (c.cores if c.is_known else 1)
