"""Step events: stages report what they do, and whoever listens draws it.

The stages never print. They open a ``stage`` and advance it; commands subscribe a printer (a bar on a terminal, plain
lines elsewhere), tests subscribe a list.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Stage:
    """One step of the work, while it runs and after.

    Attributes:
        name: what is done, in the imperative ("compile kernels").
        total: number of units, or None when it is not known.
        done: units finished.
        detail: one short result, shown when the stage ends ("27 of 27 BatchNorm folded").
        started: time.monotonic() at the start.
        seconds: duration; None while the stage runs.
        failed: True when an exception ended it.
    """

    name: str
    total: int | None = None
    done: int = 0
    detail: str = ""
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    failed: bool = False

    def advance(self, count: int = 1, detail: str = "") -> None:
        """Report ``count`` more finished units and, if given, a new detail."""
        self.done += count
        self.detail = detail or self.detail
        _emit(self)


Listener = Callable[[Stage], None]
_listeners: list[Listener] = []


def _emit(stage: Stage) -> None:
    for listener in list(_listeners):
        listener(stage)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Send every event to ``listener`` while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def stage(name: str, total: int | None = None) -> Iterator[Stage]:
    """Announce a step for as long as the block runs."""
    current = Stage(name, total)
    _emit(current)
    try:
        yield current
    except BaseException:
        current.failed = True
        raise
    finally:
        current.seconds = time.monotonic() - current.started
        _emit(current)
