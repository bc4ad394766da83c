"""Element-wise and broadcast chains of any length, fused into one pass over memory.

    for outer axes:                                       # parallel; see injective
        for registers * lanes elements of the fused trailing axes:
            y[vector] = chain(x[vector], broadcasts)

Where a chain computes a stage too often or nests too many functions, that stage is a nest of its own before it.
"""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.loops.injective import inline_stages, schedule_block
from tvmbuild.schedules.schedule import Schedule
from tvmbuild.target.target import Target

KIND = "elementwise"


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether no stage reduces and every tensor is read where it is written, up to broadcasting."""
    return kernel.main is None and all(stage.elementwise and _broadcasts(stage) for stage in kernel.stages)


def _broadcasts(stage: Stage) -> bool:
    """Whether what the stage reads has the shape of its output or can be broadcast to it."""
    shape = stage.writes[0].shape
    return all(
        len(ref.shape) <= len(shape)
        and all(a in (1, b) for a, b in zip(reversed(ref.shape), reversed(shape), strict=False))
        for ref in stage.reads
    )


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the number of registers that a step of the inner loop fills.

    Four overlap the long chains of the polynomials: sigmoid of a sum on a Cortex-A72 takes 47 predicted cycles a
    register alone, 33 with two and 28 with four.
    """
    return (Knob("registers", 4, (1, 2, 4, 8)),)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Inline all stages into the last and vectorise it."""
    for stage in inline_stages(sch, kernel):
        schedule_block(sch, stage.name, target, choice["registers"])


SCHEDULE = Schedule(KIND, matches, knobs, apply)
