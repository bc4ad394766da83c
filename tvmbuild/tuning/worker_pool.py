"""Compiles and measures side by side: while boards measure, the next candidates are compiled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.tuning.waits import Meter

Outcome = Measurement | Failure
T = TypeVar("T")


class WorkerPool:
    """A thread for each compiling process and one for each board.

    A library that is ready waits for the first board that becomes free, and whoever has compiled goes on with the next
    candidate; nobody waits for the slowest of a batch. How far the builder runs ahead is up to who sends.
    """

    def __init__(self, workers: int, boards: int) -> None:
        """Start no thread yet: they come with the first candidates."""
        self.meter = Meter(workers, boards)
        self._builders = ThreadPoolExecutor(workers, "build")
        self._boards = ThreadPoolExecutor(boards, "measure")
        self._dropped = threading.Event()
        self._keeping = threading.Lock()
        self._closed = False

    def send(
        self,
        build: Callable[[], Path | Failure],
        measure: Callable[[Path], Outcome],
        keep: Callable[[Outcome], T],
    ) -> Future[T | None]:
        """Compile, then measure, and let ``keep`` have the outcome as soon as it is there.

        Returns:
            What ``keep`` gave; None when the candidate was dropped before it was measured, or failed after that: what
            ends a run may have made it fail.
        """
        answer: Future[T | None] = Future()

        def finish(outcome: Outcome | None) -> None:
            lost = outcome is None or (isinstance(outcome, Failure) and self._dropped.is_set())
            with self._keeping:
                answer.set_result(None if outcome is None or lost or self._closed else keep(outcome))

        def compiled() -> None:
            self.meter.change(to_build=-1, building=1)
            library: Path | Failure | None = None
            try:
                library = None if self._dropped.is_set() else build()
            finally:
                self.meter.change(building=-1, to_measure=int(isinstance(library, Path)))
            if isinstance(library, Path):
                self._boards.submit(_answering, answer, measured, library)
            else:
                finish(library)

        def measured(library: Path) -> None:
            self.meter.change(to_measure=-1, measuring=1)
            try:
                outcome = None if self._dropped.is_set() else measure(library)
            finally:
                self.meter.change(measuring=-1)
            finish(outcome)

        self.meter.change(to_build=1)
        self._builders.submit(_answering, answer, compiled)
        return answer

    def drop(self) -> None:
        """Let go of all candidates that are not being measured yet, and of those that are sent later."""
        self._dropped.set()

    def close(self) -> None:
        """End the threads; what runs ends by itself, and nothing is kept any more."""
        self.drop()
        with self._keeping:
            self._closed = True
        for pool in (self._builders, self._boards):
            pool.shutdown(wait=False, cancel_futures=True)


def _answering(answer: Future[Any], step: Callable[..., None], *arguments: Any) -> None:
    """Run a step; an error goes to whoever waits for the answer."""
    try:
        step(*arguments)
    except BaseException as error:
        answer.set_exception(error)
