"""Loops of blocks without reduction: shared by the element-wise, data movement and fallback schedules.

    for outer axes:                                       # parallel, or parts of the fused axes where these are too few
        for section of the fused trailing axes:           # from border to border of concatenations and pads
            for registers * lanes elements of the section:
                y[vector] = f(x[vector], ...)             # one vector operation for LLVM to cut into registers
            y[rest] = f(x[rest], ...)                     # by vectors of half, a quarter, ... of the lanes

Everything is inlined into the block that writes the output; its trailing axes are fused as far as all buffers move
in step, cut into vectors of several registers (so that independent chains of a polynomial overlap), and the outer
axes share the threads.
"""

from __future__ import annotations

import math
from typing import Any

from tvmbuild.schedules.contracts import FlatMark
from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.threads import thread_count
from tvmbuild.schedules.tir.access import Access, analyze_access
from tvmbuild.schedules.tir.expression_size import MAX_DEPTH
from tvmbuild.schedules.tir.vector_loops import mark
from tvmbuild.target.target import Target

#: A stage that would be computed more often than this after inlining is kept in memory instead: copies of copies of an
#: expanded exponential take LLVM and TVM's simplifier minutes.
MAX_COPIES = 3


def lanes(access: Access, target: Target, registers: int) -> int:
    """Return the elements in so many registers."""
    return max(1, registers * target.vector_bits // access.bits)


def inline_stages(sch: Any, kernel: Kernel) -> list[Stage]:
    """Inline every stage that can be into its consumers.

    Returns:
        The stages that remain, in order; the last writes the output.
    """
    copies = _copies(kernel)
    nested = _too_nested(sch, kernel)
    kept = []
    for stage in kernel.stages:
        writes_parameter = any(ref.parameter for ref in stage.writes)
        stays = stage.is_reduction or copies[stage.name] > MAX_COPIES or stage.name in nested
        if stage is kernel.last or writes_parameter or stays:
            kept.append(stage)
        else:
            sch.compute_inline(sch.get_sblock(stage.name))
    return kept


def _too_nested(sch: Any, kernel: Kernel) -> set[str]:
    """Return the stages to keep in memory so that no more than ``MAX_DEPTH`` functions come to stand in each other."""
    writer = {ref.name: stage.name for stage in kernel.stages for ref in stage.writes}
    depth: dict[str, int] = {}
    kept: set[str] = set()
    for stage in kernel.stages:
        own = analyze_access(sch.get(sch.get_sblock(stage.name))).functions
        sources = [writer[ref.name] for ref in stage.reads if writer.get(ref.name, stage.name) != stage.name]
        if own:
            kept |= {name for name in sources if depth[name] and depth[name] + own > MAX_DEPTH}
        depth[stage.name] = own + max((depth[name] for name in sources if name not in kept), default=0)
    return kept


def _copies(kernel: Kernel) -> dict[str, int]:
    """Count how often each stage would be computed if all were inlined (a lower bound: one read a consumer)."""
    writer = {ref.name: stage.name for stage in kernel.stages for ref in stage.writes}
    copies = {stage.name: 0 for stage in kernel.stages}
    copies[kernel.last.name] = 1
    for stage in reversed(kernel.stages):
        for ref in stage.reads:
            if ref.name in writer and writer[ref.name] != stage.name:
                copies[writer[ref.name]] += max(1, min(copies[stage.name], MAX_COPIES + 1))
    return copies


def schedule_block(sch: Any, name: str, target: Target, registers: int) -> None:
    """Give a block without reduction its loops.

    Args:
        sch: the ``tvm.s_tir.Schedule``.
        name: the block; its producers are inlined.
        target: the board.
        registers: vector registers that one step of the inner loop fills.
    """
    block = sch.get_sblock(name)
    if not sch.get_loops(block):
        return
    access = analyze_access(sch.get(block))
    if access.contiguous:
        first = access.flat_from
        if first < len(access.extents) - 1:
            first = _room_for_threads(access, first, target)
            _fuse_trailing(sch, block, access.extents, first)
        _run_rows(sch, block, access, target, registers)
    else:
        from tvmbuild.schedules.loops.transposition import tile_block

        tile_block(sch, block, access, target)


def cycles(access: Access) -> float:
    """Estimate the cycles of a block on one core: one an element, and eight for an elementary function."""
    return math.prod(access.extents) * (1 + 8 * access.functions) * access.bits / 32


def _room_for_threads(access: Access, first: int, target: Target) -> int:
    """Return the first axis to fuse so that the axes before it give every thread something."""
    threads = thread_count(cycles(access), target)
    while first < len(access.extents) - 1 and math.prod(access.extents[:first]) < threads:
        first += 1
    return first


def _fuse_trailing(sch: Any, block: Any, extents: tuple[int, ...], first: int) -> None:
    from tvm.tirx import IndexMap

    if first >= len(extents) - 1:
        return

    def fused(*axes: Any) -> list[Any]:
        flat = axes[first]
        for axis, extent in zip(axes[first + 1 :], extents[first + 1 :], strict=True):
            flat = flat * extent + axis
        return [*axes[:first], flat]

    dtype = str(sch.get(block).iter_vars[0].var.ty.dtype)
    sch.transform_block_layout(block, IndexMap.from_func(fused, ndim=len(extents), index_dtype=dtype))
    FlatMark().put(sch, block)


def _run_rows(sch: Any, block: Any, access: Access, target: Target, registers: int) -> None:
    *outer, inner = sch.get_loops(block)
    threads = thread_count(cycles(access), target)
    if threads > 1:
        if outer and math.prod(int(sch.get(loop).extent.value) for loop in outer) >= threads:
            sch.parallel(sch.fuse(*outer))
        elif not access.borders:
            parts = _even_parts(int(sch.get(inner).extent.value), threads)
            if parts > 1:
                chunk, inner = sch.split(inner, [parts, None])
                sch.parallel(sch.fuse(*outer, chunk) if outer else chunk)
    mark(sch, inner, lanes(access, target, registers), access.borders)


def _even_parts(extent: int, threads: int) -> int:
    """Return a number of equal parts, at least one for each thread; 1 when the extent has no such divisor."""
    return next((parts for parts in range(threads, 8 * threads + 1) if extent % parts == 0), 1)
