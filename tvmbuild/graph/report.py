"""What a graph pass did and, where it did nothing, why."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Kept:
    """A place that a pass looked at and left as it was."""

    node: str
    reason: str


@dataclass(frozen=True)
class PassReport:
    """The outcome of one pass.

    Attributes:
        name: the pass, as in its file ("fold_batch_norm").
        what: what it counts, for people ("BatchNorm folded").
        applied: places rewritten.
        kept: places left alone, with reasons.
    """

    name: str
    what: str
    applied: int
    kept: tuple[Kept, ...] = ()

    @property
    def total(self) -> int:
        """Places that the pass looked at."""
        return self.applied + len(self.kept)

    def __str__(self) -> str:
        """Return "27 of 27 BatchNorm folded"."""
        return f"{self.applied} of {self.total} {self.what}"
