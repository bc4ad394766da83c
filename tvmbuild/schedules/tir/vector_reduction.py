"""Sums and maxima along a contiguous axis, in vectors.

A reduction in program order is one chain of dependent scalar operations, and no compiler may reorder a
floating-point sum. A marked loop becomes vectors of partial results, one accumulator for every width of
``vector_loops.pieces``, folded in halves at the end.
"""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.contracts import ReductionMark
from tvmbuild.schedules.tir.rewrite import substitute, vector_loop, with_axes_bound, with_root_body
from tvmbuild.schedules.tir.vector_loops import pieces


def mark_reduction(sch: Any, loop: Any, lanes: int) -> None:
    """Mark the innermost loop of a decomposed float reduction over a contiguous axis."""
    ReductionMark(lanes).put(sch, loop)


def cut_reductions(func: Any) -> Any:
    """Rewrite the loops marked by ``mark_reduction`` (imports tvm)."""
    import tvm_ffi
    from tvm import tirx

    accumulators: list[Any] = []

    def on_loop(loop: Any, mutator: Any) -> Any:
        mark = ReductionMark.find(loop)
        if mark is None:
            return mutator.default_mutate(loop)
        return _vectorised(loop, mark.reduce_lanes, accumulators)

    root = func.body.block
    body = tvm_ffi.structural_mutate(root.body, (tirx.For, on_loop))
    if not accumulators:
        return func
    return with_root_body(func, body, buffers=[*root.alloc_buffers, *accumulators])


def _vectorised(loop: Any, lanes: int, accumulators: list[Any]) -> Any:
    from tvm import tirx

    realize = loop.body
    assert isinstance(realize, tirx.Stmt)
    store = with_axes_bound(realize.block.body, realize)
    combine, term = type(store.value), _term(store)
    statements: list[Any] = []
    for start, count, width in pieces(int(loop.extent.value), lanes):
        partial = tirx.decl_buffer((width,), store.buffer.dtype, "partial")
        accumulators.append(partial)
        identity = _identity(combine, str(store.buffer.dtype))
        lane = _index("lane")
        statements.append(vector_loop(lane, width, tirx.BufferStore(partial, identity, [lane])))
        vector, lane = _index("vector"), _index("lane")
        place = tirx.const(start, "int64") + vector * tirx.const(width, "int64") + lane
        value = substitute(term, loop.loop_var, tirx.Cast(loop.loop_var.ty.dtype, place))
        update = tirx.BufferStore(partial, combine(tirx.BufferLoad(partial, [lane]), value), [lane])
        statements.append(_repeated(vector, count, vector_loop(lane, width, update)))
        while width > 1:
            width //= 2
            lane = _index("lane")
            other = tirx.BufferLoad(partial, [lane + tirx.const(width, "int64")])
            folded = combine(tirx.BufferLoad(partial, [lane]), other)
            statements.append(vector_loop(lane, width, tirx.BufferStore(partial, folded, [lane])))
        first = tirx.BufferLoad(partial, [tirx.const(0, "int64")])
        sofar = tirx.BufferLoad(store.buffer, store.indices)
        statements.append(tirx.BufferStore(store.buffer, combine(sofar, first), store.indices))
    return tirx.SeqStmt(statements)


def _term(store: Any) -> Any:
    """Return what the update adds to (or compares with) the value so far."""
    left, right = store.value.a, store.value.b
    return right if getattr(left, "source", None) is not None and left.source.same_as(store.buffer) else left


def _identity(combine: Any, dtype: str) -> Any:
    from tvm import tirx

    values = {tirx.Add: 0.0, tirx.Mul: 1.0, tirx.Max: float("-inf"), tirx.Min: float("inf")}
    return tirx.const(values[combine], dtype)


def is_vectorisable(block: Any) -> bool:
    """Whether a reduction block's update is one that ``cut_reductions`` can rewrite."""
    from tvm import tirx

    store = block.body
    return (
        isinstance(store, tirx.BufferStore)
        and str(store.buffer.dtype) in ("float32", "float16")
        and isinstance(store.value, tirx.Add | tirx.Mul | tirx.Max | tirx.Min)
    )


def _index(name: str) -> Any:
    from tvm import tirx

    return tirx.Var(name, "int64")


def _repeated(variable: Any, extent: int, body: Any) -> Any:
    from tvm import tirx

    return tirx.For(variable, tirx.const(0, "int64"), tirx.const(extent, "int64"), tirx.ForKind.SERIAL, body)
