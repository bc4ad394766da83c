"""A schedule is a value: what it matches, what it leaves open, and how it turns a kernel into loops."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.kernel import Kernel
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class Schedule:
    """One description of a kernel's loops, for the default and for tuning.

    Attributes:
        kind: its name in reports and records ("conv2d.direct").
        matches: whether ``apply`` can schedule a kernel for a target.
        knobs: the open numbers, with their defaults (by rule) for the kernel's shape and the target.
        apply: schedules the PrimFunc ``main`` of a ``tvm.s_tir.Schedule`` by any choice of the knobs; block names are
            the stages' names.
        revision: raised whenever ``knobs`` or ``apply`` change what a choice means, so that tuning records of before
            are known to be stale.
    """

    kind: str
    matches: Callable[[Kernel, Target], bool]
    knobs: Callable[[Kernel, Target], tuple[Knob, ...]]
    apply: Callable[[Any, Kernel, Target, Choice], None]
    revision: int = 1


def legalized_as(kind: str) -> Callable[[Kernel, Target], bool]:
    """Return a ``matches`` that takes the kernels that our legalizations mark as of a kind."""
    return lambda kernel, _target: kernel.kind == kind
