"""Who waits for whom while candidates are compiled here and measured on boards."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

#: Seconds before which shares tell nothing, and the share of waiting from which on it is worth a word.
_LEAST_SECONDS, _LEAST_SHARE = 10.0, 0.1
#: Idle cores of this machine below which another emulated board would gain next to nothing.
_SPARE = 0.75
_CORES = "more boards would not help; more cores would"


@dataclass(frozen=True)
class Waits:
    """Shares of the time since the first candidate, from 0 to 1.

    What is missing to 1 of boards and of the builder is time in which the search had not proposed the next candidates
    yet, and the end of the run, when nothing is left to propose.

    Attributes:
        seconds: since the first candidate.
        boards: number of boards.
        workers: number of compiling processes.
        boards_busy: of the boards' time, that they measured.
        boards_waited: of the boards' time, that they had nothing to measure because it was still being compiled.
        builder_busy: of the compiling processes' time, that they compiled.
        builder_waited: of the compiling processes' time, that they were idle because the boards had enough before them.
    """

    seconds: float
    boards: int
    workers: int
    boards_busy: float
    boards_waited: float
    builder_busy: float
    builder_waited: float


def limit_of(waits: Waits, cores: int = 0) -> str:
    """Return what keeps a run from more trials a minute: "builder", "boards", "machine", or "" when it is not clear.

    Args:
        waits: of the run.
        cores: number of this machine's cores when its boards are emulated and share them with the builder; else 0.
    """
    if waits.seconds < _LEAST_SECONDS:
        return ""
    busy = waits.boards * waits.boards_busy + waits.workers * waits.builder_busy
    if cores and busy > cores - _SPARE:
        return "machine"
    if max(waits.boards_waited, waits.builder_waited) < _LEAST_SHARE:
        return ""
    return "builder" if waits.boards_waited >= waits.builder_waited else "boards"


def limit_text(waits: Waits, limit: str) -> str:
    """Say in a line what ``limit_of`` found, and what would help; "" for nothing."""
    some = "board" if waits.boards == 1 else "boards"
    return {
        "builder": f"{some} waited for the builder {waits.boards_waited:.0%} of the time: {_CORES}",
        "boards": f"the builder waited for {some} {waits.builder_waited:.0%} of the time: another board would help "
        "(it is used from the next start on: --resume)",
        "machine": f"compiling and emulating keep this machine's cores busy: {_CORES}",
    }.get(limit, "")


class Meter:
    """Adds up who is busy and who waits; used from several threads."""

    def __init__(self, workers: int, boards: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with nothing to do; the clock runs from the first candidate on."""
        self._workers, self._boards = workers, boards
        self._clock = clock
        self._lock = threading.Lock()
        self._counts = dict.fromkeys(("to_build", "building", "to_measure", "measuring", "searching"), 0)
        self._sums = dict.fromkeys(("boards_busy", "boards_waited", "builder_busy", "builder_waited"), 0.0)
        self._started: float | None = None
        self._last = 0.0

    def change(self, **counts: int) -> None:
        """Note that so many more candidates are in a state, or left it.

        Args:
            counts: by state: to_build, building, to_measure, measuring.
        """
        with self._lock:
            self._tick()
            for name, count in counts.items():
                self._counts[name] += count

    @contextmanager
    def searching(self) -> Iterator[None]:
        """Note that the next candidates are being chosen for as long as the block runs."""
        self.change(searching=1)
        try:
            yield
        finally:
            self.change(searching=-1)

    def waits(self) -> Waits:
        """Return the shares so far."""
        with self._lock:
            self._tick()
            seconds = self._last - self._started if self._started is not None else 0.0
            spans = {"boards": self._boards * seconds, "builder": self._workers * seconds}
            shares = {name: value / (spans[name.partition("_")[0]] or 1.0) for name, value in self._sums.items()}
            return Waits(seconds, self._boards, self._workers, **shares)

    def _tick(self) -> None:
        """Add the time since the last change to whoever was busy or waited in it."""
        now = self._clock()
        if self._started is None:
            self._started = self._last = now
        span, self._last = now - self._last, now
        counts, sums = self._counts, self._sums
        sums["boards_busy"] += span * counts["measuring"]
        sums["builder_busy"] += span * counts["building"]
        # Only as many boards wait for the builder as it has candidates for.
        unfed = max(0, self._boards - counts["measuring"])
        sums["boards_waited"] += span * min(unfed, counts["to_build"] + counts["building"])
        idle = max(0, self._workers - counts["building"])
        if counts["measuring"] + counts["to_measure"] and not counts["to_build"] and not counts["searching"]:
            sums["builder_waited"] += span * idle
