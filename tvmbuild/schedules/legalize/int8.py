"""Emits integer convolutions and matrix products, with the weights packed now."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tvmbuild.schedules.gemm.packing import Array
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.int8 import compute as int8_compute
from tvmbuild.schedules.int8 import depthwise as depthwise_int8
from tvmbuild.schedules.int8 import packing as int8_packing
from tvmbuild.schedules.int8.form import Int8Form, int8_form
from tvmbuild.schedules.int8.plan import plan_conv2d, plan_matmul
from tvmbuild.schedules.legalize.relax_calls import call_compute, constant_value, static_shape
from tvmbuild.target.target import Target


def emit_conv2d(
    builder: Any,
    data: Any,
    weight: Any,
    *,
    strides: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
    groups: int,
    pad_value: int,
    target: Target,
) -> Any:
    """Return a call that convolves int8 with int8 to int32, exactly.

    Args:
        builder: the ``relax.BlockBuilder``.
        data: int8 NHWC of static shape.
        weight: int8 OIHW constant.
        strides: step in rows and columns.
        padding: at the top, left, bottom and right.
        dilation: distance between taps in rows and columns.
        groups: groups of channels.
        pad_value: what the padding holds, the zero point of ``data``.
        target: the board.

    Returns:
        A ``relax.Call``, int32 NHWC.
    """
    from tvm import relax

    kernel = _constant(weight)
    batch, height, width, channels = _shape(data)
    geometry = Conv2dGeometry(
        *(batch, height, width, channels, kernel.shape[0]),
        kernel=(kernel.shape[2], kernel.shape[3]),
        stride=(int(strides[0]), int(strides[1])),
        dilation=(int(dilation[0]), int(dilation[1])),
        padding=(int(padding[0]), int(padding[1]), int(padding[2]), int(padding[3])),
        groups=int(groups),
    )
    form = _form_for(kernel, target)
    if geometry.is_depthwise:
        return _depthwise(builder, data, kernel, geometry, pad_value)
    plan = plan_conv2d(geometry, form)
    if plan.im2col:
        packed = int8_packing.pack_im2col(kernel, plan.channels, plan.run, plan.runs)
    else:
        packed = int8_packing.pack_conv2d(kernel, plan.channels, plan.run, plan.runs, geometry.groups)

    def compute(x: Any, w: Any) -> Any:
        return int8_compute.conv2d(x, w, geometry, plan, pad_value)

    return call_compute(builder, compute, data, relax.const(packed.astype(form.element)), name="int8_conv2d")


def _depthwise(builder: Any, data: Any, kernel: Array, geometry: Conv2dGeometry, pad_value: int) -> Any:
    from tvm import relax

    pairs = not _has_least(kernel)
    packed = int8_packing.pack_depthwise(kernel, depthwise_int8.lanes_of(geometry.out_channels))

    def compute(x: Any, w: Any) -> Any:
        return depthwise_int8.compute(x, w, geometry, pad_value, pairs)

    return call_compute(builder, compute, data, relax.const(packed), name="int8_depthwise")


def emit_matmul(builder: Any, data: Any, weight: Any, *, target: Target) -> Any:
    """Return a call that multiplies int8 (..., M, K) by an int8 constant (K, N) to int32 (..., M, N), exactly.

    Args:
        builder: the ``relax.BlockBuilder``.
        data: int8 of static shape.
        weight: int8 constant.
        target: the board.
    """
    from tvm import relax

    matrix = _constant(weight)
    depth, columns = matrix.shape
    form = _form_for(matrix, target)
    plan = plan_matmul(int(np.prod(_shape(data)[:-1])), depth, columns, form)
    packed = int8_packing.pack_matrix(matrix, plan.channels, plan.run, plan.runs)

    def compute(x: Any, w: Any) -> Any:
        return int8_compute.matmul(x, w, columns, plan)

    return call_compute(builder, compute, data, relax.const(packed.astype(form.element)), name="int8_matmul")


def _form_for(weight: Array, target: Target) -> Int8Form:
    """Return the form for weights: two products with -128 * -128 among them do not fit 16 bits."""
    form = int8_form(target)
    return form.safe if _has_least(weight) else form


def _has_least(weight: Array) -> bool:
    return bool((weight == np.iinfo(np.int8).min).any())


def _constant(expression: Any) -> Array:
    value = constant_value(expression)
    if value is None or str(value.dtype) != "int8":
        raise ValueError("integer kernels take int8 constants as weights")
    return value


def _shape(expression: Any) -> tuple[int, ...]:
    shape = static_shape(expression)
    if shape is None:
        raise ValueError("integer kernels take inputs of static shape")
    return shape
