"""Integer convolutions and matrix products: int8 times int8 constants, accumulated in int32."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.relax_calls import call_compute, constant_value, static_shape
from tvmbuild.target import Target


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
    """Return the call of an integer convolution.

    Args:
        builder: the ``relax.BlockBuilder`` that takes the kernel.
        data: int8, NHWC.
        weight: constant int8, OIHW.
        strides: step in rows and columns.
        padding: added at the top, left, bottom and right.
        dilation: distance between taps in rows and columns.
        groups: number of groups.
        pad_value: what the border is filled with, the code of zero.
        target: the board.

    Returns:
        int32, NHWC; sums of products without any offset.
    """
    from tvm import relax

    kernel = constant_value(weight)
    shape = static_shape(data)
    assert kernel is not None
    assert shape is not None
    geometry = Conv2dGeometry(
        batch=shape[0],
        height=shape[1],
        width=shape[2],
        in_channels=shape[3],
        out_channels=kernel.shape[0],
        kernel=(kernel.shape[2], kernel.shape[3]),
        stride=(strides[0], strides[1]),
        dilation=(dilation[0], dilation[1]),
        padding=(padding[0], padding[1], padding[2], padding[3]),
        groups=groups,
    )
    packed = relax.const(np.ascontiguousarray(kernel.transpose(2, 3, 1, 0)))
    return call_compute(builder, lambda x, w: _conv2d(x, w, geometry, pad_value), data, packed, name="int8_conv2d")


def emit_matmul(builder: Any, data: Any, weight: Any, *, target: Target) -> Any:
    """Return the call of an integer matrix product.

    Args:
        builder: the ``relax.BlockBuilder`` that takes the kernel.
        data: int8, [..., M, K].
        weight: constant int8, [K, N].
        target: the board.

    Returns:
        int32, [..., M, N].
    """
    return call_compute(builder, _matmul, data, weight, name="int8_matmul")


def _conv2d(data: Any, weight: Any, geometry: Conv2dGeometry, pad_value: int) -> Any:
    from tvm import te, tirx

    g = geometry
    top, left, bottom, right = g.padding

    def source(n: Any, y: Any, x: Any, c: Any) -> Any:
        inside = tirx.all(y >= top, y < g.height + top, x >= left, x < g.width + left)
        return tirx.if_then_else(inside, data[n, y - top, x - left, c], tirx.const(pad_value, "int8"))

    if g.is_padded:
        shape = (g.batch, g.height + top + bottom, g.width + left + right, g.in_channels)
        data_padded = te.compute(shape, source, name="padded")
    else:
        data_padded = data
    row, column, depth = (
        te.reduce_axis((0, extent), name=name)
        for extent, name in zip((*g.kernel, g.group_in), ("ry", "rx", "rc"), strict=True)
    )

    def product(n: Any, y: Any, x: Any, c: Any) -> Any:
        value = data_padded[
            n,
            y * g.stride[0] + row * g.dilation[0],
            x * g.stride[1] + column * g.dilation[1],
            (c // g.group_out) * g.group_in + depth,
        ]
        return te.sum(value.astype("int32") * weight[row, column, depth, c].astype("int32"), axis=[row, column, depth])

    shape = (g.batch, g.out_height, g.out_width, g.out_channels)
    return te.compute(shape, product, name="int8_conv2d")


def _matmul(data: Any, weight: Any) -> Any:
    from tvm import te

    depth = te.reduce_axis((0, weight.shape[0]), name="k")

    def product(*index: Any) -> Any:
        left = data(*index[:-1], depth).astype("int32")
        return te.sum(left * weight[depth, index[-1]].astype("int32"), axis=depth)

    return te.compute((*data.shape[:-1], weight.shape[1]), product, name="int8_matmul")
