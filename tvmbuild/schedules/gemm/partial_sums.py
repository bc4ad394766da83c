"""Deep sums in float16, in two levels.

    sums[column, channel], totals[column, channel] = 0    # registers, stack
    for part of the reduction:                            # the marked loop: at most MOST_TERMS terms
        for term of the part:
            sums += inputs * weights
        totals += sums
        sums = 0
    sums = totals

Each addition rounds the sum so far to 11 bits. With terms of one size and any sign the error of n of them grows as n,
relative to their result as sqrt(n) * 2**-12: a convolution of depth 4608 is off by 1.2e-2 of its largest output. So a
deep sum is cut into parts of at most ``MOST_TERMS``; a tile of accumulators, in registers, sums one part, and is then
added to a tile of totals on the stack and cleared. That costs four instructions a vector and part, about 1 % of the
part's multiply-adds. The totals are float16 too: of 18 parts of 256 terms, the parts cause 93 % of the error's square
and the totals 7 %, so that totals in float32 would cost twice as much and gain nothing (this is pairwise summation
with two levels; N. J. Higham, "The Accuracy of Floating Point Summation", 1993).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvmbuild.schedules.contracts import PartsMark
from tvmbuild.schedules.tir.rewrite import nest_of, with_new_variable, with_root_body

#: Terms that one accumulator sums in float16, at most.
MOST_TERMS = 256

#: Terms of a part, at least, where the depth has a choice: shorter ones cost more than they save.
_FEWEST_TERMS = 32


def part_count(depth: int, step: int) -> int:
    """Return into how many equal parts, each a multiple of ``step``, to cut a depth: one, where it has no fit divisor.

    Args:
        depth: extent of the innermost reduction axis.
        step: indices of it that one trip of the innermost loop takes.
    """
    trips = depth // step
    divisors = (parts for parts in range(1, trips + 1) if trips % parts == 0)
    return next((parts for parts in divisors if min(depth, _FEWEST_TERMS) <= depth // parts <= MOST_TERMS), 1)


def mark_parts(sch: Any, loops: Sequence[Any], terms: int) -> None:
    """Mark the loop after each of whose iterations the accumulators go to the totals.

    Args:
        sch: the ``tvm.s_tir.Schedule``.
        loops: the reduction loops around a part, outermost first.
        terms: indices of the reduction in all.
    """
    if terms <= MOST_TERMS:
        return
    extents = [int(sch.get(loop).extent.value) for loop in loops]
    inside = [terms // math.prod(extents[: index + 1]) for index in range(len(loops))]
    chosen = next((loop for loop, count in zip(loops, inside, strict=True) if count <= MOST_TERMS), loops[-1])
    PartsMark().put(sch, chosen)


def sum_in_parts(func: Any) -> Any:
    """Rewrite the sums whose loops are marked in a scheduled PrimFunc (imports tvm)."""
    import tvm_ffi
    from tvm import tirx

    totals: list[Any] = []

    def on_sequence(sequence: Any, mutator: Any) -> Any:
        statements = list(sequence.seq)
        index = next((i for i, part in enumerate(statements) if i and _marked(part)), None)
        if index is None:
            return mutator.default_mutate(sequence)
        clear = statements[index - 1]
        tile = nest_of(clear)[1].block.writes[0].source
        total = tirx.decl_buffer(tile.shape, tile.dtype, "total")
        totals.append(total)
        statements[index] = _with_flush(statements[index], _nest(clear, tile, total, _flush))
        statements[index : index + 1] = [statements[index], _nest(clear, tile, total, _finish)]
        statements.insert(index, _nest(clear, tile, total, _start))
        return tirx.SeqStmt(statements)

    root = func.body.block
    body = tvm_ffi.structural_mutate(root.body, (tirx.SeqStmt, on_sequence))
    if not totals:
        return func
    return with_root_body(func, body, buffers=[*root.alloc_buffers, *totals], renew=True)


def _start(_tile: Any, total: Any, indices: Any) -> Any:
    from tvm import tirx

    return tirx.BufferStore(total, tirx.const(0, total.dtype), indices)


def _flush(tile: Any, total: Any, indices: Any) -> Any:
    from tvm import tirx

    summed = tirx.BufferLoad(total, indices) + tirx.BufferLoad(tile, indices)
    clear = tirx.BufferStore(tile, tirx.const(0, tile.dtype), indices)
    return tirx.SeqStmt([tirx.BufferStore(total, summed, indices), clear])


def _finish(tile: Any, total: Any, indices: Any) -> Any:
    from tvm import tirx

    return tirx.BufferStore(tile, tirx.BufferLoad(total, indices), indices)


def _nest(clear: Any, tile: Any, total: Any, statement: Any) -> Any:
    """Return the loops that clear a tile, around another statement on its elements."""
    import tvm_ffi
    from tvm import s_tir, tirx

    def on_block(block: Any) -> Any:
        both = [block.writes[0], tirx.BufferRegion(total, block.writes[0].region)]
        name = f"{block.name_hint}{statement.__name__}"
        return s_tir.SBlock(block.iter_vars, both, both, name, statement(tile, total, block.body.indices))

    changed = tvm_ffi.structural_map(clear, (s_tir.SBlock, on_block))
    return tvm_ffi.structural_map(changed, (tirx.For, with_new_variable))


def _with_flush(loops: Any, flush: Any) -> Any:
    """Return reduction loops with a statement at the end of each iteration of the marked one."""
    import tvm_ffi
    from tvm import tirx

    def on_loop(loop: Any) -> Any:
        if PartsMark.find(loop) is None:
            return loop
        body = tirx.SeqStmt([loop.body, flush])
        return tirx.For(loop.loop_var, loop.min, loop.extent, loop.kind, body, annotations=PartsMark.others(loop))

    return tvm_ffi.structural_map(loops, (tirx.For, on_loop))


def _marked(stmt: Any) -> bool:
    """Whether a marked loop stands in a statement with nothing beside it on the way."""
    return any(PartsMark.find(loop) is not None for loop in nest_of(stmt)[0])
