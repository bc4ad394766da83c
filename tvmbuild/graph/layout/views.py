"""Tensors seen through a transposition.

``y = permute_dims(h, p)`` is a view of h: axis j of y is axis p[j] of h. An operator that treats axes by number can
work on h instead and give a view again, with its axes renumbered. The transposition thereby moves down the graph until
it meets another one that cancels it, or an operator that insists on the order of axes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax

from tvmbuild.graph.rewriter import Expr, Rewriter, array, constant, is_constant, shape_of

#: NHWC seen as NCHW, and the reverse.
FROM_LAST = [0, 3, 1, 2]
TO_LAST = [0, 2, 3, 1]


@dataclass(frozen=True)
class View:
    """A tensor and the transposition through which the graph sees it."""

    source: Expr
    axes: tuple[int, ...]

    def map_axis(self, axis: int) -> int:
        """Return the source's axis for an axis of the view."""
        return self.axes[axis % len(self.axes)]

    @property
    def is_channels_last(self) -> bool:
        """Whether the view takes the source's last axis as its second."""
        rank = len(self.axes)
        return rank > 2 and self.axes == (0, rank - 1, *range(1, rank - 1))


def view_of(rewriter: Rewriter, expr: Expr) -> View | None:
    """Return the view that a variable is, or None."""
    value = rewriter.producer_of(expr, "permute_dims")
    if value is None:
        return None
    axes = value.attrs.axes
    rank = len(shape_of(expr))
    order = range(rank - 1, -1, -1) if axes is None else [int(axis) % rank for axis in axes]
    return View(value.args[0], tuple(order))


def inverse(axes: Sequence[int]) -> list[int]:
    """Return the transposition that undoes another."""
    return [int(axis) for axis in np.argsort(axes)]


def see(source: Expr, axes: Sequence[int]) -> Expr:
    """Return ``source`` through a transposition, as the value of a rewritten binding."""
    return relax.op.permute_dims(source, list(axes))


def permuted(rewriter: Rewriter, expr: Expr, axes: Sequence[int]) -> Expr:
    """Return a variable or constant that holds ``permute_dims(expr, axes)``, moving no data where none need move."""
    if is_constant(expr):
        return constant(np.transpose(array(expr), axes))
    view = view_of(rewriter, expr)
    if view is not None:
        expr, axes = view.source, [view.axes[axis] for axis in axes]
    axes = list(axes)
    if axes == sorted(axes):
        return expr
    shape = shape_of(expr)
    long_axes = [axis for axis in axes if shape[axis] != 1]
    if long_axes == sorted(long_axes):
        return rewriter.emit(relax.op.reshape(expr, [shape[axis] for axis in axes]), "reordered")
    return rewriter.emit(relax.op.permute_dims(expr, axes), "transposed")


def reshape_units(rewriter: Rewriter, view: View, old: Sequence[int], new: Sequence[int]) -> Expr | None:
    """Return a view's reshape from ``old`` to ``new`` as a view, if it only adds or drops axes of length one."""
    kept_old = [axis for axis, size in enumerate(old) if size != 1]
    kept_new = [axis for axis, size in enumerate(new) if size != 1]
    if [old[axis] for axis in kept_old] != [new[axis] for axis in kept_new]:
        return None
    target = dict(zip(kept_old, kept_new, strict=True))
    in_source_order = sorted(kept_old, key=lambda axis: view.axes[axis])
    units = [axis for axis, size in enumerate(new) if size == 1]
    order = units + [target[axis] for axis in in_source_order]
    source = rewriter.emit(relax.op.reshape(view.source, [new[axis] for axis in order]), "squeezed")
    return see(source, inverse(order))


def channels_last(rewriter: Rewriter, expr: Expr) -> Expr:
    """Return an NCHW tensor as NHWC."""
    return permuted(rewriter, expr, TO_LAST)
