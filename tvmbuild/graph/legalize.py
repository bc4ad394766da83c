"""Computes for operators that TVM cannot legalize in NHWC, for when the kernel library has none of its own."""

from __future__ import annotations

from typing import Any

from tvm import relax, topi


def fallback_legalizations() -> dict[str, Any]:
    """Return legalizations by operator name."""
    return {"relax.nn.conv2d_transpose": _conv2d_transpose}


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
