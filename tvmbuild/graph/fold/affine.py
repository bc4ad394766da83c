"""The algebra that folding shares: linear operators with constant weights, and affine maps per channel.

A convolution, transposed convolution or matrix product y = W x + b followed by z = s y + t, with one s and t per output
channel, is again such an operator: W' = s W (each output channel's weights scaled), b' = s b + t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import relax

from tvmbuild.graph.operators import Kind, operator
from tvmbuild.graph.rewriter import (
    Call,
    Expr,
    Rewriter,
    array,
    constant,
    dtype_of,
    is_constant,
    op_name,
    shape_of,
)

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Affine:
    """z = scale * y + shift; both float64 of shape [C], or [1] when all channels share them."""

    scale: Array
    shift: Array


@dataclass(frozen=True)
class Linear:
    """A linear operator of the graph with what was already added to it.

    Attributes:
        call: the convolution or matrix product.
        weight_index: which argument holds the constant weights.
        channels: number of output channels.
        axis: the output's axis that counts them.
        bias: [channels] float64; None when nothing is added yet.
    """

    call: Call
    weight_index: int
    channels: int
    axis: int
    bias: Array | None

    @property
    def name(self) -> str:
        """The operator, as in the report ("conv2d")."""
        return op_name(self.call).removeprefix("nn.")


def find_linear(rewriter: Rewriter, expr: Expr) -> Linear | str:
    """Return the linear operator (with its bias) that computes ``expr``, or why there is none that may change."""
    value = rewriter.producer(expr)
    if value is None:
        return "its input is an input of the model"
    bias: Expr | None = None
    core = value
    if op_name(value) == "add" and is_constant(value.args[1]):
        inner = rewriter.producer(value.args[0])
        if is_linear(inner):
            core, bias = inner, value.args[1]
    if not is_linear(core):
        name = op_name(core).removeprefix("nn.") or "a selection"
        return f"it follows {name}, which is not a convolution or matrix product"
    linear = _describe(core)
    if isinstance(linear, str):
        return linear
    if rewriter.uses(expr) > 1 or (bias is not None and rewriter.uses(value.args[0]) > 1):
        return f"the {linear.name} before it has another consumer"
    if bias is None:
        return linear
    vector = per_channel(bias, len(shape_of(core)), linear.axis, linear.channels)
    if vector is None:
        return f"the constant added to the {linear.name} is not one per channel"
    return Linear(core, linear.weight_index, linear.channels, linear.axis, np.broadcast_to(vector, linear.channels))


def is_linear(value: Expr | None) -> bool:
    """Whether an expression is a call of a linear operator."""
    return operator(op_name(value)).is_linear


def _describe(call: Call) -> Linear | str:
    row = operator(op_name(call))
    short = row.short
    if not dtype_of(call).startswith(("float", "bfloat")):
        return f"the {short} computes in {dtype_of(call)}"
    shape = shape_of(call)
    if row.kind is Kind.PRODUCT:
        return _describe_product(call, shape)
    if not is_constant(call.args[1]):
        return f"the weights of the {short} are not constant"
    axis = 1
    if str(call.attrs.data_layout)[:2] != "NC" or str(call.attrs.kernel_layout)[:2] not in ("OI", "IO"):
        return f"the {short} is in layout {call.attrs.data_layout}"
    return Linear(call, 1, shape[axis], axis, None)


def _describe_product(call: Call, shape: tuple[int, ...]) -> Linear | str:
    left, right = call.args
    if is_constant(right) and len(shape_of(right)) >= 2:
        return Linear(call, 1, shape[-1], len(shape) - 1, None)
    if is_constant(left) and len(shape_of(left)) >= 2 and len(shape_of(right)) >= 2:
        return Linear(call, 0, shape[-2], len(shape) - 2, None)
    return "the weights of the matmul are not constant"


def per_channel(expr: Expr, rank: int, axis: int, channels: int) -> Array | None:
    """Return a constant that broadcasts along one axis as float64 [channels] or [1]; None when it is anything else."""
    value = array(expr)
    if value.ndim > rank:
        return None
    padded = value.reshape((1,) * (rank - value.ndim) + value.shape)
    if any(size != 1 for index, size in enumerate(padded.shape) if index != axis):
        return None
    return padded.astype(np.float64).ravel() if padded.size in (1, channels) else None


def apply(rewriter: Rewriter, linear: Linear, affine: Affine) -> Expr:
    """Return the operator with ``affine`` folded in, as "operator" or "operator + bias"."""
    scale = np.broadcast_to(affine.scale, linear.channels)
    bias = scale * (0.0 if linear.bias is None else linear.bias) + affine.shift
    call = linear.call
    if np.any(scale != 1):
        old = call.args[linear.weight_index]
        weight = _scaled_weight(linear, array(old).astype(np.float64), scale)
        args = list(call.args)
        args[linear.weight_index] = constant(weight.astype(dtype_of(old)))
        call = relax.Call(call.op, args, call.attrs, call.ty_args)
    if linear.bias is None and not np.any(bias):
        return call
    return relax.op.add(rewriter.emit(call, linear.name), channel_constant(bias, linear.call, linear.axis))


def channel_constant(vector: Array, like: Expr, axis: int) -> Expr:
    """Return [C] as a constant that broadcasts along ``axis`` of ``like``."""
    shape = [1] * len(shape_of(like))
    shape[axis] = -1
    return constant(np.asarray(vector).astype(dtype_of(like)).reshape(shape))


def _scaled_weight(linear: Linear, weight: Array, scale: Array) -> Array:
    kind = operator(op_name(linear.call)).kind
    if kind is Kind.PRODUCT:
        return np.asarray(weight * (scale if linear.weight_index == 1 else scale[:, None]))
    tail = (1,) * (weight.ndim - 2)
    if kind is Kind.CONVOLUTION:
        return np.asarray(weight * scale.reshape(-1, 1, *tail))
    # Transposed: [in, out / groups, ...]; the inputs of group g meet the outputs of group g.
    groups = int(linear.call.attrs.groups)
    grouped = weight.reshape(groups, -1, *weight.shape[1:])
    return np.reshape(grouped * scale.reshape(groups, 1, -1, *tail), weight.shape)
