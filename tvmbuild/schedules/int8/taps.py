"""Adds up the taps of an integer depthwise convolution in pairs of 16 bits, in vectors of channels.

The products are int32 arithmetic until here; widened to 16 bits they are what SMULL and SMLAL multiply, and LLVM
finds those by itself. It may not find that the sum of two fits.
"""

from __future__ import annotations

import itertools
from typing import Any

from tvmbuild.schedules.contracts import TapsMark
from tvmbuild.schedules.tir.rewrite import in_sequence, nest_of, substitute, with_axes_bound


def mark(sch: Any, loop: Any, pairs: bool) -> None:
    """Mark the loop around the taps, columns and lanes that are to be written out; two products fit if ``pairs``."""
    TapsMark(2 if pairs else 1).put(sch, loop)


def add_taps(func: Any) -> Any:
    """Rewrite the loops marked by ``mark`` in a scheduled PrimFunc (imports tvm)."""
    import tvm_ffi
    from tvm import tirx

    changed = False

    def on_loop(loop: Any, mutator: Any) -> Any:
        nonlocal changed
        mark = TapsMark.find(loop)
        if mark is None:
            return mutator.default_mutate(loop)
        changed = True
        return _written(loop, mark.taps)

    body = tvm_ffi.structural_mutate(func.body, (tirx.For, on_loop))
    return func.with_body(body) if changed else func


def _written(loop: Any, together: int) -> Any:
    from tvm import tirx

    (*taps, column, lane), realize = nest_of(loop)
    store = with_axes_bound(realize.block.body, realize)
    lanes = int(lane.extent.value)
    store = substitute(store, lane.loop_var, tirx.const(0, lane.loop_var.ty.dtype))

    def vector(load: Any, values: tuple[int, ...]) -> Any:
        index = list(load.indices)
        for around, value in zip((*taps, column), values, strict=True):
            constant = tirx.const(value, around.loop_var.ty.dtype)
            index = [substitute(axis, around.loop_var, constant) for axis in index]
        index[-1] = tirx.Ramp(index[-1], tirx.const(1, index[-1].ty.dtype), lanes)
        return index

    def product(values: tuple[int, ...]) -> Any:
        factors = [store.value.b.a.value, store.value.b.b.value]
        left, right = (
            tirx.Cast(f"int16x{lanes}", tirx.BufferLoad(load.source, vector(load, values))) for load in factors
        )
        return left * right

    statements = []
    positions = list(itertools.product(*(range(int(tap.extent.value)) for tap in taps)))
    for first in range(0, len(positions), together):
        for place in range(int(column.extent.value)):
            terms = [product((*tap, place)) for tap in positions[first : first + together]]
            total = terms[0] if len(terms) == 1 else terms[0] + terms[1]
            index = vector(store.value.a, (*positions[0], place))
            value = tirx.BufferLoad(store.buffer, index) + tirx.Cast(f"int32x{lanes}", total)
            statements.append(tirx.BufferStore(store.buffer, value, index))
    return in_sequence(statements)
