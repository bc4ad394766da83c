"""Compute in float16, and in float32 where float16 would lose too much.

For cores with half-precision arithmetic: twice the elements in a register, half the memory. Each operator that the
table (``operators.py``) says is safe takes its operands in float16; all others stay as they are, with a reason in the
report. The model's inputs and outputs stay float32. Casts stand only where a value crosses between the two; those that
meet cancel.

What stays in float32, and why:

- sums over many elements (softmax, normalisation, means, global pooling, ...): a float16 sum of n terms loses some
  sqrt(n) * 2**-12, and squares overflow from 256 on;
- exponentials, logarithms and powers, whose results leave float16's range for moderate arguments;
- what moves or combines such results element by element, which costs nothing there;
- operators with a constant that float16 cannot hold: beyond 65504, or all of it below the normal numbers;
- operators that the table does not know.

Convolutions and matrix products accumulate in float16, as other libraries for these cores do, and in blocks where they
are deep (``schedules/partial_sums.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from tvm import relax

from tvmbuild.graph.counted import Uncounted, rewrite_counted
from tvmbuild.graph.operators import Half, operator
from tvmbuild.graph.report import Kept, PassReport
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
)

#: A window of average pooling larger than this is a sum over many elements.
_MAX_WINDOW = 32

LARGEST = float(np.finfo(np.float16).max)
_SMALLEST = float(np.finfo(np.float16).smallest_normal)


@dataclass
class _Casts:
    """Values in float16 by the float32 variable that they were cast from."""

    halves: dict[Var, Var] = field(default_factory=dict)

    def half(self, rewriter: Rewriter, value: Expr) -> Expr:
        """Return an operand in float16, from before its cast where there was one."""
        if isinstance(value, relax.Tuple):
            return relax.Tuple([self.half(rewriter, item) for item in value.fields])
        if not _is_single(value):
            return value
        if is_constant(value):
            return constant(array(value).astype(np.float16))
        source = _uncast(rewriter, value)
        if source is not value:
            return source
        if value not in self.halves:
            self.halves[value] = rewriter.emit(relax.op.astype(value, "float16"), "half")
        return self.halves[value]


def to_float16(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Rewrite ``main`` to float16 between its float32 inputs and outputs."""
    casts = _Casts()

    def rule(rewriter: Rewriter, _var: Var, value: Expr) -> Expr | Uncounted | None:
        if isinstance(value, relax.TupleGetItem):
            whole = rewriter.producer(value.tuple_value)
            return Uncounted(whole.fields[value.index]) if isinstance(whole, relax.Tuple) else None
        name = op_name(value)
        if not name or not any(_is_single(operand) for operand in _operands(value)):
            return None
        reason = _why_single(rewriter, name, value)
        if reason:
            return Uncounted(kept=Kept(name.removeprefix("nn."), reason))
        return _converted(rewriter, casts, value)

    return rewrite_counted(mod, "to_float16", "operators in float16", rule)


def _converted(rewriter: Rewriter, casts: _Casts, call: Call) -> Expr:
    """Return a call with its operands and results in float16, cast back for whoever needs float32."""
    arguments = [casts.half(rewriter, argument) for argument in call.args]
    half = rewriter.emit(relax.Call(call.op, arguments, call.attrs, call.ty_args), "half")
    if isinstance(half.ty, relax.TensorType):
        return relax.op.astype(half, "float32") if dtype_of(half) == "float16" else half
    parts = [rewriter.emit(relax.TupleGetItem(half, index), "part") for index in range(len(half.ty.fields))]
    return relax.Tuple([rewriter.emit(relax.op.astype(part, "float32"), "full") for part in parts])


def _why_single(rewriter: Rewriter, name: str, call: Call) -> str:
    """Return why an operator stays in float32, "" where it need not."""
    half = _half(name, call)
    if not half.is_safe:
        return half.value
    variables = [operand for operand in _operands(call) if _is_single(operand) and not is_constant(operand)]
    if half is Half.MOVES and dtype_of(_uncast(rewriter, call.args[0])) == "float32":
        return "its operands are in float32"
    if half is Half.FOLLOWS and variables and all(_stays_single(rewriter, var) for var in variables):
        return "its operands are in float32"
    constants = [array(operand) for operand in _operands(call) if is_constant(operand) and _is_single(operand)]
    return next((reason for reason in map(_why_not_half, constants) if reason), "")


def _half(name: str, call: Call) -> Half:
    """Return what the table says of an operator, and of those that what they are given decides."""
    if name == "nn.avg_pool2d" and math.prod(map(int, call.attrs.pool_size)) > _MAX_WINDOW:
        return Half.SUMS
    if name == "multiply" and not is_constant(call.args[0]) and call.args[0].same_as(call.args[1]):
        return Half.WIDE
    return operator(name).half


def _stays_single(rewriter: Rewriter, var: Var) -> bool:
    """Whether a small float32 value comes from an operator that stayed in float32."""
    source = rewriter.producer(var)
    return isinstance(source, relax.Call) and operator(op_name(source)).half in (Half.SUMS, Half.WIDE, Half.FOLLOWS)


def _uncast(rewriter: Rewriter, value: Expr) -> Expr:
    """Return the float16 value that a float32 one was cast from, or itself."""
    cast = rewriter.producer_of(value, "astype")
    return cast.args[0] if cast is not None and dtype_of(cast.args[0]) == "float16" else value


def _why_not_half(value: np.ndarray) -> str:
    finite = np.abs(value[np.isfinite(value)].astype(np.float64))
    largest = float(finite.max()) if finite.size else 0.0
    if largest > LARGEST:
        return f"it has a constant beyond float16's largest, {LARGEST:.0f}"
    return "it has a constant below float16's normal numbers" if 0.0 < largest < _SMALLEST else ""


def _operands(call: Call) -> list[Expr]:
    return [
        item
        for argument in call.args
        for item in (argument.fields if isinstance(argument, relax.Tuple) else [argument])
    ]


def _is_single(expr: Expr) -> bool:
    return isinstance(getattr(expr, "ty", None), relax.TensorType) and dtype_of(expr) == "float32"
