"""Element-wise kernels between integers and real numbers. They fuse into the product before them.

Rounding is to nearest even and saturating, as ONNX has it. Sums of products are written as fused multiply-adds, so that
every machine gives the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from tvm import relax, te, tirx

from tvmbuild.graph.fold.affine import Array
from tvmbuild.graph.integers.quantized import Value
from tvmbuild.graph.operators import Fusion
from tvmbuild.graph.rewriter import Expr, constant, dtype_of

_Read = Callable[[tuple[Any, ...]], Any]


def dequantize(builder: relax.BlockBuilder, value: Value) -> Expr:
    """Return the call that computes a value in float32."""
    arguments = _Arguments()
    total = _sum_of(value, 1.0, arguments)

    def compute(*tensors: Any) -> Any:
        def element(*index: Any) -> Any:
            return _clamp(total(tensors, index), value.low, value.high)

        return te.compute(tensors[0].shape, element, name="dequantize")

    return builder.call_te(compute, *arguments.tensors, primfunc_name_hint="dequantize")


def requantize(builder: relax.BlockBuilder, value: Value, scale: float, zero: int) -> Expr:
    """Return the call that rounds a value to int8 codes of ``scale`` and ``zero``."""
    arguments = _Arguments()
    total = _sum_of(value, 1.0 / scale, arguments)
    low, high = value.low / scale, value.high / scale

    def compute(*tensors: Any) -> Any:
        def element(*index: Any) -> Any:
            return _to_codes(total(tensors, index), zero, "int8", low, high)

        return te.compute(tensors[0].shape, element, name="requantize")

    return builder.call_te(compute, *arguments.tensors, primfunc_name_hint="requantize")


def round_to_codes(builder: relax.BlockBuilder, data: Expr, scale: float, zero: int) -> Expr:
    """Return the call that rounds float32 to int8 codes."""
    factor = float(np.float32(1.0 / scale))

    def compute(tensor: Any) -> Any:
        def element(*index: Any) -> Any:
            return _to_codes(tensor[index] * tirx.const(factor, "float32"), zero, "int8")

        return te.compute(tensor.shape, element, name="quantize")

    return builder.call_te(compute, data, primfunc_name_hint="quantize")


def shift(builder: relax.BlockBuilder, data: Expr) -> Expr:
    """Return the call that makes int8 of uint8 or the reverse, the zero point moving along by 128."""
    to = "int8" if dtype_of(data) == "uint8" else "uint8"
    distance = -128 if to == "int8" else 128

    def compute(tensor: Any) -> Any:
        return te.compute(
            tensor.shape, lambda *index: (tensor[index].astype("int32") + distance).astype(to), name="shift"
        )

    return builder.call_te(compute, data, primfunc_name_hint="shift")


def clip_codes(builder: relax.BlockBuilder, data: Expr, low: int, high: int) -> Expr:
    """Return the call that clips int8 codes."""

    def compute(tensor: Any) -> Any:
        bounds = tirx.const(low, "int8"), tirx.const(high, "int8")
        return te.compute(tensor.shape, lambda *index: te.max(te.min(tensor[index], bounds[1]), bounds[0]), name="clip")

    return builder.call_te(compute, data, primfunc_name_hint="clip")


def sum_codes(builder: relax.BlockBuilder, data: Expr, axes: Sequence[int], keepdims: bool) -> Expr:
    """Return the call that adds int8 codes up in int32."""

    def compute(tensor: Any) -> Any:
        shape = list(tensor.shape)
        reduced = {axis: te.reduce_axis((0, shape[axis]), name=f"r{axis}") for axis in axes}
        kept = [axis for axis in range(len(shape)) if keepdims or axis not in reduced]

        def total(*index: Any) -> Any:
            own = dict(zip(kept, index, strict=True)) | reduced
            element = tensor(*(own[axis] for axis in range(len(shape))))
            return te.sum(element.astype("int32"), list(reduced.values()))

        return te.compute([1 if axis in reduced else shape[axis] for axis in kept], total, name="mean")

    return builder.call_te(compute, data, primfunc_name_hint="mean", primfunc_attrs={"op_pattern": int(Fusion.ANCHOR)})


class _Arguments:
    """The tensors that a kernel reads: first the terms', then constants of one element a channel."""

    def __init__(self) -> None:
        self.tensors: list[Expr] = []

    def tensor(self, expr: Expr) -> int:
        self.tensors.append(expr)
        return len(self.tensors) - 1

    def parameter(self, values: Array, dtype: str) -> Callable[[Sequence[Any], tuple[Any, ...]], Any]:
        """Return how to read a parameter: a number, or an element of a constant tensor."""
        if np.all(values == values.flat[0]):
            number = tirx.const(values.flat[0].astype(dtype).item(), dtype)
            return lambda _tensors, _index: number
        position = self.tensor(constant(values.astype(dtype)))
        return lambda tensors, index: tensors[position][index[-1]]


def _sum_of(value: Value, factor: float, arguments: _Arguments) -> Callable[[Sequence[Any], tuple[Any, ...]], Any]:
    """Return how to compute ``factor`` times a value without its bounds, at an index, from the kernel's tensors."""
    positions = [arguments.tensor(term.tensor) for term in value.terms]
    offsets = [arguments.parameter(term.offset, "int32") for term in value.terms]
    factors = [arguments.parameter(term.factor * factor, "float32") for term in value.terms]
    start = arguments.parameter(value.shift * factor, "float32") if np.any(value.shift) else None

    def compute(tensors: Sequence[Any], index: tuple[Any, ...]) -> Any:
        total = start(tensors, index) if start else None
        for position, offset, scale in zip(positions, offsets, factors, strict=True):
            integer = tensors[position][index].astype("int32") + offset(tensors, index)
            real = integer.astype("float32")
            total = real * scale(tensors, index) if total is None else _fma(real, scale(tensors, index), total)
        return total

    return compute


def _fma(left: Any, right: Any, addend: Any) -> Any:
    return tirx.call_llvm_pure_intrin("float32", "llvm.fma", left, right, addend)


def _clamp(value: Any, low: float, high: float) -> Any:
    if high < np.inf:
        value = te.min(value, tirx.const(float(np.float32(high)), "float32"))
    if low > -np.inf:
        value = te.max(value, tirx.const(float(np.float32(low)), "float32"))
    return value


def _to_codes(real: Any, zero: int, dtype: str, low: float = -np.inf, high: float = np.inf) -> Any:
    """Round a real number of steps; it is clipped before, where no conversion can overflow."""
    ends = np.iinfo(dtype)
    least, most = ends.min - zero, ends.max - zero
    clipped = _clamp(real, float(np.clip(low, least, most)), float(np.clip(high, least, most)))
    whole = te.nearbyint(clipped).astype("int32")
    return (whole + zero if zero else whole).astype(dtype)
