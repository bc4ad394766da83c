"""What the quantize phase knows of a float tensor: the integers that stand for it.

A tensor that DequantizeLinear made of int8 codes q is scale * (q - zero). A convolution of it by int8 weights is an
int32 sum times one factor per output channel. Both are *terms*, and a residual addition has two of them. ReLU and
clipping bound their sum. Operators on such a value need not compute in float: they change the description, and only
the operator that wants the numbers makes a kernel of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from tvmbuild.graph.fold.affine import Array
from tvmbuild.graph.rewriter import Call, Expr, array, dtype_of, is_constant, shape_of

#: A value of more terms is computed in float first.
MOST_TERMS = 3
#: A real number counts as a code when it is this close to one, in steps.
_CLOSE = 1e-3
_INT8 = np.iinfo(np.int8)


@dataclass(frozen=True)
class Term:
    """(tensor + offset) * factor.

    Attributes:
        tensor: int8 codes or int32 sums.
        offset: integers, [] or [channels] along the last axis.
        factor: float64, likewise.
    """

    tensor: Expr
    offset: Array
    factor: Array


@dataclass(frozen=True)
class Codes:
    """scale * (tensor - zero), the tensor int8."""

    tensor: Expr
    scale: float
    zero: int


@dataclass(frozen=True)
class Value:
    """The sum of terms and a shift, bounded.

    Attributes:
        terms: at least one.
        shift: float64, [] or [channels] along the last axis.
        low: least value, in real numbers.
        high: largest value.
    """

    terms: tuple[Term, ...]
    shift: Array = field(default_factory=lambda: np.zeros(()))
    low: float = -np.inf
    high: float = np.inf

    @property
    def codes(self) -> Codes | None:
        """The int8 tensor that the value is, apart from its bounds; None where there is none."""
        term = self.terms[0]
        if len(self.terms) > 1 or dtype_of(term.tensor) != "int8" or np.any(self.shift):
            return None
        if term.offset.size > 1 or term.factor.size > 1:
            return None
        return Codes(term.tensor, float(term.factor), -int(term.offset))

    @property
    def is_bounded(self) -> bool:
        """Whether there is a least or a largest value."""
        return self.low > -np.inf or self.high < np.inf

    def bounded(self, low: float, high: float) -> Value:
        """Return the value clipped."""
        return replace(self, low=min(max(low, self.low), high), high=max(min(high, self.high), low))

    def code_bounds(self) -> tuple[int, int] | None:
        """Return the bounds as codes of an int8 value; None where they are no whole steps."""
        codes = self.codes
        if codes is None:
            return None
        found = []
        for bound, end in ((self.low, _INT8.min), (self.high, _INT8.max)):
            exact = bound / codes.scale + codes.zero if np.isfinite(bound) else float(end)
            if abs(exact - round(exact)) > _CLOSE and _INT8.min < exact < _INT8.max:
                return None
            found.append(int(np.clip(round(exact), _INT8.min, _INT8.max)))
        return found[0], found[1]


def value_of(codes: Codes) -> Value:
    """Return the value that codes stand for."""
    return Value((Term(codes.tensor, np.array(-codes.zero), np.array(codes.scale)),))


@dataclass(frozen=True)
class Weights:
    """A constant that DequantizeLinear reads: scale * (integers - zero).

    Attributes:
        integers: int8 or uint8.
        scale: float64, [] or one for each index of ``axis``.
        zero: integers, likewise.
        axis: the axis of scale and zero.
    """

    integers: Array
    scale: Array
    zero: Array
    axis: int

    @property
    def floats(self) -> Array:
        """The real numbers, as DequantizeLinear computes them in float32."""
        difference = self.integers.astype(np.int32) - self._along(self.zero).astype(np.int32)
        return np.asarray(difference.astype(np.float32) * self._along(self.scale).astype(np.float32))

    def centered(self) -> tuple[Array, ...] | None:
        """Return int8 arrays whose sum is the integers less their zero point; None where not even two will do.

        One is enough but for uint8 weights with a zero point of their own, which take 9 bits.
        """
        difference = self.integers.astype(np.int32) - self._along(self.zero).astype(np.int32)
        first = difference >> 1
        for parts in ((difference,), (first, difference - first)):
            if all(part.min(initial=0) >= _INT8.min and part.max(initial=0) <= _INT8.max for part in parts):
                return tuple(part.astype(np.int8) for part in parts)
        return None

    def transposed(self, axes: list[int]) -> Weights:
        """Return the weights with axes in another order."""
        return replace(self, integers=np.transpose(self.integers, axes), axis=axes.index(self.axis))

    def _along(self, parameter: Array) -> Array:
        shape = [1] * self.integers.ndim
        if parameter.size > 1:
            shape[self.axis] = -1
        return parameter.reshape(shape)


@dataclass(frozen=True)
class Parameters:
    """Scale and zero point of a quantize or dequantize, constant; scalars per tensor."""

    scale: Array
    zero: Array
    axis: int

    @property
    def is_per_tensor(self) -> bool:
        """Whether one scale and one zero point serve for all elements."""
        return self.scale.size == 1 and self.zero.size == 1


def parameters_of(call: Call) -> Parameters | None:
    """Return the parameters of a quantize or dequantize call; None where they are computed at run time."""
    data, scale, zero = call.args
    if not is_constant(scale) or not is_constant(zero):
        return None
    rank = len(shape_of(data))
    values = [array(scale).astype(np.float64).reshape(-1), array(zero).astype(np.int64).reshape(-1)]
    first, second = (value.reshape(()) if value.size == 1 else value for value in values)
    return Parameters(first, second, int(call.attrs.axis) % max(rank, 1))


def weights_of(call: Call) -> Weights | None:
    """Return the weights that a dequantize call makes of a constant of 8 bits, or None."""
    parameters = parameters_of(call)
    if parameters is None or not is_constant(call.args[0]) or dtype_of(call.args[0]) not in ("int8", "uint8"):
        return None
    return Weights(array(call.args[0]), parameters.scale, parameters.zero, parameters.axis)
