"""Boards that take time and no processor: what a host sees of real boards while they measure."""

from __future__ import annotations

import time
import zlib
from collections.abc import Sequence

from tvmbuild.device.fleet.address import parse_address
from tvmbuild.device.fleet.boards import BoardQueue
from tvmbuild.records.fingerprint import BoardIdentity
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.support.errors import TvmbuildError
from tvmbuild.target.target import Target
from tvmbuild.tuning.measure.protocol import Run

#: Longest that a session may take besides the wait, in seconds.
_SESSION_SECONDS = 30.0


class WaitingBoards:
    """Leases a board from the tracker, sends it the library, and waits where a real board would run it.

    The time that it gives is made up from the library's length, so that the search has something to learn.
    """

    batched = False

    def __init__(self, target: Target, tracker: str, key: str, slots: int, seconds: float) -> None:
        """Take the boards of a key, ``slots`` of them, each of which waits ``seconds`` a candidate."""
        self.board = BoardIdentity(target.cpu, True, "boards that wait and run nothing", {})
        self.slots = slots
        self._queue = BoardQueue(parse_address(tracker), key, target)
        self._seconds = seconds

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        """Wait for each candidate, with a board leased."""
        return [self._one(run) for run in runs]

    def close(self) -> None:
        """Nothing is held between measurements."""

    def _one(self, run: Run) -> Measurement | Failure:
        try:
            with self._queue.lease(self._seconds + _SESSION_SECONDS) as session:
                session.send(run.library)
                time.sleep(self._seconds)
        except TvmbuildError as error:
            return Failure("lost", error.message)
        return Measurement((1e-3 + zlib.crc32(run.library.read_bytes()) % 1000 * 1e-6,))
