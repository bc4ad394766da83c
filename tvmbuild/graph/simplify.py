"""Remove what computes nothing: identities, pairs that cancel, and moves of data that stay in place.

Operators that only change the shape become one reshape, which costs nothing at run time; a transposition whose axes
longer than one keep their order is such an operator too.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from tvm import relax

from tvmbuild.graph.counted import rewrite_counted
from tvmbuild.graph.operators import Kind, Operator, operator
from tvmbuild.graph.report import PassReport
from tvmbuild.graph.rewriter import (
    Call,
    Expr,
    IRModule,
    Rewriter,
    Var,
    array,
    dtype_of,
    is_constant,
    op_name,
    shape_of,
)

_Simplifier = Callable[[Rewriter, Call], "Expr | None"]


def simplify(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Apply every rule of this file to ``main``."""
    return rewrite_counted(mod, "simplify", "operators simplified", _simplified)


def _simplified(rewriter: Rewriter, _var: Var, value: Expr) -> Expr | None:
    if isinstance(value, relax.TupleGetItem):
        return _field(rewriter, value)
    name = op_name(value)
    if not name or not isinstance(value.ty, relax.TensorType):
        return None
    row = operator(name)
    if row.kind is Kind.RESHAPE:
        return _reshape(rewriter, value)
    if row.neutral is not None:
        return _without_neutral(row, value)
    rule = _RULES.get(name)
    return rule(rewriter, value) if rule else None


def _field(rewriter: Rewriter, value: Expr) -> Expr | None:
    source = value.tuple_value
    source = source if isinstance(source, relax.Tuple) else rewriter.producer(source)
    if isinstance(source, relax.Tuple):
        return source.fields[value.index]
    if op_name(source) == "nn.dropout" and value.index == 0:
        return source.args[0]  # type: ignore[union-attr]
    return None


def _reshape(rewriter: Rewriter, value: Call) -> Expr | None:
    data, shape = value.args[0], shape_of(value)
    inner = rewriter.producer_of(data, "reshape")
    source = inner.args[0] if inner is not None else data
    if shape_of(source) == shape:
        return source
    if source is data and op_name(value) == "reshape":
        return None
    return relax.op.reshape(source, shape)


def _permute(rewriter: Rewriter, value: Call) -> Expr | None:
    data, shape = value.args[0], shape_of(value.args[0])
    axes = _axes(value)
    inner = rewriter.producer_of(data, "permute_dims")
    if inner is not None:
        axes = [_axes(inner)[axis] for axis in axes]
        data, shape = inner.args[0], shape_of(inner.args[0])
    if axes == sorted(axes):
        return data
    long_axes = [axis for axis in axes if shape[axis] != 1]
    if long_axes == sorted(long_axes):
        return relax.op.reshape(data, shape_of(value))
    return None if inner is None else relax.op.permute_dims(data, axes)


def _axes(value: Call) -> list[int]:
    rank = len(shape_of(value.args[0]))
    if value.attrs.axes is None:
        return list(reversed(range(rank)))
    return [int(axis) % rank for axis in value.attrs.axes]


def _without_neutral(row: Operator, value: Call) -> Expr | None:
    """Drop an operand that is neutral everywhere."""
    pairs = [(value.args[0], value.args[1])]
    if row.commutes:
        pairs.append((value.args[1], value.args[0]))
    for data, other in pairs:
        if is_constant(other) and _same_type(data, value) and np.all(array(other) == row.neutral):
            return data
    return None


def _same_type(left: Expr, right: Expr) -> bool:
    return shape_of(left) == shape_of(right) and dtype_of(left) == dtype_of(right)


def _identity_if_same(_rewriter: Rewriter, value: Call) -> Expr | None:
    return value.args[0] if _same_type(value.args[0], value) else None


def _slice(_rewriter: Rewriter, value: Call) -> Expr | None:
    strides = value.args[4].fields if len(value.args) > 4 else ()
    if any(int(stride.value) != 1 for stride in strides):
        return None
    return _identity_if_same(_rewriter, value)


def _concat(rewriter: Rewriter, value: Call) -> Expr | None:
    """A concatenation of one is that one; nested ones on the same axis are one."""
    if not isinstance(value.args[0], relax.Tuple):
        return None
    parts = list(value.args[0].fields)
    if len(parts) == 1:
        return parts[0]
    rank = len(shape_of(value))
    axis = int(value.attrs.axis or 0) % rank
    flat: list[Expr] = []
    for part in parts:
        inner = rewriter.producer_of(part, "concat")
        nested = inner is not None and isinstance(inner.args[0], relax.Tuple) and rewriter.uses(part) == 1
        if inner is not None and nested and int(inner.attrs.axis or 0) % rank == axis:
            flat.extend(inner.args[0].fields)
        else:
            flat.append(part)
    return relax.op.concat(relax.Tuple(flat), axis=axis) if len(flat) > len(parts) else None


def _take(_rewriter: Rewriter, value: Call) -> Expr | None:
    """Taking one element of an axis of length one only removes the axis."""
    data, indices = value.args
    axis = value.attrs.axis
    if axis is None or shape_of(data)[int(axis)] != 1 or not is_constant(indices) or array(indices).size != 1:
        return None
    return relax.op.reshape(data, shape_of(value))


_OF_TWO = {"sum": relax.op.add, "max": relax.op.maximum, "min": relax.op.minimum}


def _of_stack(rewriter: Rewriter, value: Call) -> Expr | None:
    """A reduction over stacked tensors (the importer's form of ONNX's Sum, Max, Min) is a chain of operators on two."""
    stack = rewriter.producer_of(value.args[0], "stack")
    combine = _OF_TWO.get(op_name(value))
    if stack is None or combine is None or value.attrs.keepdims or value.attrs.axis is None:
        return None
    rank = len(shape_of(stack))
    if not isinstance(stack.args[0], relax.Tuple) or [int(axis) % rank for axis in value.attrs.axis] != [
        int(stack.attrs.axis) % rank
    ]:
        return None
    total, *others = stack.args[0].fields
    for number, other in enumerate(others, 1):
        total = combine(total, other)
        if number < len(others):
            total = rewriter.emit(total, "partial")
    return total


def _reduction(rewriter: Rewriter, value: Call) -> Expr | None:
    """The mean, sum, maximum or minimum over axes of length one is the tensor itself."""
    chain = _of_stack(rewriter, value)
    if chain is not None:
        return chain
    data, shape = value.args[0], shape_of(value)
    if shape_of(data) == shape:
        return data
    return relax.op.reshape(data, shape) if np.prod(shape_of(data)) == np.prod(shape) else None


def _global_pool(_rewriter: Rewriter, value: Call) -> Expr | None:
    """Average pooling to one element per channel is a mean."""
    rank = len(shape_of(value))
    layout = str(value.attrs.layout)
    if not layout.startswith("NC") or any(size != 1 for size in shape_of(value)[2:]):
        return None
    return relax.op.mean(value.args[0], axis=list(range(2, rank)), keepdims=True)


_RULES: dict[str, _Simplifier] = {
    "permute_dims": _permute,
    "astype": _identity_if_same,
    "broadcast_to": _identity_if_same,
    "nn.pad": _identity_if_same,
    "strided_slice": _slice,
    "concat": _concat,
    "take": _take,
    "mean": _reduction,
    "sum": _reduction,
    "max": _reduction,
    "min": _reduction,
    "nn.adaptive_avg_pool1d": _global_pool,
    "nn.adaptive_avg_pool2d": _global_pool,
    "nn.adaptive_avg_pool3d": _global_pool,
}
