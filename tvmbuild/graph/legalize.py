"""Computes for operators that TVM legalizes badly or not at all, for when the kernel library has none of its own."""

from __future__ import annotations

import math
from typing import Any

from tvm import relax, te, topi


def fallback_legalizations() -> dict[str, Any]:
    """Return legalizations by operator name."""
    return {"relax.nn.conv2d_transpose": _conv2d_transpose, "relax.nn.layer_norm": _layer_norm}


def _conv2d_transpose(builder: Any, call: Any) -> Any:
    """NHWC by way of TVM's NCHW compute."""
    if str(call.attrs.data_layout) != "NHWC":
        return relax.transform.legalize_ops.nn._nn_conv2d_transpose(builder, call)
    attrs = call.attrs
    strides, padding, output_padding, dilation = (
        [int(value) for value in values]
        for values in (attrs.strides, attrs.padding, attrs.output_padding, attrs.dilation)
    )

    def compute(data: Any, kernel: Any) -> Any:
        if dilation != [1, 1]:
            kernel = topi.nn.dilate(kernel, [1, 1, *dilation])
        first = topi.transpose(data, [0, 3, 1, 2])
        result = topi.nn.group_conv2d_transpose_nchw(
            first, kernel, strides, padding, call.ty.dtype, output_padding, int(attrs.groups)
        )
        return topi.transpose(result, [0, 2, 3, 1])

    return builder.call_te(compute, *call.args, primfunc_name_hint="conv2d_transpose")


def _layer_norm(builder: Any, call: Any) -> Any:
    """Take the variance from centered values: TVM's E[x^2] - E[x]^2 cancels where the mean is large.

    float16 is summed in float32, and the result is float16 again: what reads it counts on its type.
    """
    rank = len(call.args[0].ty.shape)
    axes = sorted(int(axis) % rank for axis in call.attrs.axes)
    center, scale, epsilon = bool(call.attrs.center), bool(call.attrs.scale), float(call.attrs.epsilon)

    count = math.prod(int(call.args[0].ty.shape[axis]) for axis in axes)
    dtype = str(call.ty.dtype)
    wide = "float32" if dtype == "float16" else dtype

    def compute(*operands: Any) -> Any:
        data, gamma, beta = (operand if dtype == wide else topi.cast(operand, wide) for operand in operands)
        mean = topi.sum(data, axes, keepdims=True)
        centered = te.compute(data.shape, lambda *i: data(*i) - mean(*_kept(i, axes)) / float(count), name="centered")
        square = te.compute(data.shape, lambda *i: centered(*i) * centered(*i), name="square")
        total = topi.sum(square, axes, keepdims=True)

        def normalized(*i: Any) -> Any:
            value = centered(*i) / te.sqrt(total(*_kept(i, axes)) / float(count) + epsilon)
            own = [i[axis] for axis in axes]
            value = value * gamma(*own) if scale else value
            value = value + beta(*own) if center else value
            return value if dtype == wide else value.astype(dtype)

        return te.compute(data.shape, normalized, name="layer_norm")

    return builder.call_te(compute, *call.args, primfunc_name_hint="layer_norm")


def _kept(indices: Any, axes: list[int]) -> list[Any]:
    """Return the indices of a reduction's result that keeps its axes."""
    return [0 if axis in axes else index for axis, index in enumerate(indices)]
