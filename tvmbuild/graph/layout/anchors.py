"""Operators on images and sequences, in NHWC: convolutions, pooling, resizing."""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax

from tvmbuild.graph.layout.views import FROM_LAST, View, channels_last, reshape_units, see, view_of
from tvmbuild.graph.rewriter import Call, Expr, Rewriter, array, constant, is_constant, shape_of


def _ints(values: Expr) -> list[int]:
    return [int(value) for value in values]


def _conv2d(rewriter: Rewriter, call: Call) -> Expr | None:
    attrs = call.attrs
    if str(attrs.data_layout) != "NCHW" or str(attrs.kernel_layout) != "OIHW":
        return None
    result = relax.op.nn.conv2d(
        channels_last(rewriter, call.args[0]),
        call.args[1],
        strides=_ints(attrs.strides),
        padding=_ints(attrs.padding),
        dilation=_ints(attrs.dilation),
        groups=int(attrs.groups),
        data_layout="NHWC",
        kernel_layout="OIHW",
        out_dtype=attrs.out_dtype,
    )
    return see(rewriter.emit(result, "conv2d"), FROM_LAST)


def _conv2d_transpose(rewriter: Rewriter, call: Call) -> Expr | None:
    attrs = call.attrs
    if str(attrs.data_layout) != "NCHW" or str(attrs.kernel_layout) != "IOHW":
        return None
    result = relax.op.nn.conv2d_transpose(
        channels_last(rewriter, call.args[0]),
        call.args[1],
        strides=_ints(attrs.strides),
        padding=_ints(attrs.padding),
        output_padding=_ints(attrs.output_padding),
        dilation=_ints(attrs.dilation),
        groups=int(attrs.groups),
        data_layout="NHWC",
        kernel_layout="IOHW",
        out_dtype=attrs.out_dtype,
    )
    return see(rewriter.emit(result, "conv2d_transpose"), FROM_LAST)


def _conv1d(rewriter: Rewriter, call: Call) -> Expr | None:
    """A sequence is an image of one row."""
    attrs = call.attrs
    if str(attrs.data_layout) != "NCW" or str(attrs.kernel_layout) != "OIW" or not is_constant(call.args[1]):
        return None
    batch, channels, width = shape_of(call.args[0])
    view = view_of(rewriter, call.args[0]) or View(call.args[0], (0, 1, 2))
    image = reshape_units(rewriter, view, (batch, channels, width), (batch, channels, 1, width))
    if image is None:
        return None
    kernel = array(call.args[1])
    before, after = _ints(attrs.padding)
    result = relax.op.nn.conv2d(
        channels_last(rewriter, rewriter.emit(image, "row")),
        constant(kernel[:, :, None, :]),
        strides=[1, int(attrs.strides[0])],
        padding=[0, before, 0, after],
        dilation=[1, int(attrs.dilation[0])],
        groups=int(attrs.groups),
        data_layout="NHWC",
        kernel_layout="OIHW",
        out_dtype=attrs.out_dtype,
    )
    image = rewriter.emit(result, "conv2d")
    _, _, width, channels = shape_of(image)
    sequence = rewriter.emit(relax.op.reshape(image, (batch, width, channels)), "sequence")
    return see(sequence, [0, 2, 1])


def _pool(name: str) -> Callable[[Rewriter, Call], Expr | None]:
    def rule(rewriter: Rewriter, call: Call) -> Expr | None:
        attrs = call.attrs
        if str(attrs.layout) != "NCHW":
            return None
        operator = getattr(relax.op.nn, name)
        result = operator(
            channels_last(rewriter, call.args[0]),
            pool_size=_ints(attrs.pool_size),
            strides=_ints(attrs.strides),
            padding=_ints(attrs.padding),
            dilation=_ints(attrs.dilation),
            ceil_mode=bool(attrs.ceil_mode),
            count_include_pad=bool(attrs.count_include_pad),
            layout="NHWC",
        )
        return see(rewriter.emit(result, name), FROM_LAST)

    return rule


def _adaptive(rewriter: Rewriter, call: Call) -> Expr | None:
    if str(call.attrs.layout) != "NCHW":
        return None
    size = shape_of(call)[2:]
    data = channels_last(rewriter, call.args[0])
    result = relax.op.nn.adaptive_avg_pool2d(data, size, layout="NHWC")
    return see(rewriter.emit(result, "adaptive_avg_pool2d"), FROM_LAST)


def _resize(rewriter: Rewriter, call: Call) -> Expr | None:
    attrs = call.attrs
    if str(attrs.layout) != "NCHW":
        return None
    result = relax.op.image.resize2d(
        channels_last(rewriter, call.args[0]),
        call.args[1],
        roi=tuple(float(value) for value in attrs.roi),
        layout="NHWC",
        method=attrs.method,
        coordinate_transformation_mode=attrs.coordinate_transformation_mode,
        rounding_method=attrs.rounding_method,
        cubic_alpha=float(attrs.cubic_alpha),
        cubic_exclude=int(attrs.cubic_exclude),
        extrapolation_value=float(attrs.extrapolation_value),
        out_dtype=attrs.out_dtype,
    )
    return see(rewriter.emit(result, "resize2d"), FROM_LAST)


#: Rules of the operators that ask for NHWC (``Layout.ANCHOR``); each returns the NHWC operator seen as NCHW, or None
#: where it cannot.
ANCHOR_RULES: dict[str, Callable[[Rewriter, Call], Expr | None]] = {
    "nn.conv1d": _conv1d,
    "nn.conv2d": _conv2d,
    "nn.conv2d_transpose": _conv2d_transpose,
    "nn.max_pool2d": _pool("max_pool2d"),
    "nn.avg_pool2d": _pool("avg_pool2d"),
    "nn.adaptive_avg_pool2d": _adaptive,
    "image.resize2d": _resize,
}
