"""The search space of a kernel for MetaSchedule, from the same description as its default schedule.

Each knob becomes one ``sample_categorical`` decision of the trace, so that a record of MetaSchedule's database holds
the whole choice. What a choice does to the loops follows from it by ``apply``; a search must therefore run the function
again for each candidate (MetaSchedule's ``replay-func`` strategy) and not replay a mutated trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvmbuild.schedules.kernel import analyze
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.registry import find_schedule
from tvmbuild.target.target import Target


def knobs_of(func: Any, target: Target) -> tuple[Knob, ...]:
    """Return the open numbers of a PrimFunc's schedule; none when no schedule matches it."""
    kernel = analyze("main", func)
    module = find_schedule(kernel, target) if kernel is not None else None
    return module.knobs(kernel, target) if module is not None and kernel is not None else ()


def schedule_fn(target: Target, fixed: Choice | None = None) -> Callable[[Any], None]:
    """Return a function for ``meta_schedule.space_generator.ScheduleFn``.

    It samples every knob of the PrimFunc ``main`` of a ``tvm.s_tir.Schedule`` and schedules it accordingly; a PrimFunc
    that no schedule matches is left as it is.

    Args:
        target: the board.
        fixed: a value for every knob, which becomes the decision; None draws at random.
    """

    def sample(sch: Any) -> None:
        kernel = analyze("main", sch.mod["main"])
        module = find_schedule(kernel, target) if kernel is not None else None
        if module is None or kernel is None:
            return
        choice = {}
        for knob in module.knobs(kernel, target):
            share = 1.0 / len(knob.candidates)
            decision = None if fixed is None else knob.candidates.index(fixed[knob.name])
            drawn = sch.sample_categorical(list(knob.candidates), [share] * len(knob.candidates), decision)
            choice[knob.name] = int(sch.get(drawn))
        module.apply(sch, kernel, target, choice)

    return sample
