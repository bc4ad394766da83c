"""Compute with NumPy what depends on constants alone.

Compiling each constant expression, as TVM's FoldConstant does, took 8-13 s on real models; the same operators on a few
hundred small arrays take milliseconds here. Element-wise operators have their NumPy function in ``operators.py``; one
that is neither there nor here is left to run on the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from tvmbuild.graph.counted import rewrite_counted
from tvmbuild.graph.operators import operator
from tvmbuild.graph.report import PassReport
from tvmbuild.graph.rewriter import (
    Call,
    Expr,
    IRModule,
    Rewriter,
    Var,
    array,
    constant,
    dtype_of,
    is_constant,
    op_name,
    shape_of,
    split_sections,
)

Array = np.ndarray[Any, Any]

#: A folded constant may be this much larger than its operands, or this many bytes: a broadcast or tile of a small
#: constant is cheaper to compute than to ship.
GROWTH_LIMIT = 2
SIZE_LIMIT = 1 << 16


def fold_constants(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Replace operators on constants (and shapes of tensors) by their value."""

    def rule(rewriter: Rewriter, _var: Var, value: Expr) -> Expr | None:
        return evaluate(rewriter, value)

    return rewrite_counted(mod, "fold_constants", "constant operators computed", rule)


def evaluate(rewriter: Rewriter, value: Expr) -> Expr | None:
    """Return the constant that ``value`` always has, or None."""
    if isinstance(value, relax.TupleGetItem):
        return _piece(rewriter, value)
    name = op_name(value)
    if name == "shape_to_tensor":
        return _shape_tensor(rewriter, value.args[0])
    if not name or not value.args or not all(_known(arg) for arg in value.args):
        return None
    if not isinstance(value.ty, relax.TensorType):
        return None
    operands = [array(arg) for arg in value.args if is_constant(arg)]
    if isinstance(value.args[0], relax.Tuple):
        operands = [array(field) for field in value.args[0].fields]
    compute = operator(name).evaluate
    with np.errstate(all="ignore"):
        result = compute(*operands) if compute else STRUCTURAL.get(name, _unknown)(value, *operands)
    if result is None or _too_large(result, operands):
        return None
    return constant(np.asarray(result).astype(dtype_of(value), copy=False).reshape(shape_of(value)))


def _known(arg: Expr) -> bool:
    if isinstance(arg, relax.Tuple):
        return all(is_constant(field) for field in arg.fields)
    return is_constant(arg) or isinstance(arg, relax.ShapeExpr)


def _too_large(result: Array, operands: list[Array]) -> bool:
    return result.nbytes > SIZE_LIMIT and result.nbytes > GROWTH_LIMIT * sum(item.nbytes for item in operands)


def _shape_tensor(rewriter: Rewriter, shape: Expr) -> Expr | None:
    source = rewriter.producer(shape)
    if op_name(source) == "shape_of":
        return constant(np.array(shape_of(source.args[0]), dtype="int64"))  # type: ignore[union-attr]
    if isinstance(shape, relax.ShapeExpr):
        return constant(np.array([int(size) for size in shape.values], dtype="int64"))
    return None


def _piece(rewriter: Rewriter, value: Expr) -> Expr | None:
    """Return field ``index`` of the split of a constant."""
    source = rewriter.producer(value.tuple_value)
    if op_name(source) != "split" or not is_constant(source.args[0]):  # type: ignore[union-attr]
        return None
    assert source is not None
    sections = split_sections(source)
    return constant(np.array_split(array(source.args[0]), sections, axis=int(source.attrs.axis))[value.index])


def _unknown(_call: Call, *_operands: Array) -> None:
    return None


def _divide(call: Call, left: Array, right: Array) -> Array | None:
    if np.issubdtype(left.dtype, np.integer):
        # ONNX truncates towards zero, NumPy floors.
        return None if np.any(right == 0) else np.asarray(np.trunc(left / right))
    return np.divide(left, right)


def _permute(call: Call, data: Array) -> Array:
    axes = call.attrs.axes
    return np.transpose(data, None if axes is None else [int(axis) for axis in axes])


def _to_result_shape(call: Call, data: Array) -> Array:
    return data.reshape(shape_of(call))


def _take(call: Call, data: Array, indices: Array) -> Array | None:
    axis = call.attrs.axis
    if axis is None:
        return None
    return np.take(data, indices, axis=int(axis), mode="wrap")


def _along(parameter: Array, data: Array, call: Call) -> Array:
    """Return a scale or zero point so that it broadcasts along its axis of ``data``."""
    shape = [1] * data.ndim
    if parameter.size > 1:
        shape[int(call.attrs.axis)] = -1
    return parameter.reshape(shape)


def _quantize(call: Call, data: Array, scale: Array, zero: Array) -> Array | None:
    """Weights that a model stores as floats become the integers that it computes with."""
    ends = np.iinfo(dtype_of(call)) if dtype_of(call).lstrip("u").startswith("int") else None
    steps = np.rint(data / _along(scale, data, call)) + _along(zero, data, call)
    return np.clip(steps, ends.min, ends.max) if ends and np.isfinite(steps).all() else None


def _dequantize(call: Call, data: Array, scale: Array, zero: Array) -> Array | None:
    """A bias becomes real numbers; weights stay the integers that they are."""
    if data.dtype != np.int32:
        return None
    return (data - _along(zero, data, call)).astype(np.float32) * _along(scale, data, call)


#: Operators that are more than a NumPy function of their operands.
STRUCTURAL: dict[str, Callable[..., Array | None]] = {
    "divide": _divide,
    "quantize": _quantize,
    "dequantize": _dequantize,
    "permute_dims": _permute,
    "reshape": _to_result_shape,
    "expand_dims": _to_result_shape,
    "squeeze": _to_result_shape,
    "flatten": _to_result_shape,
    "broadcast_to": lambda call, data: np.broadcast_to(data, shape_of(call)),
    "astype": lambda call, data: data.astype(dtype_of(call)),
    "concat": lambda call, *parts: np.concatenate(parts, axis=int(call.attrs.axis or 0)),
    "take": _take,
    "sum": lambda call, data: np.sum(data, axis=_axes(call), dtype=data.dtype),
    "mean": lambda call, data: np.asarray(np.mean(data, axis=_axes(call), dtype=np.float64)),
}


def _axes(call: Call) -> tuple[int, ...] | None:
    return None if call.attrs.axis is None else tuple(int(axis) for axis in call.attrs.axis)
