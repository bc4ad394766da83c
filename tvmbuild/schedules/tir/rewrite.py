"""What every rewrite of a scheduled PrimFunc needs: variables for others, their uses, and another body of the root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def substitute(stmt: Any, variable: Any, value: Any) -> Any:
    """Return a statement with a variable replaced by an expression (imports tvm)."""
    import tvm_ffi
    from tvm import tirx

    return tvm_ffi.structural_map(stmt, (tirx.Var, lambda found: value if found.same_as(variable) else found))


def uses(expression: Any, variable: Any) -> bool:
    """Whether a variable stands in an expression or statement (imports tvm)."""
    import tvm_ffi
    from tvm import tirx

    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (tirx.Var, lambda v: found.append(v) if v.same_as(variable) else None))
    return bool(found)


def with_axes_bound(expression: Any, realize: Any) -> Any:
    """Return what stands in a block with the values that its ``SBlockRealize`` gives the axes (imports tvm)."""
    for axis, value in zip(realize.block.iter_vars, realize.iter_values, strict=True):
        expression = substitute(expression, axis.var, value)
    return expression


def nest_of(loop: Any) -> tuple[list[Any], Any]:
    """Return the loops that stand in each other, outermost first, and what is in the innermost (imports tvm)."""
    from tvm import tirx

    loops = []
    while isinstance(loop, tirx.For):
        loops.append(loop)
        loop = loop.body
    return loops, loop


def in_sequence(statements: Sequence[Any]) -> Any:
    """Return statements as one (imports tvm)."""
    from tvm import tirx

    return statements[0] if len(statements) == 1 else tirx.SeqStmt(statements)


def vector_loop(lane: Any, lanes: int, body: Any) -> Any:
    """Return a statement for every lane of a vector (imports tvm)."""
    from tvm import tirx

    dtype = lane.ty.dtype
    return tirx.For(lane, tirx.const(0, dtype), tirx.const(lanes, dtype), tirx.ForKind.VECTORIZED, body)


def with_loop_body(loop: Any, body: Any, variable: Any = None) -> Any:
    """Return a loop around another body, with another variable if one is given (imports tvm)."""
    from tvm import tirx

    return tirx.For(
        *(loop.loop_var if variable is None else variable, loop.min, loop.extent, loop.kind, body),
        thread_binding=loop.thread_binding,
        annotations=dict(loop.annotations),
    )


def with_new_variable(loop: Any) -> Any:
    """Return a loop with a variable of its own, as a copy needs it (imports tvm)."""
    from tvm import tirx

    variable = tirx.Var(str(loop.loop_var.name), loop.loop_var.ty.dtype)
    return with_loop_body(loop, substitute(loop.body, loop.loop_var, variable), variable)


def with_root_body(func: Any, body: Any, *, buffers: Sequence[Any] | None = None, renew: bool = False) -> Any:
    """Return a PrimFunc with another body in its root block (imports tvm).

    Args:
        func: a PrimFunc whose body is the realization of a root block.
        body: the statement to stand in that block.
        buffers: all intermediate buffers of the root block; None for those that it has.
        renew: whether variables and buffers are defined anew, shared with no other PrimFunc.
    """
    from tvm import s_tir

    root = func.body.block
    block = s_tir.SBlock(
        *(root.iter_vars, root.reads, root.writes, root.name_hint, body),
        *(root.init, root.alloc_buffers if buffers is None else buffers, root.match_buffers, root.annotations),
    )
    result = func.with_body(s_tir.SBlockRealize(func.body.iter_values, func.body.predicate, block))
    return s_tir.renew_defs(result) if renew else result
