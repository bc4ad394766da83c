"""Recognize layer normalization that an exporter wrote out.

(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) * gamma + beta over the last axes is nine operators and, since
reductions separate them, five kernels; as one operator it is one kernel that reads each row once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvmbuild.graph.counted import rewrite_counted
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
)


def recognize_layer_norm(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Replace each chain by nn.layer_norm."""

    def rule(rewriter: Rewriter, _var: Var, value: Expr) -> Expr | None:
        if op_name(value) != "add" or not isinstance(value.ty, relax.TensorType):
            return None
        return _norm(rewriter, value)

    return rewrite_counted(mod, "recognize_layer_norm", "layer normalizations found", rule)


@dataclass(frozen=True)
class _Centered:
    """x - mean(x), with what it was computed from."""

    data: Expr
    axes: tuple[int, ...]


def _norm(rewriter: Rewriter, value: Call) -> Expr | None:
    scaled, beta = _with_constant(value)
    product = rewriter.producer_of(scaled, "multiply") if scaled is not None else None
    if product is None or rewriter.uses(scaled) != 1:
        return None
    normalized, gamma = _with_constant(product)
    quotient = rewriter.producer_of(normalized, "divide") if normalized is not None else None
    if quotient is None or rewriter.uses(normalized) != 1:
        return None
    centered = _centered(rewriter, quotient.args[0])
    epsilon = _epsilon(rewriter, quotient.args[1], quotient.args[0], centered) if centered is not None else None
    if centered is None or epsilon is None:
        return None
    shape = [shape_of(centered.data)[axis] for axis in centered.axes]
    parameters = [_parameter(item, shape, dtype_of(value)) for item in (gamma, beta)]
    if any(parameter is None for parameter in parameters):
        return None
    return relax.op.nn.layer_norm(centered.data, *parameters, axes=list(centered.axes), epsilon=epsilon)


def _with_constant(call: Call) -> tuple[Expr | None, Expr | None]:
    """Return (x, c) of an operator on x and a constant c."""
    left, right = call.args
    if is_constant(left) == is_constant(right):
        return None, None
    return (right, left) if is_constant(left) else (left, right)


def _centered(rewriter: Rewriter, expr: Expr) -> _Centered | None:
    difference = rewriter.producer_of(expr, "subtract")
    mean = rewriter.producer_of(difference.args[1], "mean") if difference is not None else None
    if difference is None or mean is None or mean.args[0] != difference.args[0]:
        return None
    axes = _last_axes(mean)
    return _Centered(difference.args[0], axes) if axes else None


def _last_axes(mean: Call) -> tuple[int, ...]:
    """Return the reduced axes if they are the last ones and are kept, else nothing."""
    rank = len(shape_of(mean.args[0]))
    axes = sorted(int(axis) % rank for axis in mean.attrs.axis or ())
    is_tail = bool(axes) and axes == list(range(axes[0], rank))
    return tuple(axes) if is_tail and mean.attrs.keepdims else ()


def _epsilon(rewriter: Rewriter, deviation: Expr, difference: Expr, centered: _Centered) -> float | None:
    """Return epsilon if ``deviation`` is the square root of the variance of the same data plus that."""
    root = rewriter.producer_of(deviation, "sqrt")
    total = rewriter.producer_of(root.args[0], "add") if root is not None else None
    if total is None:
        return None
    variance, epsilon = _with_constant(total)
    mean = rewriter.producer_of(variance, "mean") if variance is not None else None
    square = rewriter.producer_of(mean.args[0], "multiply") if mean is not None else None
    if mean is None or square is None or epsilon is None or array(epsilon).size != 1:
        return None
    same = square.args[0] == difference and square.args[1] == difference
    return float(array(epsilon).ravel()[0]) if same and _last_axes(mean) == centered.axes else None


def _parameter(expr: Expr | None, shape: list[int], dtype: str) -> Expr | None:
    if expr is None:
        return None
    value = array(expr)
    if value.ndim > len(shape):
        lead = value.ndim - len(shape)
        if any(size != 1 for size in value.shape[:lead]):
            return None
        value = value.reshape(value.shape[lead:])
    return constant(np.broadcast_to(value, shape).astype(dtype))
