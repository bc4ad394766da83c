"""Take a weight that is computed at run time apart: a constant, times tensors that are spread over it.

Index arrays carry the spreading: where a tensor of n elements multiplies a weight, an array of the weight's shape says
which element each weight meets. Reshapes and transpositions between that product and the convolution act on the index
arrays as on the weight itself, so that no exporter's habit of arranging axes needs a pattern of its own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from onnx import NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts


@dataclass(frozen=True)
class Factor:
    """A tensor that multiplies or divides a constant.

    Attributes:
        name: the tensor.
        size: how many elements it has.
        divides: whether the constant is divided by it.
        index: of the weight's shape, integers: which of the tensor's elements, in row-major order, each weight meets.
    """

    name: str
    size: int
    divides: bool
    index: np.ndarray


@dataclass(frozen=True)
class FactoredWeight:
    """A weight as constant times factors; index arrays and constant have one shape."""

    constant: np.ndarray
    factors: tuple[Factor, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The weight's shape."""
        return self.constant.shape

    def moved(self, move: Callable[[np.ndarray], np.ndarray]) -> FactoredWeight:
        """Return the weight after an operator that moves its elements and computes nothing."""
        factors = tuple(replace(factor, index=move(factor.index)) for factor in self.factors)
        return FactoredWeight(move(self.constant), factors)


def factor_weight(name: str, writers: Mapping[str, NodeProto], facts: Facts) -> FactoredWeight | None:
    """Return a tensor as a constant times factors, or None when it is computed in any other way.

    Args:
        name: the tensor.
        writers: the node that computes each tensor.
        facts: shapes and constants of the model.
    """
    constant = facts.array(name)
    if constant is not None:
        return FactoredWeight(constant) if constant.dtype.kind == "f" else None
    node, shape = writers.get(name), facts.shapes.get(name)
    if node is None or shape is None or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type in ("Mul", "Div"):
        return _product(node, shape, writers, facts)
    if node.op_type not in ("Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"):
        return None
    source = factor_weight(node.input[0], writers, facts)
    return None if source is None else source.moved(_mover(node, shape))


def _product(
    node: NodeProto, shape: tuple[int, ...], writers: Mapping[str, NodeProto], facts: Facts
) -> FactoredWeight | None:
    divides = node.op_type == "Div"
    left = factor_weight(node.input[0], writers, facts)
    right = None if divides else factor_weight(node.input[1], writers, facts)
    if left is None and right is None:
        return None
    spread = _spreader(shape)
    left = _as_factor(node.input[0], False, facts) if left is None else left
    right = _as_factor(node.input[1], divides, facts) if right is None else right
    if left is None or right is None:
        return None
    left, right = left.moved(spread), right.moved(spread)
    return FactoredWeight(left.constant * right.constant, left.factors + right.factors)


def _as_factor(name: str, divides: bool, facts: Facts) -> FactoredWeight | None:
    """Return a tensor that is no weight itself as a factor of one."""
    shape, dtype = facts.shapes.get(name), facts.dtypes.get(name)
    if shape is None or dtype is None:
        return None
    size = math.prod(shape)
    index = np.arange(size, dtype=np.int32).reshape(shape)
    return FactoredWeight(np.ones(shape, dtype), (Factor(name, size, divides, index),))


def _mover(node: NodeProto, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    if node.op_type == "Transpose":
        found = walk.attributes(node)
        axes = list(found["perm"].ints) if "perm" in found else None
        return lambda array: np.transpose(array, axes)
    return _spreader(shape) if node.op_type == "Expand" else lambda array: np.reshape(array, shape)


def _spreader(shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: np.broadcast_to(array, shape)
