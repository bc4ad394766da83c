"""Max and average pooling, NHWC: a vector of channels of one output in registers, padding skipped (see ``border``).

    for image, row:                                       # parallel
        for column, vectors of channels:                  # the last ones apart, where they are not full
            result = identity                             # in registers
            for kernel row inside the image, kernel column inside the image:
                result = combine(result, x)
            output = epilogue(result)

Operators fused before the pool are computed in it, for each tap.
"""

from __future__ import annotations

import math
from typing import Any

from tvmbuild.schedules.contracts import GuardMark
from tvmbuild.schedules.kernel import Kernel
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.loops.depthwise import channel_lanes
from tvmbuild.schedules.schedule import Schedule
from tvmbuild.schedules.threads import thread_count
from tvmbuild.schedules.tir.border import mark_peel
from tvmbuild.target.target import Target

KIND = "pool"


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether the one reduction is over a window of an NHWC tensor, with more than one output position."""
    main = kernel.main
    if main is None or sum(stage.is_reduction for stage in kernel.stages) != 1:
        return False
    if len(main.spatial) != 4 or len(main.reduction) != 2 or len(main.reads) != 1 or len(main.writes) != 1:
        return False
    source, result = main.reads[0], main.writes[0]
    same_type = source.dtype == result.dtype and result.dtype in ("float32", "float16", "int8")
    positions = math.prod(main.spatial[1:3])
    return same_type and len(source.shape) == 4 and source.shape[3] == main.spatial[3] and positions > 1


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the number of registers of channels that are reduced together."""
    assert kernel.main is not None
    lanes = channel_lanes(kernel.main.spatial[3], target, kernel.main.writes[0].dtype)
    most = next(count for count in (4, 2, 1) if count == 1 or kernel.main.spatial[3] % (count * lanes) == 0)
    return (Knob("registers", most, (1, 2, 4)),)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Keep a vector of channels of one output in registers over the whole window."""
    main = kernel.main
    assert main is not None
    for stage in (*kernel.producers, *kernel.epilogue[:-1]):
        sch.compute_inline(sch.get_sblock(stage.name))
    block = sch.get_sblock(main.name)
    last = sch.get_sblock(kernel.last.name) if kernel.epilogue else sch.cache_write(block, 0, "global")
    block = sch.get_sblock(main.name)
    channels = main.spatial[3]
    lanes = channel_lanes(channels, target, main.writes[0].dtype) * choice["registers"]
    *outer, _, c = sch.get_loops(last)
    vector, lane = sch.split(c, [None, lanes])
    sch.compute_at(block, vector, preserve_unit_loops=True)
    *_, in_lane, kh, kw = sch.get_loops(block)
    sch.reorder(kh, kw, in_lane)
    sch.vectorize(in_lane)
    sch.vectorize(lane)
    rows = sch.fuse(*outer)
    if thread_count(main.iterations / 4, target) > 1 and math.prod(main.spatial[:2]) > 1:
        sch.parallel(rows)
    start = sch.decompose_reduction(block, kh)
    sch.vectorize(sch.get_loops(start)[-1])
    GuardMark().put(sch, block)
    mark_peel(sch, vector, 0, int(channels % lanes != 0))


SCHEDULE = Schedule(KIND, matches, knobs, apply)
