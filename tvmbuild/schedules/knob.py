"""The few numbers that a schedule leaves open: the rule gives one, tuning may try the others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

#: Names of knobs in tuning records, where the field has another word: whether weights stay in cache while inputs pass
#: (1) or the other way round (0), and by how many steps the innermost reduction loop is unrolled.
WEIGHT_STATIONARY = "weights_stay"
UNROLL = "repeat"

#: A value for each knob of a kernel, by name.
Choice: TypeAlias = Mapping[str, int]


@dataclass(frozen=True)
class Knob:
    """One open number of a schedule.

    Attributes:
        name: its name in records and reports ("columns").
        default: the value chosen by rule from shape and target.
        candidates: the values that tuning may try, the default among them.
    """

    name: str
    default: int
    candidates: tuple[int, ...]

    def __post_init__(self) -> None:
        if self.default not in self.candidates:
            raise ValueError(f"knob {self.name}: default {self.default} is not among {self.candidates}")


def defaults(knobs: tuple[Knob, ...]) -> dict[str, int]:
    """Return the choice made by rule."""
    return {knob.name: knob.default for knob in knobs}
