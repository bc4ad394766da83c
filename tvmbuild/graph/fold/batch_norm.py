"""Fold BatchNorm into the operator before it.

At inference BatchNorm is affine per channel: s = gamma / sqrt(variance + epsilon), t = beta - s mean. It vanishes in a
convolution, transposed convolution or matrix product, with or without bias, that nobody else reads. Anywhere else it
becomes one multiplication and one addition with constants, which fuse into the kernel around them.
"""

from __future__ import annotations

import numpy as np
from tvm import relax

from tvmbuild.graph.counted import Uncounted, rewrite_counted
from tvmbuild.graph.fold.affine import Affine, apply, channel_constant, find_linear
from tvmbuild.graph.report import Kept, PassReport
from tvmbuild.graph.rewriter import (
    Call,
    Expr,
    IRModule,
    Rewriter,
    Var,
    array,
    is_constant,
    shape_of,
)


def fold_batch_norm(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Fold every BatchNorm with constant parameters, or turn it into multiply and add."""

    def rule(rewriter: Rewriter, var: Var, value: Expr) -> Expr | Uncounted | None:
        if not isinstance(value, relax.TupleGetItem):
            return None
        norm = rewriter.producer_of(value.tuple_value, "nn.batch_norm")
        if norm is None:
            return None
        if value.index != 0:
            # Running mean and variance: unchanged at inference.
            return Uncounted(norm.args[2 + value.index])
        outcome = _fold(rewriter, norm)
        if not isinstance(outcome, str):
            return outcome
        instead = _as_multiply_add(rewriter, norm) if _has_constant_parameters(norm) else None
        return Uncounted(instead, Kept(var.name, outcome))

    return rewrite_counted(mod, "fold_batch_norm", "BatchNorm folded", rule)


def _has_constant_parameters(norm: Call) -> bool:
    return all(is_constant(arg) for arg in norm.args[1:]) and not norm.attrs.training


def _fold(rewriter: Rewriter, norm: Call) -> Expr | str:
    if not _has_constant_parameters(norm):
        return "its parameters are not constant"
    linear = find_linear(rewriter, norm.args[0])
    if isinstance(linear, str):
        return linear
    if _axis(norm) != linear.axis:
        return f"it normalizes axis {_axis(norm)}, and the channels of the {linear.name} are axis {linear.axis}"
    affine = _affine(norm)
    if not (np.all(np.isfinite(affine.scale)) and np.all(np.isfinite(affine.shift))):
        return "its parameters are not finite"
    return apply(rewriter, linear, affine)


def _axis(norm: Call) -> int:
    return int(norm.attrs.axis) % len(shape_of(norm.args[0]))


def _affine(norm: Call) -> Affine:
    gamma, beta, mean, variance = (array(arg).astype(np.float64) for arg in norm.args[1:])
    with np.errstate(all="ignore"):
        scale = (gamma if norm.attrs.scale else 1.0) / np.sqrt(variance + float(norm.attrs.epsilon))
        return Affine(scale, (beta if norm.attrs.center else 0.0) - scale * mean)


def _as_multiply_add(rewriter: Rewriter, norm: Call) -> Expr:
    affine, data, axis = _affine(norm), norm.args[0], _axis(norm)
    scaled = rewriter.emit(relax.op.multiply(data, channel_constant(affine.scale, data, axis)), "scaled")
    return relax.op.add(scaled, channel_constant(affine.shift, data, axis))
