"""Elementary functions as polynomials that vectorise, in place of calls of the C library's scalar ones.

LLVM has no vector ``expf``: an exponential in a vector loop becomes a scalar call for each lane. ``expand`` replaces
the calls in a scheduled PrimFunc by arithmetic of a few dozen instructions without branches, on float32 (float16 is
widened and narrowed again).

Ranges and special values are those of the C library: NaN gives NaN, the infinities their limits, and results below the
normal numbers are rounded gradually. Two exceptions: tanh(-0) is +0, and sigmoid is 0 below -88.4, where the true value
is subnormal. Largest errors in units in the last place, which tests/integration/test_fast_math.py holds: exp and log
1.5, tanh and erf 2, sigmoid 3.

The reductions and the coefficients of exp, log and tanh are those of the Cephes library (S. L. Moshier, "Methods and
Programs for Mathematical Functions", 1989; netlib.org/cephes, files expf.c, logf.c and tanhf.c). The polynomials of
erf were fitted for this file: smallest largest relative error by iteratively reweighted least squares (C. L. Lawson,
1961) on 3001 Chebyshev points, as erf(x) = x + x*p(x*x) for small x and 1 - exp(-x - x*q(x)) for large.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_LOG2_E = 1.44269504088896341
#: ln 2 in two parts; the first has few enough bits that its product with an exponent is exact.
_LN2_HIGH = 0.693359375
_LN2_LOW = -2.12194440e-4
#: 1.5 * 2**23: adding it rounds a float to an integer, which then stands in the low bits of the sum. Unlike a
#: conversion to int this is defined for NaN.
_ROUND = 12582912.0
_ROUND_BITS = 0x4B400000

#: Beyond these exp is infinite or rounds to zero.
_EXP_HIGH = 89.0
_EXP_LOW = -104.0
_EXP = (1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1)
_TANH = (-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1, -3.33332819422e-1)
_LOG = (
    *(7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1),
    *(-1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1),
)
_ERF_SPLIT = 0.9277
_ERF_SMALL = (-5.964250304e-4, 4.988003522e-3, -2.676312439e-2, 1.128172129e-1, -3.761248589e-1, 1.283791512e-1)
_ERF_LARGE = (-2.137253033e-4, 3.212809563e-3, -2.288306132e-2, 1.052510366e-1, 6.357265711e-1, 1.285119206e-1)
#: erf is 1 in float32 from here on.
_ERF_ONE = 4.0


def exp(x: Any) -> Any:
    """Return e**x for a float32 expression."""
    return _bind(x, "x", lambda v: _exp_in_range(_clamp(v, _EXP_LOW, _EXP_HIGH), two_steps=True))


def sigmoid(x: Any) -> Any:
    """Return 1 / (1 + e**-x) for a float32 expression."""

    def body(v: Any) -> Any:
        # One scaling step gives 0 below -88 and infinity above 88.4, which is as good here: 1/(1+0) and 1/inf.
        return _f32(1.0) / (_f32(1.0) + _exp_in_range(_clamp(v, -88.0, _EXP_HIGH), two_steps=False))

    return _bind(-x, "x", body)


def tanh(x: Any) -> Any:
    """Return the hyperbolic tangent of a float32 expression."""

    def body(v: Any) -> Any:
        from tvm import tirx

        magnitude = _abs(v)
        square = v * v
        small = v + v * square * _polynomial(_TANH, square)
        # From 10 on tanh is 1 in float32; the clamp keeps the exponential finite with one scaling step.
        big = 1.0 - 2.0 / (1.0 + _exp_in_range(2.0 * _at_most(magnitude, 10.0), two_steps=False))
        return tirx.Select(magnitude < _f32(0.625), small, _with_sign(big, v))

    return _bind(x, "x", body)


def erf(x: Any) -> Any:
    """Return the error function of a float32 expression."""

    def body(v: Any) -> Any:
        from tvm import tirx

        magnitude = _abs(v)
        square = v * v
        small = v + v * _polynomial(_ERF_SMALL, square)
        big = _bind(
            _at_most(magnitude, _ERF_ONE),
            "t",
            lambda t: 1.0 - _exp_in_range(-(t + t * _polynomial(_ERF_LARGE, t)), two_steps=False),
        )
        return tirx.Select(magnitude < _f32(_ERF_SPLIT), small, _with_sign(big, v))

    return _bind(x, "x", body)


def log(x: Any) -> Any:
    """Return the natural logarithm of a float32 expression."""

    def body(v: Any) -> Any:
        from tvm import tirx

        # Subnormal arguments are scaled by 2**25 into the normal numbers first.
        tiny = v < _f32(1.17549435e-38)
        scaled = tirx.Select(tiny, v * _f32(33554432.0), v)
        bits = tirx.reinterpret("int32", scaled)
        # Mantissa in [sqrt(1/2), sqrt(2)): the exponent is taken after an offset that moves the border there.
        shifted = bits - _i32(0x3F3504F3)
        exponent = tirx.Cast("float32", shifted >> _i32(23)) - tirx.Select(tiny, _f32(25.0), _f32(0.0))
        mantissa = tirx.reinterpret("float32", (shifted & _i32(0x007FFFFF)) + _i32(0x3F3504F3))

        def series(f: Any, e: Any) -> Any:
            square = f * f
            tail = square * f * _polynomial(_LOG, f) + e * _f32(_LN2_LOW) - square * _f32(0.5)
            return f + tail + e * _f32(_LN2_HIGH)

        finite = _bind(mantissa - 1.0, "f", lambda f: _bind(exponent, "e", lambda e: series(f, e)))
        infinity = _f32(float("inf"))
        special = tirx.Select(v == _f32(0.0), -infinity, tirx.Select(v < _f32(0.0), _f32(float("nan")), v))
        ordinary = tirx.And(v > _f32(0.0), v < infinity)
        return tirx.Select(ordinary, finite, special)

    return _bind(x, "x", body)


#: Elementary functions, dozens of instructions each, with what takes the place of their calls; None where the C
#: library's stay, one a lane.
FUNCTIONS: Mapping[str, Callable[[Any], Any] | None] = {
    "tirx.exp": exp,
    "tirx.log": log,
    "tirx.tanh": tanh,
    "tirx.sigmoid": sigmoid,
    "tirx.erf": erf,
    "tirx.pow": None,
    "tirx.sin": None,
    "tirx.cos": None,
    "tirx.tan": None,
    "tirx.asin": None,
    "tirx.acos": None,
    "tirx.atan": None,
    "tirx.sinh": None,
    "tirx.cosh": None,
    "tirx.asinh": None,
    "tirx.acosh": None,
    "tirx.atanh": None,
}


def expand(func: Any) -> Any:
    """Replace the calls of elementary functions in a scheduled PrimFunc (imports tvm).

    To be done after scheduling: the expansions bind names, which inlining would duplicate.
    """
    import tvm_ffi
    from tvm import ir

    def expanded(call: Any) -> Any:
        expansion = FUNCTIONS.get(call.op.name) if isinstance(call.op, ir.Op) else None
        return call if expansion is None else _in_float32(expansion, call, call.args[0])

    return func.with_body(tvm_ffi.structural_map(func.body, (ir.Call, expanded)))


def _in_float32(expansion: Callable[[Any], Any], call: Any, argument: Any) -> Any:
    """Return an expansion in place of a call on float32 or, by way of it, float16; the call itself for other types."""
    from tvm import tirx

    dtype = str(call.ty.dtype)
    if dtype == "float16":
        return tirx.Cast(dtype, expansion(tirx.Cast("float32", argument)))
    return expansion(argument) if dtype == "float32" else call


def _exp_in_range(x: Any, *, two_steps: bool) -> Any:
    """Return e**x for x in [-104, 89], or in [-88, 89] with one scaling step, which is exact in [-87.3, 88.3]."""
    from tvm import tirx

    def scaled(v: Any, rounded: Any) -> Any:
        whole = rounded - _f32(_ROUND)
        exponent = tirx.reinterpret("int32", rounded) - _i32(_ROUND_BITS)

        def mantissa(r: Any) -> Any:
            return _polynomial(_EXP, r) * (r * r) + r + 1.0

        reduced = v - whole * _f32(_LN2_HIGH) - whole * _f32(_LN2_LOW)
        value = _bind(reduced, "r", mantissa)
        if not two_steps:
            return value * _power_of_two(exponent)
        # 2**n is split in two factors, so that results may overflow or be subnormal while each factor is normal.
        return _bind(exponent, "n", lambda n: value * _power_of_two(n >> _i32(1)) * _power_of_two(n - (n >> _i32(1))))

    return _bind(x, "v", lambda v: _bind(v * _f32(_LOG2_E) + _f32(_ROUND), "t", lambda t: scaled(v, t)))


def _power_of_two(exponent: Any) -> Any:
    from tvm import tirx

    return tirx.reinterpret("float32", (exponent + _i32(127)) << _i32(23))


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """Return the polynomial by Horner's rule, highest power first; multiply and add fuse where the target can."""
    value = _f32(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + _f32(coefficient)
    return value


def _bind(value: Any, name: str, body: Callable[[Any], Any]) -> Any:
    """Return ``let name = value in body(name)``, so that the value is computed once."""
    from tvm import tirx

    variable = tirx.Var(name, value.ty.dtype)
    return tirx.Let(variable, value, body(variable))


def _clamp(x: Any, low: float, high: float) -> Any:
    """Return x within bounds; NaN stays NaN, since LLVM gets ``max(a, b)`` as ``a > b ? a : b`` (see nan_order).

    Not as a Select: under one TVM's simplifier takes the condition, with all that is bound in it, three times over.
    """
    from tvm import tirx

    return _at_most(tirx.Max(_f32(low), x), high)


def _at_most(x: Any, high: float) -> Any:
    from tvm import tirx

    return tirx.Min(_f32(high), x)


def _abs(x: Any) -> Any:
    from tvm import tirx

    return tirx.reinterpret("float32", tirx.reinterpret("int32", x) & _i32(0x7FFFFFFF))


def _with_sign(magnitude: Any, sign: Any) -> Any:
    """Return a non-negative magnitude with the sign of another expression."""
    from tvm import tirx

    sign_bit = tirx.reinterpret("int32", sign) & _i32(-0x80000000)
    return tirx.reinterpret("float32", tirx.reinterpret("int32", magnitude) | sign_bit)


def _f32(value: float) -> Any:
    from tvm import tirx

    return tirx.const(value, "float32")


def _i32(value: int) -> Any:
    from tvm import tirx

    return tirx.const(value, "int32")
