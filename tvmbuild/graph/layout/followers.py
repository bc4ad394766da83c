"""Operators that follow the layout of what they read: element-wise, reductions, concatenations, slices, reshapes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from tvmbuild.graph.layout.views import inverse, permuted, reshape_units, see, view_of
from tvmbuild.graph.operators import Kind, Layout, operator
from tvmbuild.graph.rewriter import (
    Call,
    Expr,
    Rewriter,
    array,
    constant,
    is_constant,
    op_name,
    shape_of,
    split_sections,
)


def follow(rewriter: Rewriter, value: Expr) -> Expr | None:
    """Return an operator on views as a view of the operator on their sources, or None where that gains nothing."""
    if isinstance(value, relax.TupleGetItem):
        return _piece(rewriter, value)
    row = operator(op_name(value))
    rule = _BY_KIND.get(row.kind) if row.layout is Layout.BY_KIND else FOLLOWER_RULES.get(row.name)
    return rule(rewriter, value) if rule and isinstance(value.ty, relax.TensorType) else None


def _elementwise(rewriter: Rewriter, call: Call) -> Expr | None:
    shape = shape_of(call)
    tensors = [arg for arg in call.args if isinstance(arg.ty, relax.TensorType)]
    axes = _common_axes(rewriter, [arg for arg in tensors if not is_constant(arg) and shape_of(arg) == shape])
    if axes is None:
        return None
    order = inverse(axes)
    args = [_operand(rewriter, arg, order) if isinstance(arg.ty, relax.TensorType) else arg for arg in call.args]
    return see(rewriter.emit(relax.Call(call.op, args, call.attrs, call.ty_args), "moved"), axes)


def _common_axes(rewriter: Rewriter, operands: list[Expr]) -> tuple[int, ...] | None:
    """Return the transposition that operands of full size share; one of NHWC prevails over half of them."""
    views = [view_of(rewriter, operand) for operand in operands]
    seen = [view.axes for view in views if view is not None]
    if not seen:
        return None
    if all(view is not None and view.axes == seen[0] for view in views):
        return seen[0]
    last = [view for view in views if view is not None and view.is_channels_last]
    return last[0].axes if 2 * len(last) >= len(operands) else None


def _operand(rewriter: Rewriter, arg: Expr, order: list[int]) -> Expr:
    """Return an operand of any rank in the order of axes that the operator's source has."""
    shape = shape_of(arg)
    if int(np.prod(shape)) == 1 and is_constant(arg):
        return arg
    if len(shape) < len(order):
        padded = (1,) * (len(order) - len(shape)) + shape
        if is_constant(arg):
            arg = constant(array(arg).reshape(padded))
        else:
            arg = rewriter.emit(relax.op.reshape(arg, padded), "padded")
    return permuted(rewriter, arg, order)


def _prelu(rewriter: Rewriter, call: Call) -> Expr | None:
    view = view_of(rewriter, call.args[0])
    if view is None:
        return None
    result = relax.op.nn.prelu(view.source, call.args[1], axis=view.map_axis(int(call.attrs.axis)))
    return see(rewriter.emit(result, "prelu"), view.axes)


def _quantization(rewriter: Rewriter, call: Call) -> Expr | None:
    """The axis of scale and zero point moves along."""
    view = view_of(rewriter, call.args[0])
    if view is None:
        return None
    result = getattr(relax.op, op_name(call))(
        view.source, *call.args[1:], axis=view.map_axis(int(call.attrs.axis)), out_dtype=call.attrs.out_dtype
    )
    return see(rewriter.emit(result, op_name(call)), view.axes)


def _softmax(rewriter: Rewriter, call: Call) -> Expr | None:
    view = view_of(rewriter, call.args[0])
    if view is None:
        return None
    softmax = getattr(relax.op.nn, op_name(call).removeprefix("nn."))
    result = softmax(view.source, axis=view.map_axis(int(call.attrs.axis)))
    return see(rewriter.emit(result, "softmax"), view.axes)


def _reduction(rewriter: Rewriter, call: Call) -> Expr | None:
    view = view_of(rewriter, call.args[0])
    if view is None or call.attrs.axis is None:
        return None
    rank = len(view.axes)
    reduced = sorted(view.map_axis(int(axis)) for axis in call.attrs.axis)
    keep = bool(call.attrs.keepdims)
    result = rewriter.emit(getattr(relax.op, op_name(call))(view.source, reduced, keepdims=keep), op_name(call))
    if keep:
        return see(result, view.axes)
    left = [axis for axis in range(rank) if axis not in reduced]
    axes = [left.index(axis) for axis in view.axes if axis not in reduced]
    return see(result, axes) if axes != sorted(axes) else result


def _concat(rewriter: Rewriter, call: Call) -> Expr | None:
    if not isinstance(call.args[0], relax.Tuple):
        return None
    fields = list(call.args[0].fields)
    axes = _common_axes(rewriter, [field for field in fields if not is_constant(field)])
    if axes is None:
        return None
    order = inverse(axes)
    axis = axes[int(call.attrs.axis) % len(axes)]
    parts = [permuted(rewriter, field, order) for field in fields]
    return see(rewriter.emit(relax.op.concat(parts, axis=axis), "concat"), axes)


