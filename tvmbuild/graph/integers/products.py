"""Convolutions and matrix products of int8 codes by int8 weights, as int32 sums.

sum((q - zero) w) = sum(q w) - zero sum(w): the zero point of the input becomes an offset for each output channel, known
at build time. Where a window reaches beyond the input, the border holds the code of zero, so that the same holds there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from tvm import relax

from tvmbuild.graph.fold.affine import Array
from tvmbuild.graph.integers.quantized import Codes, Term, Value, Weights
from tvmbuild.graph.operators import Kind, operator
from tvmbuild.graph.rewriter import Call, Expr, constant, op_name, shape_of
from tvmbuild.target.target import Target

#: Largest sum that the int32 accumulator may reach, offset included.
_LARGEST = 2**31 - 1


class IntegerKernels(Protocol):
    """The integer products of a kernel library. Each returns one call; the result is int32."""

    def emit_conv2d(
        self,
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
        """Return the convolution of int8 NHWC data by constant int8 OIHW weights."""

    def emit_matmul(self, builder: Any, data: Any, weight: Any, *, target: Target) -> Any:
        """Return the product of int8 [..., M, K] by constant int8 [K, N]."""


def integer_weights(call: Call, weights: Weights) -> tuple[Array, ...] | str:
    """Return the int8 weights of a product, in two parts to be added if need be, or why it cannot be in integers."""
    channel_axis = 0 if op_name(call) == "nn.conv2d" else 1
    if max(weights.scale.size, weights.zero.size) > 1 and weights.axis != channel_axis:
        return "its weights have a scale for each input channel"
    centered = weights.centered()
    if centered is None:
        return "its weights less their zero point need more than 8 bits"
    depth = centered[0][0].size if channel_axis == 0 else len(centered[0])
    if depth * 255 * 128 > _LARGEST:
        return "its sums can leave int32"
    return centered


def product(
    builder: relax.BlockBuilder, kernels: IntegerKernels, call: Call, codes: Codes, integers: Array, target: Target
) -> Expr:
    """Return the call of the integer kernel."""
    weight = constant(integers)
    if op_name(call) == "matmul":
        return kernels.emit_matmul(builder, codes.tensor, weight, target=target)
    attrs = call.attrs
    strides, padding, dilation = (
        [int(value) for value in values] for values in (attrs.strides, attrs.padding, attrs.dilation)
    )
    return kernels.emit_conv2d(
        builder,
        codes.tensor,
        weight,
        strides=strides,
        padding=padding,
        dilation=dilation,
        groups=int(attrs.groups),
        pad_value=codes.zero,
        target=target,
    )


def value_of_sums(sums: Expr, call: Call, codes: Codes, parts: tuple[Array, ...], weights: Weights) -> Value:
    """Return what the int32 sums of a product stand for."""
    integers = sum(part.astype(np.int64) for part in parts)
    assert isinstance(integers, np.ndarray)
    inner = tuple(range(1, integers.ndim)) if op_name(call) == "nn.conv2d" else 0
    offset = -codes.zero * integers.sum(axis=inner)
    return Value((Term(sums, offset, codes.scale * weights.scale),))


def with_bias(value: Value, bias: Array) -> Value:
    """Add a real bias, [] or [channels]: to the integers if they can hold it, else to the shift."""
    term = value.terms[0]
    steps = np.rint(bias / term.factor)
    offset = term.offset + steps
    if len(value.terms) == 1 and not np.any(value.shift) and np.abs(offset).max(initial=0) < _LARGEST // 2:
        return Value((Term(term.tensor, offset.astype(np.int64), term.factor),))
    return Value(value.terms, value.shift + bias)


def macs_of(call: Call) -> int:
    """Return the multiply-accumulates of a convolution, transposed convolution or matrix product."""
    data, weight = (shape_of(arg) for arg in call.args[:2])
    kind = operator(op_name(call)).kind
    if kind is Kind.PRODUCT:
        return math.prod(shape_of(call)) * data[-1]
    layout = str(call.attrs.kernel_layout)
    if kind is Kind.TRANSPOSED:
        return math.prod(data) * math.prod(weight) // weight[layout.index("I")]
    return math.prod(shape_of(call)) * math.prod(weight) // weight[layout.index("O")]
