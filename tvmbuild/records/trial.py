"""The outcome of trying one candidate."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Why a trial can fail.
CAUSES = ("compile", "upload", "time-out", "wrong result", "crash", "throttled", "lost", "quarantined")
#: Causes that tell of the board or the line to it, not of the candidate: such a trial may be tried again.
TRANSIENT = ("upload", "throttled", "lost")


@dataclass(frozen=True)
class Failure:
    """Why a trial gave no time: one of ``CAUSES``, and what was said."""

    cause: str
    message: str


@dataclass(frozen=True)
class Measurement:
    """How long a candidate takes.

    Attributes:
        seconds: one figure for each repeat; predicted ones have one.
        output: what it computed, for comparison with the default's.
        readings: what the board said of itself meanwhile (clock, temperature), or the predicted figures behind
            ``seconds``.
        reference: seconds of the task's default on the same board at about the same time; 0 when it was not timed.
        board: which of several boards it was, "host:port"; "" where there is one.
    """

    seconds: tuple[float, ...]
    output: Any = field(default=None, compare=False, repr=False)
    readings: Mapping[str, float] = field(default_factory=dict)
    reference: float = 0.0
    board: str = ""


@dataclass(frozen=True)
class Trial:
    """One line of the journal.

    Attributes:
        task: hash of the task.
        workload: hash of the variant that was tried.
        choice: values of its knobs.
        plan: name of the operator's plan (see ``schedules.conv2d_choices``); "" for the rule's.
        seconds: figures of the repeats; empty when it failed.
        cause: why it failed, or "".
        message: what was said then.
        readings: as in ``Measurement``.
        kind: the schedule ("conv2d.direct").
        shape: shapes and parameters, for people.
        operator: numbers of the operator, to find near ones.
        dtype: element type of the operator.
        is_default: whether it is the choice of a build without records.
        time: seconds since 1970, when it ended.
        board: which of several boards measured it, "host:port"; "" where there is one.
        revision: of the schedule ``kind`` that was tried; records from before revisions were kept are of the first.
    """

    task: str
    workload: str
    choice: Mapping[str, int]
    plan: str
    seconds: tuple[float, ...]
    cause: str = ""
    message: str = ""
    readings: Mapping[str, float] = field(default_factory=dict)
    kind: str = ""
    shape: str = ""
    operator: tuple[int, ...] = ()
    dtype: str = ""
    is_default: bool = False
    time: float = 0.0
    board: str = ""
    revision: int = 1

    @property
    def ok(self) -> bool:
        """Whether it has a time."""
        return not self.cause

    @property
    def best(self) -> float:
        """The median of its repeats, in seconds; infinite when it failed."""
        return statistics.median(self.seconds) if self.ok and self.seconds else float("inf")

    @property
    def spread(self) -> float:
        """Half the distance between its quartiles over the median: how far repeats differ; 0 for a single figure."""
        if len(self.seconds) < 4:
            return 0.0
        low, middle, high = statistics.quantiles(self.seconds, n=4)
        return (high - low) / 2 / middle if middle else 0.0

    @property
    def key(self) -> tuple[str, tuple[tuple[str, int], ...]]:
        """What was tried: no two trials of a board have the same."""
        return self.workload, tuple(sorted(self.choice.items()))
