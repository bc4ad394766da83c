"""Padding without a copy: taps outside the input are skipped, and the interior carries no condition.

A convolution that reads ``if_then_else(inside, x, 0)`` pays a condition for every load. Adding a product with zero is
adding nothing, so the update itself is made conditional here, and every part of the condition moves out to the loop
that decides it. The loop over tiles of columns is then peeled: first and last tiles, unrolled, know their conditions;
those between need none.
"""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.contracts import GuardMark, PeelMark
from tvmbuild.schedules.tir.rewrite import (
    in_sequence,
    substitute,
    uses,
    with_axes_bound,
    with_loop_body,
    with_new_variable,
    with_root_body,
)


def mark_peel(sch: Any, loop: Any, first: int, last: int) -> None:
    """Mark a loop of which so many first and last iterations are to be written out by ``peel``."""
    if first or last:
        PeelMark((first, last)).put(sch, loop)


def guard_updates(func: Any) -> Any:
    """Turn ``sum += if_then_else(inside, x, 0) * w`` into ``if inside: sum += x * w`` (imports tvm).

    Only in blocks marked ``GuardMark``, whose reduction must have been decomposed.
    """
    import tvm_ffi
    from tvm import s_tir, tirx

    pending: list[Any] = []

    def on_realize(realize: Any, mutator: Any) -> Any:
        block = realize.block
        if GuardMark.find(block) is None:
            return mutator.default_mutate(realize)
        conditions: list[Any] = []
        body = _unguarded(block.body, conditions)
        pending.extend(with_axes_bound(condition, realize) for condition in conditions)
        return s_tir.SBlockRealize(
            realize.iter_values,
            realize.predicate,
            s_tir.SBlock(
                *(block.iter_vars, block.reads, block.writes, block.name_hint, body),
                *(block.init, block.alloc_buffers, block.match_buffers, GuardMark.others(block)),
            ),
        )

    def on_loop(loop: Any, mutator: Any) -> Any:
        loop = mutator.default_mutate(loop)
        decided = [condition for condition in pending if uses(condition, loop.loop_var)]
        if not decided:
            return loop
        pending[:] = [condition for condition in pending if not any(condition is other for other in decided)]
        condition = decided[0]
        for other in decided[1:]:
            condition = tirx.And(condition, other)
        return with_loop_body(loop, tirx.IfThenElse(condition, loop.body, None))

    return func.with_body(
        tvm_ffi.structural_mutate(func.body, [(tirx.For, on_loop), (s_tir.SBlockRealize, on_realize)])
    )


def _unguarded(store: Any, conditions: list[Any]) -> Any:
    """Return the store without its ``if_then_else``s, whose conditions are collected part by part."""
    import tvm_ffi
    from tvm import ir, tirx

    def on_call(call: Any) -> Any:
        if isinstance(call.op, ir.Op) and call.op.name == "prim.if_then_else":
            _split(call.args[0], conditions)
            return call.args[1]
        return call

    assert isinstance(store, tirx.BufferStore)
    return tvm_ffi.structural_map(store, (ir.Call, on_call))


def _split(condition: Any, parts: list[Any]) -> None:
    from tvm import tirx

    if isinstance(condition, tirx.And):
        _split(condition.a, parts)
        _split(condition.b, parts)
    else:
        parts.append(condition)


def _writes(stmt: Any, buffer: Any) -> bool:
    import tvm_ffi
    from tvm import tirx

    found: list[Any] = []
    tvm_ffi.structural_walk(
        stmt, (tirx.BufferStore, lambda store: found.append(store) if store.buffer.same_as(buffer) else None)
    )
    return bool(found)


def peel(func: Any) -> Any:
    """Write out the first and last iterations of the loops marked by ``mark_peel`` (imports tvm).

    Each copy gets intermediate buffers of its own, so that a tile of accumulators stays as small as one tile.
    """
    import tvm_ffi
    from tvm import tirx

    root = func.body.block
    buffers = list(root.alloc_buffers)
    changed = False

    def copy(stmt: Any) -> Any:
        for buffer in [b for b in buffers if _writes(stmt, b)]:
            twin = tirx.decl_buffer(buffer.shape, buffer.dtype, str(buffer.name))
            buffers.append(twin)
            stmt = substitute(stmt, buffer, twin)
        return tvm_ffi.structural_map(stmt, (tirx.For, with_new_variable))

    def on_loop(loop: Any, mutator: Any) -> Any:
        nonlocal changed
        mark = PeelMark.find(loop)
        if mark is None:
            return mutator.default_mutate(loop)
        changed = True
        first, last = mark.peel
        extent = int(loop.extent.value)
        first = min(first, extent)
        last = min(last, extent - first)
        middle = extent - first - last
        dtype = loop.loop_var.ty.dtype
        parts = [
            substitute(loop.body, loop.loop_var, tirx.const(index, dtype))
            for index in (*range(first), *range(extent - last, extent))
        ]
        if middle > 1:
            body = substitute(loop.body, loop.loop_var, loop.loop_var + tirx.const(first, dtype))
            rest = tirx.For(loop.loop_var, tirx.const(0, dtype), tirx.const(middle, dtype), loop.kind, body)
            parts.insert(first, rest)
        elif middle == 1:
            parts.insert(first, substitute(loop.body, loop.loop_var, tirx.const(first, dtype)))
        parts = [mutator.mutate(copy(part)) for part in parts]
        return in_sequence(parts)

    body = tvm_ffi.structural_mutate(root.body, (tirx.For, on_loop))
    if not changed:
        return func
    return with_root_body(func, body, buffers=[buffer for buffer in buffers if uses(body, buffer)], renew=True)
