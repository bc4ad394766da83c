"""Predicts the cycles of an integer convolution, to compare it with float32."""

from __future__ import annotations

import math

from tvmbuild.schedules.cache import caches
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.int8 import plan as int8_plan
from tvmbuild.schedules.int8.form import int8_form
from tvmbuild.target.target import Target

#: Cycles of the tiles over the bound of arithmetic (loads, starts, sums), by form. Fitted by hand to the tables of
#: docs/int8.md; forms without one there are not predicted.
_OVERHEAD = {"smull": 1.03, "sdot": 1.13}

#: Cycles to requantize and store one output, and to copy one input with its padding.
_OUTPUT_CYCLES = 1.25
_COPY_CYCLES = 0.5


def int8_cost(geometry: Conv2dGeometry, target: Target) -> float | None:
    """Return predicted cycles, or None for a core whose integer kernels were never predicted."""
    g, form, rate = geometry, int8_form(target), target.core.int8_macs
    if form.name not in _OVERHEAD or not rate:
        return None
    plan = int8_plan.plan_conv2d(g, form)
    outputs = g.batch * g.out_height * g.out_width * g.out_channels
    depth = plan.run * plan.runs * (1 if plan.im2col else math.prod(g.kernel))
    copied = g.batch * g.height * g.width * g.in_channels if g.is_padded or plan.im2col else 0
    weights = g.out_channels * depth * caches(target).stream
    return outputs * depth / rate * _OVERHEAD[form.name] + outputs * _OUTPUT_CYCLES + copied * _COPY_CYCLES + weights
