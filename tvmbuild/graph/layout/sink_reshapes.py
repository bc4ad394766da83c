"""Move reshapes below element-wise operators.

A reshape between a convolution or matrix product and its bias or activation would keep them apart, since a kernel's
loops have one shape. Element-wise operators do not mind the shape: f(reshape(x), c) = reshape(f(x, c')).
"""

from __future__ import annotations

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
    is_constant,
    op_name,
    shape_of,
)


def sink_reshapes(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Move every reshape that can below the element-wise operators that alone read it."""

    def rule(rewriter: Rewriter, _var: Var, value: Expr) -> Expr | None:
        if not operator(op_name(value)).is_elementwise or not isinstance(value.ty, relax.TensorType):
            return None
        return _sink(rewriter, value)

    return rewrite_counted(mod, "sink_reshapes", "reshapes moved out of the way", rule)


def _sink(rewriter: Rewriter, call: Call) -> Expr | None:
    shape = shape_of(call)
    tensors = [arg for arg in call.args if isinstance(arg.ty, relax.TensorType)]
    full = [arg for arg in tensors if shape_of(arg) == shape and not is_constant(arg)]
    reshaped = [arg for arg in full if rewriter.producer_of(arg, "reshape") is not None and rewriter.uses(arg) == 1]
    if not reshaped or _computed(rewriter, reshaped[0]) is None:
        return None
    source = _computed(rewriter, reshaped[0])
    target = shape_of(source)
    args = []
    for arg in call.args:
        moved = _operand(rewriter, arg, shape, target) if isinstance(arg.ty, relax.TensorType) else arg
        if moved is None:
            return None
        args.append(moved)
    result = rewriter.emit(relax.Call(call.op, args, call.attrs, call.ty_args), "moved")
    return relax.op.reshape(result, shape)


def _computed(rewriter: Rewriter, expr: Expr) -> Expr | None:
    """Return what a reshape reads if an operator computes it, for only then can kernels join."""
    value = rewriter.producer_of(expr, "reshape")
    return value.args[0] if value is not None and rewriter.producer(value.args[0]) is not None else None


def _operand(rewriter: Rewriter, arg: Expr, shape: tuple[int, ...], target: tuple[int, ...]) -> Expr | None:
    own = shape_of(arg)
    if is_constant(arg) and int(np.prod(own)) == 1:
        return constant(array(arg).reshape(()))
    wanted = target if own == shape else _broadcast_shape(own, shape, target)
    if wanted is None:
        return None
    if is_constant(arg):
        return constant(array(arg).reshape(wanted))
    inner = rewriter.producer_of(arg, "reshape")
    if inner is not None and shape_of(inner.args[0]) == wanted:
        return inner.args[0]
    return rewriter.emit(relax.op.reshape(arg, wanted), "operand")


def _broadcast_shape(own: tuple[int, ...], shape: tuple[int, ...], target: tuple[int, ...]) -> tuple[int, ...] | None:
    """Return the shape of a smaller operand after the reshape, if that only adds or drops axes of length one."""
    old = [axis for axis, size in enumerate(shape) if size != 1]
    new = [axis for axis, size in enumerate(target) if size != 1]
    if [shape[axis] for axis in old] != [target[axis] for axis in new] or len(own) > len(shape):
        return None
    padded = (1,) * (len(shape) - len(own)) + own
    wanted = [1] * len(target)
    for before, after in zip(old, new, strict=True):
        wanted[after] = padded[before]
    return tuple(wanted)
