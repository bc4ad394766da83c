"""Compute the sum of the squares of a weight that is scaled at run time as a product with a constant matrix.

The sum over a weight's axes of (s c)^2, where each element of s meets many of the constant c, is the sum over the
elements of s^2 times the sum of the c^2 that they meet: one row of a product of a vector with a matrix.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.rewrites.replacement import Emitted
from tvmbuild.onnx_model.rewrites.weight_factors import FactoredWeight, factor_weight


def square_sum(node: NodeProto, writers: Mapping[str, NodeProto], facts: Facts, emitted: Emitted) -> bool:
    """Emit the product; nothing, and False, when ``node`` is not a sum of squares of a scaled constant."""
    squared = _squared(node, writers, facts)
    if not squared:
        return False
    weight, axes = factor_weight(squared, writers, facts), _axes(node, facts)
    shape = facts.shapes.get(node.output[0])
    if weight is None or axes is None or shape is None or len(weight.factors) != 1:
        return False
    matrix = _matrix(weight, axes or tuple(range(len(weight.shape))))
    if matrix.size > weight.constant.size:
        return False
    (factor,) = weight.factors
    out = node.output[0]
    row = emitted.reshape(factor.name, (1, factor.size), f"{out}__factor")
    row = emitted.node("Reciprocal", [row], f"{out}__inverse") if factor.divides else row
    row = emitted.node("Mul", [row, row], f"{out}__square")
    product = emitted.node("MatMul", [row, emitted.constant(f"{out}__energy", matrix)], f"{out}__product")
    emitted.reshape(product, shape, out)
    return True


def _squared(node: NodeProto, writers: Mapping[str, NodeProto], facts: Facts) -> str:
    """Return the tensor whose squares a node adds, or nothing."""
    if node.op_type == "ReduceSumSquare":
        return str(node.input[0])
    square = writers.get(node.input[0]) if node.op_type == "ReduceSum" else None
    if square is None:
        return ""
    if square.op_type == "Mul" and square.input[0] == square.input[1]:
        return str(square.input[0])
    exponent = facts.array(square.input[1]) if square.op_type == "Pow" else None
    return str(square.input[0]) if exponent is not None and (exponent == 2).all() and exponent.size == 1 else ""


def _axes(node: NodeProto, facts: Facts) -> tuple[int, ...] | None:
    """Return the axes that a node adds over, none for all of them; None when they are not constant."""
    if len(node.input) > 1 and node.input[1]:
        array = facts.array(node.input[1])
        return None if array is None else tuple(int(axis) for axis in array)
    found = walk.attributes(node)
    if "noop_with_empty_axes" in found and found["noop_with_empty_axes"].i:
        return None
    return tuple(found["axes"].ints) if "axes" in found else ()


def _matrix(weight: FactoredWeight, axes: tuple[int, ...]) -> np.ndarray:
    """Return, for each element of the factor and each sum, the sum of the squares of the constants that it meets."""
    rank = len(weight.shape)
    summed = sorted(axis % rank for axis in axes)
    order = [axis for axis in range(rank) if axis not in summed] + summed
    sums = int(np.prod([size for axis, size in enumerate(weight.shape) if axis not in summed]))
    (factor,) = weight.factors
    squares = np.square(np.transpose(weight.constant, order).astype(np.float64)).reshape(sums, -1)
    elements = np.transpose(factor.index, order).reshape(sums, -1)
    cells = elements.astype(np.int64) * sums + np.arange(sums)[:, None]
    total = np.bincount(cells.ravel(), weights=squares.ravel(), minlength=factor.size * sums)
    return total.reshape(factor.size, sums).astype(weight.constant.dtype)
