"""Turns transposed convolutions into convolutions by sub-pixel phases, so that no inserted zero is multiplied.

With stride s, output y depends on the taps k = (y + pad) mod s, + s, + 2s, ...: the outputs of one remainder (one
*phase*) are an ordinary convolution of the input with every s-th tap (W. Shi et al., "Is the deconvolution layer the
same as a convolutional layer?", 2016). Where the stride divides the kernel all phases have equally many taps and
become the output channels of one convolution; otherwise each phase is one of its own. A last pass interleaves them
and takes bias and activation with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tvmbuild.schedules.gemm.packing import Array
from tvmbuild.schedules.legalize import conv2d as legalize_conv2d
from tvmbuild.schedules.legalize.relax_calls import constant_value, is_float, static_shape
from tvmbuild.schedules.legalize.storage import Storage
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class Phase:
    """One remainder of the output index along one axis.

    Attributes:
        remainder: (output index + padding) mod stride.
        taps: taps of the kernel with that remainder.
        first: quotient of the first output, (output index + padding) // stride.
        count: quotients computed.
        before: zeros that the convolution adds before the input.
        after: zeros that it adds after.
    """

    remainder: int
    taps: int
    first: int
    count: int
    before: int
    after: int


def phases(extent: int, kernel: int, stride: int, padding: int, out_extent: int) -> tuple[Phase, ...]:
    """Describe the phases of one axis.

    Args:
        extent: input positions.
        kernel: taps.
        stride: upsampling factor.
        padding: outputs cut off at the start.
        out_extent: output positions.
    """
    first = padding // stride
    count = (out_extent - 1 + padding) // stride - first + 1
    found = []
    for remainder in range(stride):
        taps = -(-(kernel - remainder) // stride)
        before = taps - 1 - first
        found.append(Phase(remainder, taps, first, count, before, count + taps - 1 - extent - before))
    return tuple(found)


def legalize(builder: Any, call: Any, target: Target, storage: Storage | None = None) -> Any:
    """Legalize a transposed convolution (NHWC, float32 or float16)."""
    plan = _plan(call)
    weight = constant_value(call.args[1])
    if plan is None or weight is None:
        return _by_zero_insertion(builder, call)
    rows, columns = plan
    layout = str(call.attrs.kernel_layout)
    kernel = weight.transpose([layout.index(axis) for axis in "IOHW"])
    strides = (len(rows), len(columns))
    if len({row.taps for row in rows}) == 1 and len({column.taps for column in columns}) == 1:
        stacked = np.concatenate([_phase_kernel(kernel, row, column, strides) for row in rows for column in columns])
        parts = [_convolve(builder, call.args[0], stacked, rows[0], columns[0], target, storage)]
    else:
        parts = [
            _convolve(builder, call.args[0], _phase_kernel(kernel, row, column, strides), row, column, target, storage)
            for row in rows
            for column in columns
        ]
    shape = static_shape(call)
    assert shape is not None
    padding = (int(call.attrs.padding[0]), int(call.attrs.padding[1]))
    return builder.call_te(
        lambda *computed: _interleave(computed, shape, padding, rows, columns), *parts, primfunc_name_hint="interleave"
    )


def _plan(call: Any) -> tuple[tuple[Phase, ...], tuple[Phase, ...]] | None:
    """Return the phases of rows and columns, None for a call that is not covered."""
    attributes = call.attrs
    data, out = static_shape(call.args[0]), static_shape(call)
    if data is None or out is None or str(attributes.data_layout) != "NHWC":
        return None
    if int(attributes.groups) != 1 or any(int(value) != 1 for value in attributes.dilation):
        return None
    if not is_float(call):
        return None
    weight, layout = static_shape(call.args[1]), str(attributes.kernel_layout)
    assert weight is not None
    axes = []
    for axis in (0, 1):
        kernel = weight[layout.index("HW"[axis])]
        stride = int(attributes.strides[axis])
        axes.append(phases(data[1 + axis], kernel, stride, int(attributes.padding[axis]), out[1 + axis]))
    # A phase without a tap, or that skips inputs, is no convolution.
    if any(phase.taps < 1 or phase.before < 0 or phase.after < 0 for axis in axes for phase in axis):
        return None
    return axes[0], axes[1]


def _phase_kernel(kernel: Array, row: Phase, column: Phase, strides: tuple[int, int]) -> Array:
    """Return the taps of a phase as OIHW, flipped: the last tap meets the first input."""
    taps = kernel[:, :, row.remainder :: strides[0], column.remainder :: strides[1]]
    return np.ascontiguousarray(taps[:, :, ::-1, ::-1].transpose(1, 0, 2, 3))


def _convolve(
    builder: Any, data: Any, kernel: Array, row: Phase, column: Phase, target: Target, storage: Storage | None
) -> Any:
    from tvm import relax

    call = relax.op.nn.conv2d(
        data,
        relax.const(kernel),
        padding=(row.before, column.before, row.after, column.after),
        data_layout="NHWC",
        kernel_layout="OIHW",
    )
    return builder.emit(legalize_conv2d.legalize(builder, builder.normalize(call), target, storage=storage))


def _interleave(
    computed: tuple[Any, ...],
    shape: tuple[int, ...],
    padding: tuple[int, int],
    rows: tuple[Phase, ...],
    columns: tuple[Phase, ...],
) -> Any:
    from tvm import te

    channels = shape[3]

    def element(n: Any, y: Any, x: Any, c: Any) -> Any:
        down, right = y + padding[0], x + padding[1]
        m, k = down // len(rows) - rows[0].first, right // len(columns) - columns[0].first
        phase = down % len(rows) * len(columns) + right % len(columns)
        if len(computed) == 1:
            return computed[0][n, m, k, phase * channels + c]
        value = computed[-1][n, m, k, c]
        for index in range(len(computed) - 2, -1, -1):
            value = te.if_then_else(phase == index, computed[index][n, m, k, c], value)
        return value

    return te.compute(shape, element, name="interleave")


def _by_zero_insertion(builder: Any, call: Any) -> Any:
    """Legalize what phases do not cover (groups, dilation, gaps between taps) by TVM's compute, NCHW inside."""
    from tvm import relax, topi

    if str(call.attrs.data_layout) != "NHWC":
        return call.op.get_attr("FLegalize")(builder, call)
    attributes = call.attrs
    strides, padding, extra, dilation = (
        [int(value) for value in values]
        for values in (attributes.strides, attributes.padding, attributes.output_padding, attributes.dilation)
    )

    def compute(data: Any, kernel: Any) -> Any:
        spread = topi.nn.dilate(kernel, [1, 1, *dilation]) if dilation != [1, 1] else kernel
        planes = topi.transpose(data, [0, 3, 1, 2])
        result = topi.nn.group_conv2d_transpose_nchw(
            planes, spread, strides, padding, str(call.ty.dtype), extra, int(attributes.groups)
        )
        return topi.transpose(result, [0, 2, 3, 1])

    kernel = call.args[1]
    layout = str(attributes.kernel_layout)
    if layout != "IOHW":
        kernel = relax.op.permute_dims(kernel, [layout.index(axis) for axis in "IOHW"])
    return builder.call_te(compute, call.args[0], kernel, primfunc_name_hint="conv2d_transpose")
