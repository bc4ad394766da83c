"""Turns ``relax.nn.conv2d`` (NHWC, constant weights) into our computes, with the weights packed now."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import numpy as np

from tvmbuild.schedules.gemm import compute as tiled_compute
from tvmbuild.schedules.gemm.packing import Array, pack_conv2d
from tvmbuild.schedules.gemm.tile_plan import padded_depth
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize import conv2d_plan, conv2d_storage
from tvmbuild.schedules.legalize.conv2d_choices import Plans, name_of, planned
from tvmbuild.schedules.legalize.conv2d_storage import StoredPlan
from tvmbuild.schedules.legalize.relax_calls import (
    call_compute,
    constant_value,
    is_float,
    static_shape,
    stock_legalization,
)
from tvmbuild.schedules.legalize.storage import Storage
from tvmbuild.schedules.strassen import compute as strassen_compute
from tvmbuild.schedules.strassen.compute import StrassenPlan
from tvmbuild.schedules.winograd import compute as winograd_compute
from tvmbuild.schedules.winograd.compute import WinogradPlan
from tvmbuild.schedules.winograd.transform import pack_kernel, phase_kernel
from tvmbuild.target.target import Target


def legalize(
    builder: Any, call: Any, target: Target, plans: Plans = MappingProxyType({}), storage: Storage | None = None
) -> Any:
    """Legalize a convolution as planned, else by rule; one that our computes do not cover stays TVM's.

    Args:
        builder: of the function.
        call: the convolution.
        target: the board.
        plans: names of plans; where a build has wishes for its weights, these decide instead.
        storage: the wishes; None for none.
    """
    geometry = geometry_of(call)
    weight = constant_value(call.args[1])
    if geometry is None or geometry.is_depthwise or weight is None:
        return stock_legalization(builder, call)
    kernel = oihw(weight, str(call.attrs.kernel_layout))
    storage = storage or Storage()
    if storage.is_plain or kernel.dtype != np.float32:
        plan = planned(plans, geometry, kernel, target) or conv2d_plan.choose(geometry, kernel, target)
        stored = StoredPlan(plan)
    else:
        stored = conv2d_storage.choose(geometry, kernel, target, storage)
    return _emit(builder, call.args[0], kernel, geometry, stored, storage, target)


def _emit(
    builder: Any,
    data: Any,
    kernel: Array,
    geometry: Conv2dGeometry,
    stored: StoredPlan,
    storage: Storage,
    target: Target,
) -> Any:
    """Emit a convolution as planned, with its weights packed for that."""
    plan = stored.plan

    def constant(packed: Array) -> Any:
        return storage.constant(packed, stored.half, geometry.workload, name_of(plan), kernel.size, stored.reason)

    if isinstance(plan, WinogradPlan):
        filtering = winograd_compute.filtering_of(geometry, plan.m, plan.phases)
        packed = pack_kernel(phase_kernel(kernel, plan.phases), filtering, plan.tile.channels)
        return call_compute(
            builder,
            lambda x, w: winograd_compute.conv2d(x, w, geometry, plan),
            *(data, constant(packed)),
            name="conv2d_winograd",
        )
    if isinstance(plan, StrassenPlan):
        packed = strassen_compute.pack_kernel(kernel, plan.tile.channels, plan.lanes)
        return call_compute(
            builder,
            lambda x, w: strassen_compute.conv2d(x, w, geometry, plan),
            *(data, constant(packed)),
            name="conv2d_strassen",
        )
    depth = padded_depth(geometry.group_in, geometry.groups, target)
    padded = np.pad(kernel, ((0, 0), (0, depth - geometry.group_in), (0, 0), (0, 0)))
    packed = pack_conv2d(padded, plan.tile.channels, geometry.groups)
    return call_compute(
        builder, lambda x, w: tiled_compute.conv2d(x, w, geometry, plan), data, constant(packed), name="conv2d"
    )


def geometry_of(call: Any) -> Conv2dGeometry | None:
    """Return the geometry of a float NHWC convolution of static shape, None for any other."""
    attributes = call.attrs
    data, weight = (static_shape(argument) for argument in call.args)
    if str(attributes.data_layout) != "NHWC" or str(attributes.out_layout or "NHWC") != "NHWC":
        return None
    if data is None or weight is None or not is_float(call):
        return None
    layout = str(attributes.kernel_layout)
    padding = [int(value) for value in attributes.padding]
    geometry = Conv2dGeometry(
        batch=data[0],
        height=data[1],
        width=data[2],
        in_channels=data[3],
        out_channels=weight[layout.index("O")],
        kernel=(weight[layout.index("H")], weight[layout.index("W")]),
        stride=(int(attributes.strides[0]), int(attributes.strides[1])),
        dilation=(int(attributes.dilation[0]), int(attributes.dilation[1])),
        padding=(padding[0], padding[1], padding[2], padding[3]),
        groups=int(attributes.groups),
    )
    return geometry if min(geometry.out_height, geometry.out_width) > 0 else None


def oihw(weight: Array, layout: str) -> Array:
    """Return weights of a layout such as "HWIO" as OIHW."""
    transposed: Array = weight.transpose([layout.index(axis) for axis in "OIHW"])
    return transposed
