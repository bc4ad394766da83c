"""Rounding to int8 with the instructions that AArch64 has for it.

An epilogue clips a real number, rounds it to nearest even, makes it an integer, adds the zero point and narrows it:
seven operations on vectors of float32 or int32. FCVTNS rounds and converts at once and saturates; SQXTN narrows and
saturates, so that clipping to the range of int8 is done by narrowing, and the zero point is added to 16 bits. LLVM
finds none of this by itself: bounds that are whole numbers may be applied after rounding as well as before.

Source: Arm Architecture Reference Manual (DDI 0487), FCVTNS (vector), SQXTN, SQADD.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.tir.rewrite import substitute, uses, vector_loop, with_axes_bound, with_root_body
from tvmbuild.target.target import Target

#: Lanes of a vector of float32.
_LANES = 4
_LOW, _HIGH = -128, 127


def narrow_codes(func: Any, target: Target) -> Any:
    """Rewrite the vector loops of a scheduled PrimFunc that round to int8 (imports tvm); only for AArch64."""
    import tvm_ffi
    from tvm import tirx

    if target.arch != "aarch64":
        return func
    buffers: list[Any] = []

    def on_loop(loop: Any, mutator: Any) -> Any:
        if loop.kind != tirx.ForKind.VECTORIZED:
            return mutator.default_mutate(loop)
        store, condition = _store(loop)
        codes = _match(store.value) if store is not None else None
        lanes = int(loop.extent.value)
        if codes is None or lanes % _LANES:
            return loop
        buffers.append(tirx.decl_buffer((lanes,), "int32", "whole"))
        written = _written(loop, store, codes, buffers[-1])
        return written if condition is None else tirx.IfThenElse(condition, written, None)

    root = func.body.block
    body = tvm_ffi.structural_mutate(root.body, (tirx.For, on_loop))
    if not buffers:
        return func
    return with_root_body(func, body, buffers=[*root.alloc_buffers, *buffers], renew=True)


@dataclass(frozen=True)
class _Codes:
    """A real number that is rounded to int8: ``clip(round(real) + zero, low, high)``."""

    real: Any
    zero: int
    low: int
    high: int


def _store(loop: Any) -> tuple[Any | None, Any | None]:
    """Return the only store of a vector loop, in terms of the loop's variables, and the condition on it."""
    from tvm import s_tir, tirx

    body, condition = loop.body, None
    if isinstance(body, s_tir.SBlockRealize):
        if not isinstance(body.predicate, tirx.IntImm):
            condition = body.predicate
        body = with_axes_bound(body.block.body, body)
    if not isinstance(body, tirx.BufferStore) or str(body.buffer.dtype) != "int8":
        return None, None
    if condition is not None and uses(condition, loop.loop_var):
        return None, None
    return body, condition


def _match(value: Any) -> _Codes | None:
    """Read ``int8(int32(nearbyint(max(min(real, high), low))) + zero)``."""
    from tvm import ir, tirx

    if not isinstance(value, tirx.Cast):
        return None
    value, zero = value.value, 0
    if isinstance(value, tirx.Add | tirx.Sub) and isinstance(value.b, tirx.IntImm):
        # TVM writes the sum with a negative number as a difference.
        value, zero = value.a, int(value.b.value) * (1 if isinstance(value, tirx.Add) else -1)
    if not isinstance(value, tirx.Cast) or str(value.ty.dtype) != "int32":
        return None
    rounded = value.value
    if not (isinstance(rounded, ir.Call) and getattr(rounded.op, "name", "") == "tirx.nearbyint"):
        return None
    real, low, high = _unclipped(rounded.args[0])
    low, high = low + zero, high + zero
    return _Codes(real, zero, low, high) if low >= _LOW and high <= _HIGH else None


def _unclipped(real: Any) -> tuple[Any, int, int]:
    """Return a number without its whole bounds, and those; a bound that is not whole stays."""
    from tvm import tirx

    low, high = -(2**31), 2**31
    while isinstance(real, tirx.Max | tirx.Min) and isinstance(real.b, tirx.FloatImm):
        bound = float(real.b.value)
        if bound != int(bound):
            break
        if isinstance(real, tirx.Max):
            low = max(low, int(bound))
        else:
            high = min(high, int(bound))
        real = real.a
    return real, low, high


def _written(loop: Any, store: Any, codes: _Codes, whole: Any) -> Any:
    """Round four lanes at a time, then narrow all together."""
    from tvm import tirx

    variable = loop.loop_var
    dtype = variable.ty.dtype
    statements = []
    for first in range(0, int(loop.extent.value), _LANES):
        lane = tirx.Var("lane", dtype)
        place = tirx.const(first, dtype) + lane
        real = substitute(codes.real, variable, place)
        value = tirx.call_llvm_pure_intrin("int32", "llvm.aarch64.neon.fcvtns", real)
        statements.append(vector_loop(lane, _LANES, tirx.BufferStore(whole, value, [place])))
    half = _saturated(tirx.BufferLoad(whole, [variable]), "int16", -(2**15), 2**15 - 1)
    if codes.zero:
        half = tirx.call_llvm_pure_intrin("int16", "llvm.sadd.sat", half, tirx.const(codes.zero, "int16"))
    value = _saturated(half, "int8", _LOW, _HIGH)
    if codes.low > _LOW:
        value = tirx.Max(value, tirx.const(codes.low, "int8"))
    if codes.high < _HIGH:
        value = tirx.Min(value, tirx.const(codes.high, "int8"))
    narrow = tirx.BufferStore(store.buffer, value, store.indices)
    return tirx.SeqStmt([*statements, vector_loop(variable, int(loop.extent.value), narrow)])


def _saturated(value: Any, dtype: str, low: int, high: int) -> Any:
    from tvm import tirx

    wide = value.ty.dtype
    return tirx.Cast(dtype, tirx.Max(tirx.Min(value, tirx.const(high, wide)), tirx.const(low, wide)))
