"""Turns depthwise convolutions of multiplier 1 into our compute, with the weights in rows of channels."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvmbuild.schedules.legalize.conv2d import geometry_of, oihw
from tvmbuild.schedules.legalize.relax_calls import call_compute, constant_value
from tvmbuild.schedules.loops import depthwise


def legalize(builder: Any, call: Any) -> Any | None:
    """Legalize a depthwise convolution with constant weights; None for any other call."""
    from tvm import relax

    geometry = geometry_of(call)
    weight = constant_value(call.args[1])
    if geometry is None or weight is None or not geometry.is_depthwise:
        return None
    if geometry.out_channels != geometry.in_channels:
        return None
    kernel = oihw(weight, str(call.attrs.kernel_layout))[:, 0].transpose(1, 2, 0)
    packed = relax.const(np.ascontiguousarray(kernel))
    return call_compute(builder, lambda x, w: depthwise.compute(x, w, geometry), call.args[0], packed, name="depthwise")