def _piece(rewriter: Rewriter, value: Expr) -> Expr | None:
    """A field of the split of a view is a view of the field of the split of its source."""
    split = rewriter.producer_of(value.tuple_value, "split")
    view = view_of(rewriter, split.args[0]) if split is not None else None
    if split is None or view is None:
        return None
    where = split_sections(split)
    # One split a field; common subexpressions are joined later.
    pieces = rewriter.emit(relax.op.split(view.source, where, axis=view.map_axis(int(split.attrs.axis))), "split")
    return see(rewriter.emit(relax.TupleGetItem(pieces, value.index), "piece"), view.axes)


def _slice(rewriter: Rewriter, call: Call) -> Expr | None:
    view = view_of(rewriter, call.args[0])
    fields = [[int(item.value) for item in arg.fields] for arg in call.args[1:] if isinstance(arg, relax.Tuple)]
    if view is None or len(fields) != len(call.args) - 1:
        return None
    axes = [view.map_axis(axis) for axis in fields[0]]
    result = relax.op.strided_slice(view.source, axes, *fields[1:], assume_inbound=bool(call.attrs.assume_inbound))
    return see(rewriter.emit(result, "slice"), view.axes)


def _pad(rewriter: Rewriter, call: Call) -> Expr | None:
    view = view_of(rewriter, call.args[0])
    if view is None:
        return None
    width = [int(size) for size in call.attrs.pad_width]
    pairs = [width[2 * axis : 2 * axis + 2] for axis in inverse(view.axes)]
    flat = [size for pair in pairs for size in pair]
    result = relax.op.nn.pad(view.source, flat, call.attrs.pad_mode, float(call.attrs.pad_value))
    return see(rewriter.emit(result, "pad"), view.axes)


def _permute(rewriter: Rewriter, call: Call) -> Expr | None:
    """Two transpositions are one, or none."""
    view = view_of(rewriter, call.args[0])
    if view is None:
        return None
    rank = len(view.axes)
    own = range(rank - 1, -1, -1) if call.attrs.axes is None else [int(axis) % rank for axis in call.attrs.axes]
    axes = [view.axes[axis] for axis in own]
    return view.source if axes == sorted(axes) else see(view.source, axes)


def _reshape(rewriter: Rewriter, call: Call) -> Expr | None:
    old, new = shape_of(call.args[0]), shape_of(call)
    view = view_of(rewriter, call.args[0])
    if view is None:
        return None
    moved = reshape_units(rewriter, view, old, new)
    return moved if moved is not None else _reshape_channels(rewriter, call.args[0], old, new)


def _reshape_channels(rewriter: Rewriter, data: Expr, old: tuple[int, ...], new: tuple[int, ...]) -> Expr | None:
    """Splitting or joining channels (as a channel shuffle does) leaves rows and columns alone in NHWC as well."""
    if min(len(old), len(new)) < 4 or old[0] != new[0] or old[-2:] != new[-2:]:
        return None
    channels_first = [0, len(old) - 2, len(old) - 1, *range(1, len(old) - 2)]
    source = permuted(rewriter, data, channels_first)
    result = rewriter.emit(relax.op.reshape(source, (new[0], *new[-2:], *new[1:-2])), "channels")
    return see(result, [0, *range(3, len(new)), 1, 2])


def _matmul(rewriter: Rewriter, call: Call) -> Expr | None:
    """A flattened image times constant weights: the weights' rows take the order of NHWC instead of the image."""
    flat = rewriter.producer_of(call.args[0], "reshape")
    view = view_of(rewriter, flat.args[0]) if flat is not None else None
    weight = call.args[1]
    if flat is None or view is None or not is_constant(weight) or len(shape_of(weight)) != 2:
        return None
    batch, *rest = shape_of(flat.args[0])
    if view.axes[0] != 0 or shape_of(flat) != (batch, int(np.prod(rest))):
        return None
    source = rewriter.emit(relax.op.reshape(view.source, shape_of(flat)), "flat")
    order = inverse(view.axes)
    rows = array(weight).reshape(1, *rest, -1).transpose([*order, len(order)]).reshape(shape_of(weight))
    return relax.op.matmul(source, constant(rows), out_dtype=call.attrs.out_dtype)


_Rule = Callable[[Rewriter, Call], "Expr | None"]

_BY_KIND: dict[Kind, _Rule] = {Kind.ELEMENTWISE: _elementwise, Kind.REDUCTION: _reduction}

#: Rules of the operators that follow in a way of their own (``Layout.OWN``).
FOLLOWER_RULES: dict[str, _Rule] = {
    "nn.prelu": _prelu,
    "quantize": _quantization,
    "dequantize": _quantization,
    "nn.softmax": _softmax,
    "nn.log_softmax": _softmax,
    "concat": _concat,
    "strided_slice": _slice,
    "nn.pad": _pad,
    "matmul": _matmul,
    "permute_dims": _permute,
    "reshape": _reshape,
}
