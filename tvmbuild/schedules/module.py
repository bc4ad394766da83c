"""What a module of schedules offers."""

from __future__ import annotations

from typing import Any, Protocol

from tvmbuild.schedules.kernel import Kernel
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.target.target import Target


class ScheduleModule(Protocol):
    """What each module of schedules offers; the modules themselves are the implementations.

    The description of a kernel's schedule is one: ``knobs`` gives the default (by rule) and the space that tuning
    searches, ``apply`` turns any choice of it into loops.
    """

    KIND: str

    def matches(self, kernel: Kernel, target: Target) -> bool:
        """Whether ``apply`` can schedule the kernel."""

    def knobs(self, kernel: Kernel, target: Target) -> tuple[Knob, ...]:
        """Return the open numbers of the schedule with their defaults for this shape and target."""

    def apply(self, sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
        """Schedule the PrimFunc ``main`` of ``sch`` (a ``tvm.s_tir.Schedule``); block names are the stages' names."""
