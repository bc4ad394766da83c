"""Reductions and what surrounds them: softmax, normalisation, sums and means over any axes.

    for row:                                              # parallel; all stages of a row, where they share rows
        partial[lane] = identity                          # a reduction along the contiguous axis
        for vector of the row: partial = combine(partial, x[vector])
        result = fold(partial)                            # in halves
        for vector of the row: y = f(x[vector], result)   # a stage without reduction

    for row, vector of neighbouring results:              # parallel; a reduction over other axes
        for reduced index: result = combine(result, x)

Where every stage shares leading axes (the rows of a softmax or a LayerNorm), all stages of a row run while it is in
the first level cache, and rows share the threads. Reductions over the contiguous axis use vectors of partial
results; reductions over other axes keep a vector of neighbouring results in registers.
"""

from __future__ import annotations

import math
from typing import Any

from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.loops.injective import schedule_block
from tvmbuild.schedules.schedule import Schedule
from tvmbuild.schedules.threads import thread_count
from tvmbuild.schedules.tir.access import analyze_access
from tvmbuild.schedules.tir.vector_loops import mark
from tvmbuild.schedules.tir.vector_reduction import is_vectorisable, mark_reduction
from tvmbuild.target.target import Target

KIND = "reduction"


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether some stage reduces."""
    return kernel.main is not None


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the number of registers that a step of an inner loop fills."""
    return (Knob("registers", 4, (1, 2, 4, 8)),)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Inline what is cheap, then run the stages row by row, or one after the other when they share no rows."""
    stages = _inline_cheap(sch, kernel)
    lanes = choice["registers"] * target.vector_bits // 32
    shared = _shared_axes(stages)
    inner = [stage for stage in stages if stage.is_reduction and _along_rows(sch, stage)]
    if len(stages) > 1 and shared and inner:
        _by_rows(sch, stages, shared, lanes, target)
        return
    for stage in stages:
        if stage.is_reduction:
            _alone(sch, stage, lanes, target)
        else:
            schedule_block(sch, stage.name, target, choice["registers"])


def _inline_cheap(sch: Any, kernel: Kernel) -> list[Stage]:
    """Inline stages without reduction, but those with elementary functions that several stages read."""
    kept = []
    for stage in kernel.stages:
        names = {ref.name for ref in stage.writes}
        readers = [other for other in kernel.stages if any(ref.name in names for ref in other.reads)]
        block = sch.get_sblock(stage.name)
        keep = stage.is_reduction or stage is kernel.last or any(ref.parameter for ref in stage.writes)
        if keep or (len(readers) > 1 and analyze_access(sch.get(block)).functions):
            kept.append(stage)
        else:
            sch.compute_inline(block)
    return kept


def _shared_axes(stages: list[Stage]) -> int:
    """Return how many leading axes all stages have in common with the last."""
    last = stages[-1].spatial
    shared = len(last)
    for stage in stages:
        same = 0
        while same < min(shared, len(stage.spatial)) and stage.spatial[same] == last[same]:
            same += 1
        shared = same
    return min(shared, max(0, len(last) - 1))


def _along_rows(sch: Any, stage: Stage) -> bool:
    """Whether the innermost reduction axis is contiguous in what the stage reads, and its update can be a vector."""
    block = sch.get(sch.get_sblock(stage.name))
    access = analyze_access(block)
    steps = [walk.steps[-1] for walk in access.walks if not walk.store]
    return is_vectorisable(block) and all(step in (0, 1) for step in steps) and 1 in steps


def _by_rows(sch: Any, stages: list[Stage], shared: int, lanes: int, target: Target) -> None:
    vectorised = {stage.name: stage.is_reduction and _along_rows(sch, stage) for stage in stages}
    work = sum(stage.iterations * (1 if stage.is_reduction else 8) for stage in stages)
    row = sch.fuse(*sch.get_loops(sch.get_sblock(stages[-1].name))[:shared])
    for stage in reversed(stages[:-1]):
        sch.compute_at(sch.get_sblock(stage.name), row, preserve_unit_loops=True)
    if thread_count(work, target) > 1 and math.prod(stages[-1].spatial[:shared]) > 1:
        sch.parallel(row)
    for stage in stages:
        block = sch.get_sblock(stage.name)
        loops = sch.get_loops(block)
        if not stage.is_reduction:
            mark(sch, loops[-1], lanes)
            continue
        reduced = loops[-len(stage.reduction) :]
        sch.decompose_reduction(block, reduced[0])
        if vectorised[stage.name]:
            mark_reduction(sch, reduced[-1], lanes)


def _alone(sch: Any, stage: Stage, lanes: int, target: Target) -> None:
    """Schedule one reduction by itself."""
    block = sch.get_sblock(stage.name)
    along = _along_rows(sch, stage)
    access = analyze_access(sch.get(block))
    last_spatial = len(stage.spatial) - 1
    loops = list(sch.get_loops(block))
    outer, reduced = loops[: len(stage.spatial)], loops[len(stage.spatial) :]
    threads = thread_count(stage.iterations, target)
    across = not along and last_spatial >= 0 and all(walk.steps[last_spatial] in (0, 1) for walk in access.walks)
    if across and is_vectorisable(sch.get(block)):
        width = stage.spatial[-1]
        chunk = next((size for size in (lanes, lanes // 2, lanes // 4) if size and width % size == 0), 1)
        vectors, lane = sch.split(outer[-1], [None, chunk])
        sch.reorder(*outer[:-1], vectors, *reduced, lane)
        rows = sch.fuse(*outer[:-1], vectors)
        if threads > 1:
            sch.parallel(rows)
        if chunk > 1:
            sch.vectorize(lane)
        started = sch.decompose_reduction(block, reduced[0])
        if chunk > 1:
            sch.vectorize(sch.get_loops(started)[-1])
        return
    if outer:
        rows = sch.fuse(*outer)
        if threads > 1 and math.prod(stage.spatial) > 1:
            sch.parallel(rows)
    if is_vectorisable(sch.get(block)):
        sch.decompose_reduction(block, reduced[0])
        if along:
            mark_reduction(sch, reduced[-1], lanes)


SCHEDULE = Schedule(KIND, matches, knobs, apply)
