"""Concatenation, padding, transposes, slices, resizing and whatever else only moves elements, with what is fused.

    for outer axes:                                       # parallel
        for section of the last axis between borders:     # reads in a row: see injective
            for vector of the section: y[vector] = chain(x[vector])
        for tile of a cache line of inputs, vector of outputs:                       # other reads: see transposition
            y[vector] = chain(x[gathered])

The first is for blocks whose reads lie along the last axis or stand still, the second for all others.
"""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.kernel import Kernel
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.loops.injective import inline_stages, schedule_block
from tvmbuild.schedules.schedule import Schedule
from tvmbuild.target.target import Target

KIND = "data_movement"


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether no stage reduces."""
    return kernel.main is None


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the number of registers that a step of the inner loop fills."""
    return (Knob("registers", 4, (1, 2, 4, 8)),)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Inline all stages into the last, then vectorise or tile it."""
    for stage in inline_stages(sch, kernel):
        schedule_block(sch, stage.name, target, choice["registers"])


SCHEDULE = Schedule(KIND, matches, knobs, apply)
