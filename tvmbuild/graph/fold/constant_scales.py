"""Fold constant additions and multiplications into the operator before them.

A sum, difference, product, quotient or negation with a constant that is the same over each channel is affine, so it
vanishes in a convolution, transposed convolution or matrix product that nobody else reads (the learnable affine blocks
of PaddlePaddle's models are such pairs, and so is a bias that an exporter wrote as a node of its own).
"""

from __future__ import annotations

import numpy as np

from tvmbuild.graph.counted import Uncounted, rewrite_counted
from tvmbuild.graph.fold.affine import Affine, Array, Linear, apply, find_linear, is_linear, per_channel
from tvmbuild.graph.operators import operator
from tvmbuild.graph.report import Kept, PassReport
from tvmbuild.graph.rewriter import Expr, IRModule, Rewriter, Var, is_constant, op_name, shape_of

#: What reads the first two operators of a hard sigmoid, clip(s x + t, 0, 1); they are no bias that failed to fold.
_ACTIVATION_READERS = (("add",), ("clip",))


def fold_affine(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Fold every constant affine operator that directly follows a linear one."""

    def rule(rewriter: Rewriter, var: Var, value: Expr) -> Expr | Uncounted | None:
        operand = _operand(value)
        if operand is None or not _follows_linear(rewriter, operand):
            return None
        outcome = _fold(rewriter, value, operand)
        if not isinstance(outcome, str):
            return outcome
        is_activation = rewriter.readers(var) in _ACTIVATION_READERS
        return None if is_activation else Uncounted(kept=Kept(var.name, outcome))

    return rewrite_counted(mod, "fold_affine", "constant scales and shifts folded", rule)


def _operand(value: Expr) -> Expr | None:
    """Return the argument that is not constant, of an operator with exactly one such."""
    if not operator(op_name(value)).affine:
        return None
    varying = [arg for arg in value.args if not is_constant(arg)]
    return varying[0] if len(varying) == 1 else None


def _follows_linear(rewriter: Rewriter, expr: Expr) -> bool:
    value = rewriter.producer(expr)
    if op_name(value) == "add" and is_constant(value.args[1]):  # type: ignore[union-attr]
        value = rewriter.producer(value.args[0])  # type: ignore[union-attr]
    if value is None or not is_linear(value):
        return False
    # What is added to a quantized product becomes part of its epilogue (quantize.py).
    return all(rewriter.producer_of(arg, "dequantize") is None for arg in value.args)


def _fold(rewriter: Rewriter, value: Expr, operand: Expr) -> Expr | str | None:
    linear = find_linear(rewriter, operand)
    if isinstance(linear, str):
        return linear
    if shape_of(value) != shape_of(operand):
        return "its constant enlarges the result"
    affine = _affine(value, linear)
    if isinstance(affine, str):
        return affine
    is_plain_bias = op_name(value) == "add" and linear.bias is None and not is_constant(value.args[0])
    if is_plain_bias and affine.shift.size == linear.channels:
        return None  # Already in the form that folding produces.
    return apply(rewriter, linear, affine)


def _affine(value: Expr, linear: Linear) -> Affine | str:
    name = op_name(value)
    one, zero = np.ones(1), np.zeros(1)
    if name == "negative":
        return Affine(-one, zero)
    constant_first = is_constant(value.args[0])
    vector = per_channel(value.args[0 if constant_first else 1], len(shape_of(value)), linear.axis, linear.channels)
    if vector is None:
        return "its constant is not one per channel"
    return _binary(name, vector, constant_first)


def _binary(name: str, vector: Array, constant_first: bool) -> Affine | str:
    one, zero = np.ones(1), np.zeros(1)
    if name == "add":
        return Affine(one, vector)
    if name == "subtract":
        return Affine(-one, vector) if constant_first else Affine(one, -vector)
    if name == "multiply":
        return Affine(vector, zero) if np.all(np.isfinite(vector)) else "its constant is not finite"
    if constant_first:
        return "it divides by the result"
    return "its constant has a zero" if np.any(vector == 0) else Affine(1 / vector, zero)
