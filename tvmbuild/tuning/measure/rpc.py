"""Measures on boards behind a tracker: real ones are timed, emulated ones run what is predicted."""

from __future__ import annotations

import math
import queue
import statistics
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tvmbuild.device.fleet.address import parse_address
from tvmbuild.device.fleet.boards import BoardQueue, RemoteBoard, TimedFunction
from tvmbuild.device.fleet.health import readings_of
from tvmbuild.records.fingerprint import BoardIdentity
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.support.errors import BoardMismatchError, DeviceError, MeasureError
from tvmbuild.target.target import Target
from tvmbuild.tuning.measure.predicted import PredictedMeasurer
from tvmbuild.tuning.measure.protocol import Run

#: Averages of a candidate, and the least duration of each, in milliseconds.
_REPEAT = 5
_LEAST_MS = 10
#: Longest that one candidate may take on a board, upload and all, in seconds.
_RUN_SECONDS = 60.0
#: What a board says of itself that a time depends on.
_FACTS = ("core", "revision", "max_mhz", "kernel", "glibc", "tvm", "tvm_ffi", "cores")
#: Causes of ``MeasureError`` in the words of a trial.
_CAUSES = {"load": "upload", "wrong": "wrong result"}


class RpcMeasurer:
    """Times on the boards of one key, each of which measures one candidate at a time.

    The times of an emulated board say nothing: it runs each candidate, for its output and for what a crash does, and
    the figure is predicted.
    """

    batched = False

    def __init__(self, target: Target, tracker: str, key: str) -> None:
        """Open the boards.

        Raises:
            OptionError: the address is none.
            TrackerError, BoardKeyError: the tracker or the key is not there.
            BoardMismatchError: a board is not what the target says, or the boards are not all alike.
        """
        boards = BoardQueue(parse_address(tracker), key, target)
        fingerprints = [board.fingerprint for board in boards.check().boards]
        self.slots = len(fingerprints)
        self._free: queue.Queue[RemoteBoard] = queue.Queue()
        for _ in fingerprints:
            self._free.put(RemoteBoard(boards))
        self._references = References()
        info = RemoteBoard(boards).describe()
        self._predictor = None if info.timed else PredictedMeasurer(target, self.slots)
        self.board = self._predictor.board if self._predictor else _board(target, info.description, fingerprints)

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        """Measure each run on whichever board is free."""
        board = self._free.get()
        try:
            return [self._one(board, run) for run in runs]
        finally:
            self._free.put(board)

    def close(self) -> None:
        """Nothing is held between measurements: a lease lasts for one."""

    def _one(self, board: RemoteBoard, run: Run) -> Measurement | Failure:
        emulated = self._predictor is not None
        try:
            measured = board.time(
                run.library,
                run.inputs,
                repeat=1 if emulated else _REPEAT,
                min_repeat_ms=0 if emulated else _LEAST_MS,
                timeout=_RUN_SECONDS,
                reference=lambda name: self._references.due(name, run),
            )
        except MeasureError as error:
            return Failure(_CAUSES.get(error.cause, error.cause), error.message)
        except DeviceError as error:
            return Failure("lost", error.message)
        if self._predictor is not None:
            predicted = self._predictor.measure([run])[0]
            if isinstance(predicted, Failure):
                return predicted
            return Measurement(predicted.seconds, measured.output, predicted.readings)
        if measured.readings.get("throttled"):
            return Failure("throttled", "the board runs slower than it can (heat or voltage)")
        name = str(measured.readings["board"])
        reference = self._references.keep(name, run, measured.reference_seconds)
        readings = readings_of(measured.readings["before"], measured.readings["after"])
        return Measurement(measured.seconds, measured.output, readings, reference, name)


class References:
    """When each board last timed the default of a task, and what it took; used from several threads."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start with none."""
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[tuple[str, Path], tuple[float, float]] = {}

    def due(self, board: str, run: Run) -> TimedFunction | None:
        """Return the default to time on a board together with a candidate; None when that was done lately."""
        if run.reference is None:
            return None
        with self._lock:
            when, _ = self._known.get((board, run.reference.library), (-math.inf, 0.0))
        if self._clock() - when <= run.max_age:
            return None
        return TimedFunction(run.reference.library, run.reference.inputs)

    def keep(self, board: str, run: Run, seconds: Sequence[float]) -> float:
        """Take what the default took, if it was timed; return what is known of it on that board, or 0."""
        if run.reference is None:
            return 0.0
        key = board, run.reference.library
        with self._lock:
            if seconds:
                self._known[key] = self._clock(), statistics.median_high(seconds)
            return self._known.get(key, (0.0, 0.0))[1]


def _board(target: Target, about: str, fingerprints: Sequence[Mapping[str, Any]]) -> BoardIdentity:
    """Return the fingerprint of real boards.

    Raises:
        BoardMismatchError: they are not all alike.
    """
    facts = [{name: str(entry[name]) for name in _FACTS if name in entry} for entry in fingerprints]
    differing = [name for name in _FACTS if len({entry.get(name) for entry in facts}) > 1]
    if differing:
        raise BoardMismatchError(
            f"The boards of this key differ in {', '.join(differing)}, and times of different boards are not mixed.",
            "Register them with keys of their own.",
        )
    return BoardIdentity(facts[0].get("core") or target.cpu, False, about, facts[0])
