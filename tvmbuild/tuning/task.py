"""What is tuned: one task for each distinct kernel of a model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from tvmbuild.schedules.knob import Choice, Knob, defaults


@dataclass(frozen=True)
class Variant:
    """One way to compute a kernel, whose schedule has its own knobs.

    Attributes:
        workload: structural hash of the PrimFunc before scheduling, as 16 hexadecimal digits.
        knobs: the open numbers of its schedule.
        kind: its schedule ("conv2d.direct").
        plan: name of the operator's plan (see ``schedules.conv2d_choices``); "" for the rule's.
        func: the ``tvm.tirx.PrimFunc``.
        constants: arrays for the parameters that are constants of the model (weights as packed), by position.
    """

    workload: str
    knobs: tuple[Knob, ...]
    kind: str = ""
    plan: str = ""
    func: Any = field(default=None, compare=False, repr=False)
    constants: Mapping[int, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def size(self) -> int:
        """Number of choices."""
        return math.prod(len(knob.candidates) for knob in self.knobs)


@dataclass(frozen=True)
class Candidate:
    """One point of a task's space: a variant and a value for each of its knobs."""

    variant: int
    values: tuple[int, ...]


@dataclass(frozen=True)
class Task:
    """One kernel to tune.

    Attributes:
        name: the PrimFunc's name in this model.
        kind: the schedule of its first variant.
        shape: shapes and parameters, for people.
        operator: numbers that describe the operator, to find near ones; empty where there are none.
        dtype: element type of the operator; "" where there are no numbers.
        calls: how often the model calls it.
        macs: multiply-accumulates of one call.
        variants: the ways to compute it; the first is what a build without records does.
    """

    name: str
    kind: str
    shape: str
    operator: tuple[int, ...]
    dtype: str
    calls: int
    macs: int
    variants: tuple[Variant, ...]

    @property
    def workload(self) -> str:
        """Hash of the kernel as a build without records computes it: the task's identity in any model."""
        return self.variants[0].workload

    @property
    def size(self) -> int:
        """Number of candidates."""
        return sum(variant.size for variant in self.variants)

    @cached_property
    def default(self) -> Candidate:
        """The candidate that a build without records uses."""
        return Candidate(0, tuple(knob.default for knob in self.variants[0].knobs))

    @property
    def variant_defaults(self) -> tuple[Candidate, ...]:
        """The candidate of each variant whose knobs are the rule's, the default's first."""
        return tuple(
            Candidate(index, tuple(knob.default for knob in variant.knobs))
            for index, variant in enumerate(self.variants)
        )

    def choice(self, candidate: Candidate) -> Choice:
        """Return a candidate's values by knob."""
        knobs = self.variants[candidate.variant].knobs
        return {knob.name: value for knob, value in zip(knobs, candidate.values, strict=True)}

    def candidate(self, workload: str, choice: Choice) -> Candidate | None:
        """Return the candidate that a record describes, or None when this version's space does not hold it."""
        for index, variant in enumerate(self.variants):
            if variant.workload != workload:
                continue
            known = defaults(variant.knobs)
            if set(known) == set(choice) and all(choice[knob.name] in knob.candidates for knob in variant.knobs):
                return Candidate(index, tuple(choice[knob.name] for knob in variant.knobs))
        return None

    def candidates(self) -> Iterator[Candidate]:
        """Yield every candidate, the default first."""
        yield self.default
        for index, variant in enumerate(self.variants):
            for values in itertools.product(*(knob.candidates for knob in variant.knobs)):
                candidate = Candidate(index, values)
                if candidate != self.default:
                    yield candidate
