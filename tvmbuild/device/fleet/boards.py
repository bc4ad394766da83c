"""Boards behind a tracker: find them, lease them, and time functions on them.

A lease lasts for one measurement. A board or a tracker that dies and comes back is thereby found again with no state to
mend, and boards are shared fairly with other clients.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tvmbuild.device.fleet.address import Address, parse_address
from tvmbuild.device.fleet.fit import require_fit
from tvmbuild.device.fleet.health import is_slowed
from tvmbuild.device.fleet.tracker import KeySummary, NoOfferError, TrackerClient, holders
from tvmbuild.device.protocol import DeviceInfo
from tvmbuild.support.errors import BoardBusyError, BoardKeyError, MeasureError, TrackerError
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.target.target import Target

if TYPE_CHECKING:
    from tvmbuild.device.fleet.session import BoardSession

#: Seconds between two attempts to reach a tracker or a board that is away.
_RETRY_SECONDS = 0.5
#: Limit of a session that only asks, in seconds.
_ASK_SECONDS = 20.0
#: A measurement that ran slower than the board can is done again, so often and after so many seconds of cooling.
_REDONE, COOLING_SECONDS = 2, 20.0


@dataclass(frozen=True)
class RemoteTimes:
    """What a function on a board took and returned.

    Attributes:
        seconds: of one call, one average a repeat.
        outputs: of the model's ``main``.
        readings: "board" ("host:port"), "fingerprint", "before" and "after" (temperature_c, mhz, limit_mhz, governor,
            throttled, free_bytes, load; each only where the board tells), "throttled" (it ran slower than it can).
        reference_seconds: of one call of the reference in the same session; empty when none was timed.
    """

    seconds: tuple[float, ...]
    outputs: tuple[NDArray[Any], ...]
    readings: Mapping[str, Any] = field(default_factory=dict)
    reference_seconds: tuple[float, ...] = ()

    @property
    def output(self) -> NDArray[Any]:
        """The first output."""
        return self.outputs[0]


@dataclass(frozen=True)
class TimedFunction:
    """What to time on a board.

    Attributes:
        library: the linked .so, with a Relax ``main`` that takes ``arguments`` and the exported ``function`` that takes
            them and the outputs to write.
        arguments: inputs, C-contiguous.
        function: name of the function to time.
    """

    library: Path
    arguments: Sequence[np.ndarray[Any, Any]]
    function: str = "kernel"


@dataclass(frozen=True)
class BoardQueue:
    """All boards of one key behind a tracker.

    Attributes:
        tracker: where the tracker listens.
        key: what boards were registered as.
        target: what the code is for; boards that do not fit are refused.
        patience: seconds to wait for a free board, and for a board or a tracker that went away to come back.
    """

    tracker: Address
    key: str
    target: Target
    patience: float = 60.0

    def summary(self) -> KeySummary:
        """Return what the tracker knows of the key.

        Raises:
            TrackerError: the tracker does not answer.
            BoardKeyError: it has no board of the key; the hint lists the keys that it has.
        """
        with TrackerClient(self.tracker) as client:
            known = client.summary().keys
        found = next((entry for entry in known if entry.key == self.key and entry.boards), None)
        if found is None:
            keys = [entry.key for entry in known if entry.boards]
            hint = did_you_mean(self.key, keys) if keys else "It has no boards at all: start one with 'device serve'."
            raise BoardKeyError(f"The tracker {self.tracker} has no board with the key '{self.key}'.", hint)
        return found

    def check(self) -> KeySummary:
        """Return the summary, after comparing with the target every board that says what it is.

        Raises:
            TrackerError, BoardKeyError: as ``summary``.
            BoardMismatchError: a board is not what the target describes.
        """
        summary = self.summary()
        for board in summary.boards:
            require_fit(board.fingerprint, self.target, board.address)
        return summary

    @contextmanager
    def lease(self, timeout: float) -> Iterator[BoardSession]:
        """Hold a board for as long as the block runs, ``timeout`` seconds at most.

        Raises:
            TrackerError, BoardKeyError: the tracker or the boards stayed away for ``patience`` seconds.
            BoardBusyError: no board became free in that time; says who holds them.
            BoardMismatchError: the board is not what the target describes.
            MeasureError: from the block.
        """
        session = self._open(timeout)
        try:
            require_fit(session.fingerprint(), self.target, session.board)
            yield session
        finally:
            session.close()

    def _open(self, timeout: float) -> BoardSession:
        from tvmbuild.device.fleet.session import BoardSession

        deadline = time.monotonic() + self.patience
        while True:
            left = deadline - time.monotonic()
            try:
                self.summary()
                with TrackerClient(self.tracker) as client:
                    offer = client.request(self.key, max(left, 0.1))
                return BoardSession(offer, timeout)
            except NoOfferError as error:
                raise self._busy() from error
            except (TrackerError, BoardKeyError, MeasureError) as error:
                if left < 0 or (isinstance(error, MeasureError) and error.cause != "lost"):
                    raise
                time.sleep(_RETRY_SECONDS)

    def _busy(self) -> BoardBusyError:
        summary = self.summary()
        who = holders(summary) or "the boards do not say who holds them"
        return BoardBusyError(
            f"None of the {len(summary.boards)} boards with the key '{self.key}' became free within "
            f"{self.patience:g} seconds: {who}; {summary.waiting} clients wait.",
            "Wait for them, or add a board: tvmbuild device serve.",
        )


class RemoteBoard:
    """One of the boards of a key: measures one thing at a time, on whichever of them is free."""

    def __init__(self, queue: BoardQueue) -> None:
        """Hold the queue; nothing is leased yet."""
        self._queue = queue
        self._fingerprint: dict[str, Any] | None = None

    def describe(self) -> DeviceInfo:
        """Return what the board is."""
        queue = self._queue
        core = str(self.fingerprint().get("core", "")) or queue.target.cpu
        emulated = bool(self.fingerprint().get("emulated"))
        word = "emulated " if emulated else ""
        return DeviceInfo("rpc", f"{word}{core}, key {queue.key} at {queue.tracker}", core, timed=not emulated)

    def fingerprint(self) -> dict[str, Any]:
        """Return core, revision, clock, kernel, versions and whether the board is emulated.

        Empty when the boards run TVM's own server, which does not tell.
        """
        if self._fingerprint is None:
            boards = self._queue.summary().boards
            self._fingerprint = dict(boards[0].fingerprint)
        return self._fingerprint

    def time(
        self,
        library: Path,
        arguments: Sequence[np.ndarray[Any, Any]],
        *,
        function: str = "kernel",
        repeat: int = 3,
        number: int = 1,
        min_repeat_ms: int = 0,
        timeout: float = 30.0,
        reference: Callable[[str], TimedFunction | None] = lambda board: None,
    ) -> RemoteTimes:
        """Run a library's ``main`` once for its outputs, then time one of its functions.

        Where the board reports heat or low voltage meanwhile, the measurement is dropped and done again after cooling;
        the readings say if even the last one was throttled.

        Args:
            library: as in ``TimedFunction``.
            arguments: as in ``TimedFunction``.
            function: as in ``TimedFunction``.
            repeat: number of averages.
            number: calls in each.
            min_repeat_ms: least duration of an average, in milliseconds.
            timeout: limit of one measurement, in seconds.
            reference: says what else to time before it in the same session, once it is known which board
                ("host:port") that is; None for nothing.

        Raises:
            MeasureError: with its cause.
            TrackerError, BoardKeyError, BoardBusyError, BoardMismatchError: no board was to be had.
        """
        options = {"repeat": repeat, "number": number, "min_repeat_ms": min_repeat_ms}
        what = TimedFunction(library, arguments, function)
        for _ in range(_REDONE):
            measured = self._time_once(what, reference, options, timeout)
            if not measured.readings["throttled"]:
                return measured
            time.sleep(COOLING_SECONDS)
        return self._time_once(what, reference, options, timeout)

    def _time_once(
        self,
        what: TimedFunction,
        reference: Callable[[str], TimedFunction | None],
        options: Mapping[str, int],
        timeout: float,
    ) -> RemoteTimes:
        with self._queue.lease(timeout) as session:
            before = session.health()
            reference_seconds = _reference_seconds(session, reference(session.board), options)
            seconds, outputs = _timed(session, what, "lib.so", options)
            after = session.health()
            facts = {"board": session.board, "fingerprint": session.fingerprint(), "before": before, "after": after}
            return RemoteTimes(seconds, outputs, {**facts, "throttled": is_slowed(before, after)}, reference_seconds)


def _reference_seconds(
    session: BoardSession, what: TimedFunction | None, options: Mapping[str, int]
) -> tuple[float, ...]:
    if what is None:
        return ()
    try:
        return _timed(session, what, "reference.so", options)[0]
    except MeasureError as error:
        # It ran before: what is measured next is not to blame.
        raise MeasureError("lost", f"The reference failed: {error.message}", error.hint, session.board) from error


def _timed(
    session: BoardSession, what: TimedFunction, name: str, options: Mapping[str, int]
) -> tuple[tuple[float, ...], tuple[NDArray[Any], ...]]:
    """Return seconds and outputs; ``name`` is that of the library on the board."""
    loaded = session.load(what.library, name=name)
    outputs = loaded.run(what.arguments)
    remote = [*(session.tensor(array) for array in what.arguments), *outputs]
    seconds = loaded.time_function(what.function, remote, **options)
    return seconds, loaded.fetch(outputs)


def open_boards(tracker: str, key: str, target: Target, count: int = 0, *, patience: float = 60.0) -> list[RemoteBoard]:
    """Return boards behind a tracker, each to be used by one thread.

    Args:
        tracker: "HOST:PORT".
        key: what the boards were registered as.
        target: what the code is for.
        count: number of boards; 0 for as many as the tracker knows now.
        patience: seconds to wait for a board or a tracker that is away.

    Raises:
        OptionError: the address is none.
        TrackerError, BoardKeyError, BoardMismatchError: as ``BoardQueue.check``.
    """
    queue = BoardQueue(parse_address(tracker), key, target, patience)
    known = len(queue.check().boards)
    return [RemoteBoard(queue) for _ in range(count or known)]
