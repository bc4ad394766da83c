"""Work on a remote file system in a bounded time, whatever its driver does: after that its thread is left behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

ResultT = TypeVar("ResultT")
#: Bytes a second that a transfer has to reach, once the first seconds are over.
SLOWEST = 1 << 20


class Moved:
    """How many bytes a transfer has moved; the waiting side reads it."""

    def __init__(self) -> None:
        self.bytes = 0
        self.given_up = False

    def add(self, count: int) -> None:
        """Report moved bytes.

        Raises:
            TimeoutError: nobody waits any longer.
        """
        self.bytes += count
        if self.given_up:
            raise TimeoutError


class _Outcome(Generic[ResultT]):
    def __init__(self) -> None:
        self.done = threading.Event()
        self.result: list[ResultT] = []
        self.error: BaseException | None = None


def within(seconds: float, work: Callable[[Moved], ResultT]) -> ResultT:
    """Return what ``work`` returns, or raise what it raises.

    Args:
        seconds: how long it may take, and a second more for each ``SLOWEST`` bytes that it reports as moved.
        work: reports to the ``Moved`` that it is given. Nothing it does after its time may matter.

    Raises:
        TimeoutError: its time is over.
    """
    moved, outcome, started = Moved(), _Outcome[ResultT](), time.monotonic()

    def run() -> None:
        try:
            outcome.result.append(work(moved))
        except BaseException as error:
            outcome.error = error
        outcome.done.set()

    # As a daemon it cannot keep the process from ending.
    threading.Thread(target=run, daemon=True).start()
    while not outcome.done.is_set():
        left = started + seconds + moved.bytes / SLOWEST - time.monotonic()
        if left <= 0:
            moved.given_up = True
            raise TimeoutError(f"no answer in {seconds:g} s" if not moved.bytes else "it is too slow")
        outcome.done.wait(left)
    if outcome.error is not None:
        raise outcome.error
    return outcome.result[0]
