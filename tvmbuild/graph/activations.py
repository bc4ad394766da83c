"""Write activation functions in one canonical, cheap form.

Exporters spell the same function in many ways. Here
- max(x, 0) and clip(x, 0, inf) become relu, min(max(x, a), b) becomes clip(x, a, b);
- hard sigmoid, clip(x + 3, 0, 6) / 6, becomes clip(x / 6 + 1/2, 0, 1) and hard swish is x times that: the division is
  gone, and x / 6 + 1/2 is one fused multiply-add;
- x sigmoid(x) becomes silu, a division by a constant a multiplication, a square x x, a power of one half a root;
- tanh(softplus(x)), the gate of Mish, becomes 1 - 2 / (1 + (1 + e**x)**2): one function instead of three;
- PReLU with one slope for all channels becomes leaky ReLU.
"""

from __future__ import annotations

from collections.abc import Callable

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


def canonicalize_activations(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Apply every rule of this file to ``main``."""

    def rule(rewriter: Rewriter, _var: Var, value: Expr) -> Expr | None:
        handler = _RULES.get(op_name(value))
        return handler(rewriter, value) if handler and dtype_of(value).startswith("float") else None

    return rewrite_counted(mod, "canonicalize_activations", "activations in canonical form", rule)


def _scalar(expr: Expr) -> float | None:
    """Return the value of a constant whose elements are all the same."""
    if isinstance(expr, relax.Expr) and is_constant(expr):
        value = array(expr)
        return float(value.flat[0]) if value.size and np.all(value == value.flat[0]) else None
    number = getattr(expr, "value", None)
    return float(number) if isinstance(number, int | float) else None


def _number(value: float, like: Expr) -> Expr:
    return constant(np.array(value, dtype=dtype_of(like)))


def _split_scalar(value: Call) -> tuple[Expr, float] | None:
    """Return (x, c) of an operator on x and a scalar constant c, in either order."""
    for data, other in ((value.args[0], value.args[1]), (value.args[1], value.args[0])):
        scalar = _scalar(other) if is_constant(other) else None
        if scalar is not None and not is_constant(data) and shape_of(data) == shape_of(value):
            return data, scalar
    return None


def _maximum(_rewriter: Rewriter, value: Call) -> Expr | None:
    parts = _split_scalar(value)
    if parts is None:
        return None
    data, bound = parts
    return relax.op.nn.relu(data) if bound == 0 else relax.op.clip(data, bound, float("inf"))


def _minimum(rewriter: Rewriter, value: Call) -> Expr | None:
    parts = _split_scalar(value)
    if parts is None:
        return None
    data, high = parts
    low = float("-inf")
    inner = rewriter.producer_of(data, "clip", "nn.relu")
    if inner is not None and rewriter.uses(data) == 1:
        inner_low, inner_high = _bounds(inner)
        if inner_low <= high:
            data, low, high = inner.args[0], inner_low, min(high, inner_high)
    return relax.op.clip(data, low, high)


def _bounds(value: Call) -> tuple[float, float]:
    if op_name(value) == "nn.relu":
        return 0.0, float("inf")
    return float(value.args[1].value), float(value.args[2].value)


def _clip(_rewriter: Rewriter, value: Call) -> Expr | None:
    low, high = _bounds(value)
    return relax.op.nn.relu(value.args[0]) if (low, high) == (0.0, float("inf")) else None


def _multiply(rewriter: Rewriter, value: Call) -> Expr | None:
    parts = _split_scalar(value)
    if parts is not None:
        scaled = _scaled(rewriter, value, *parts)
        if scaled is None and rewriter.producer_of(parts[0], "multiply") is not None:
            product = _times(rewriter, *parts)
            return product if product.args[0] != parts[0] else None
        return scaled
    for data, gate in (tuple(value.args), tuple(reversed(value.args))):
        sigmoid = rewriter.producer_of(gate, "sigmoid")
        if sigmoid is not None and sigmoid.args[0] == data and rewriter.uses(gate) == 1:
            return relax.op.nn.silu(data)
    return None


def _divide(rewriter: Rewriter, value: Call) -> Expr | None:
    divisor = value.args[1]
    if not is_constant(divisor) or np.any(array(divisor) == 0):
        return None
    scalar = _scalar(divisor)
    if scalar is not None and shape_of(value.args[0]) == shape_of(value):
        hard = _scaled(rewriter, value, value.args[0], 1.0 / scalar)
        if hard is not None:
            return hard
    inverse = (1.0 / array(divisor).astype(np.float64)).astype(dtype_of(value))
    return relax.op.multiply(value.args[0], constant(inverse)) if np.all(np.isfinite(inverse)) else None


def _scaled(rewriter: Rewriter, value: Call, data: Expr, factor: float) -> Expr | None:
    """Move a positive factor into a hard sigmoid: f clip(x + c, a, b) = clip(f x + f c, f a, f b)."""
    if factor <= 0 or rewriter.uses(data) != 1:
        return None
    gate = _scaled_gate(rewriter, data, factor)
    if gate is not None:
        return gate
    product = rewriter.producer_of(data, "multiply")
    if product is None or any(is_constant(arg) for arg in product.args):
        return None
    for other, inner in (tuple(product.args), tuple(reversed(product.args))):
        gate = _scaled_gate(rewriter, inner, factor) if rewriter.uses(inner) == 1 else None
        if gate is not None:
            return relax.op.multiply(other, rewriter.emit(gate, "gate"))
    return None


def _scaled_gate(rewriter: Rewriter, expr: Expr, factor: float) -> Expr | None:
    clip = rewriter.producer_of(expr, "clip")
    if clip is None:
        return None
    shifted = rewriter.producer_of(clip.args[0], "add")
    parts = _split_scalar(shifted) if shifted is not None and rewriter.uses(clip.args[0]) == 1 else None
    low, high = _bounds(clip)
    if parts is None or not np.isfinite([low, high]).all():
        return None
    data, offset = parts
    scaled = rewriter.emit(_times(rewriter, data, factor), "scaled")
    moved = rewriter.emit(relax.op.add(scaled, _number(offset * factor, data)), "moved")
    return relax.op.clip(moved, low * factor, high * factor)


def _times(rewriter: Rewriter, data: Expr, factor: float) -> Expr:
    """Return ``factor`` times ``data`` as one multiplication, also where ``data`` is a multiple itself."""
    product = rewriter.producer_of(data, "multiply")
    parts = _split_scalar(product) if product is not None else None
    if parts is not None:
        data, factor = parts[0], factor * parts[1]
    return relax.op.multiply(data, _number(factor, data))


def _power(_rewriter: Rewriter, value: Call) -> Expr | None:
    exponent = _scalar(value.args[1]) if is_constant(value.args[1]) else None
    if shape_of(value.args[0]) != shape_of(value):
        return None
    if exponent == 2:
        return relax.op.multiply(value.args[0], value.args[0])
    return relax.op.sqrt(value.args[0]) if exponent == 0.5 else None


def _prelu(_rewriter: Rewriter, value: Call) -> Expr | None:
    data, slope = value.args
    scalar = _scalar(slope) if is_constant(slope) else None
    return None if scalar is None else relax.op.nn.leakyrelu(data, scalar)


def _softplus_input(rewriter: Rewriter, expr: Expr) -> Expr | None:
    """Return x when an expression is softplus(x) as the importer writes it: relu(x) + log(1 + e**-abs(x))."""
    total = rewriter.producer_of(expr, "add")
    if total is None:
        return None
    linear = rewriter.producer_of(total.args[0], "nn.relu")
    rest = rewriter.producer_of(total.args[1], "log")
    grown = rewriter.producer_of(rest.args[0], "add") if rest is not None else None
    parts = _split_scalar(grown) if grown is not None else None
    if linear is None or parts is None or parts[1] != 1:
        return None
    expr = parts[0]
    for name in ("exp", "negative", "abs"):
        call = rewriter.producer_of(expr, name)
        if call is None:
            return None
        expr = call.args[0]
    return linear.args[0] if linear.args[0] == expr else None


#: From here on the gate of Mish is 1 in float32.
_GATE_IS_ONE = 10.0


def _tanh(rewriter: Rewriter, value: Call) -> Expr | None:
    """Write the gate of Mish with one function instead of three, of which no kernel may hold so many in each other."""
    data = _softplus_input(rewriter, value.args[0])
    if data is None:
        return None
    one, two = _number(1.0, data), _number(2.0, data)
    bounded = rewriter.emit(relax.op.clip(data, float("-inf"), _GATE_IS_ONE), "bounded")
    grown = rewriter.emit(relax.op.add(rewriter.emit(relax.op.exp(bounded), "power"), one), "grown")
    square = rewriter.emit(relax.op.multiply(grown, grown), "square")
    rest = rewriter.emit(relax.op.divide(two, rewriter.emit(relax.op.add(square, one), "sum")), "rest")
    return relax.op.subtract(one, rest)


_RULES: dict[str, Callable[[Rewriter, Call], Expr | None]] = {
    "maximum": _maximum,
    "minimum": _minimum,
    "clip": _clip,
    "multiply": _multiply,
    "divide": _divide,
    "power": _power,
    "nn.prelu": _prelu,
    "tanh": _tanh,
}
