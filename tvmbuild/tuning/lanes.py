"""Compiles and measures side by side: while boards measure, the next candidates are compiled."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tvmbuild.tuning.trial import Failure, Measured
from tvmbuild.tuning.waits import Meter

Outcome = Measured | Failure


class Lanes:
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

    def send(self, build: Callable[[], Path | Failure], measure: Callable[[Path], Outcome]) -> Future[Outcome | None]:
        """Compile, then measure; the result is None when the candidate was dropped before it was measured."""
        answer: Future[Outcome | None] = Future()
        self.meter.change(to_build=1)
        self._builders.submit(self._build, build, measure, answer)
        return answer

    def drop(self) -> None:
        """Let go of all candidates that are not being measured yet, and of those that are sent later."""
        self._dropped.set()

    def close(self) -> None:
        """End the threads; what runs ends by itself."""
        self.drop()
        for pool in (self._builders, self._boards):
            pool.shutdown(wait=False, cancel_futures=True)

    def _build(
        self,
        build: Callable[[], Path | Failure],
        measure: Callable[[Path], Outcome],
        answer: Future[Outcome | None],
    ) -> None:
        self.meter.change(to_build=-1, building=1)
        library: Path | Failure | None = None
        try:
            library = None if self._dropped.is_set() else build()
        except BaseException as error:
            answer.set_exception(error)
            return
        finally:
            self.meter.change(building=-1, to_measure=int(isinstance(library, Path)))
        if not isinstance(library, Path):
            answer.set_result(library)
            return
        try:
            self._boards.submit(self._measure, measure, library, answer)
        except RuntimeError:
            # Closed meanwhile.
            answer.set_result(None)

    def _measure(self, measure: Callable[[Path], Outcome], library: Path, answer: Future[Outcome | None]) -> None:
        self.meter.change(to_measure=-1, measuring=1)
        try:
            outcome = None if self._dropped.is_set() else measure(library)
        except BaseException as error:
            answer.set_exception(error)
            return
        finally:
            self.meter.change(measuring=-1)
        answer.set_result(outcome)
