"""The journal of a board: one line of JSON for each trial, appended whole.

It is the truth of what was tried. ``database`` keeps an image of its successful trials in MetaSchedule's format.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from tvmbuild.records.trial import Trial
from tvmbuild.records.values import (
    as_duration,
    as_flag,
    as_list,
    as_number,
    as_object,
    as_text,
    as_whole,
    needed,
    parse_object,
    read_small,
)
from tvmbuild.support.atomic.moves import finish_moves
from tvmbuild.support.errors import OutputError, RecordsError

JOURNAL = "trials.jsonl"
_NEEDED = ("task", "workload")
_TEXTS = ("plan", "cause", "message", "kind", "shape", "dtype", "board")
#: Bytes of a journal, at most: a million trials.
_LARGEST = 1 << 29
#: Seconds between two looks at a lock that another one has.
_PAUSE = 0.1
_GET = "get the file anew from where it came."
_ANEW = _GET.capitalize()


def read_journal(path: Path) -> tuple[Trial, ...]:
    """Return the trials of a journal; a last line that was cut off by a kill is left out.

    Raises:
        RecordsError: another line cannot be read.
    """
    if not path.exists():
        return ()
    try:
        content = read_small(path, _LARGEST)
    except (OSError, ValueError) as error:
        raise RecordsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.", _ANEW) from error
    *whole, torn = content.split(b"\n")
    trials = []
    for number, line in enumerate(whole, 1):
        try:
            trials.append(parse_trial(line))
        except ValueError as error:
            raise RecordsError(
                f"{path}, line {number}, is no trial: {error}.", f"Delete the line, or {_GET}"
            ) from error
    del torn
    return tuple(trials)


def parse_trial(line: bytes) -> Trial:
    """Read one line; names that this version does not know are left out.

    Raises:
        ValueError: it is not a trial, or one that cannot be.
    """
    values = parse_object(line)
    texts = {name: as_text(needed(values, name), name) for name in _NEEDED}
    texts |= {name: as_text(values.get(name, ""), name) for name in _TEXTS}
    choice = as_object(needed(values, "choice"), "choice")
    readings = as_object(values.get("readings", {}), "readings")
    operator = tuple(as_whole(number, "operator") for number in as_list(values.get("operator", []), "operator"))
    seconds = tuple(as_duration(second, "seconds") for second in as_list(needed(values, "seconds"), "seconds"))
    if not seconds and not texts["cause"]:
        raise ValueError("it has neither seconds nor a cause of failure")
    return Trial(
        choice={name: as_whole(value, "choice") for name, value in choice.items()},
        seconds=seconds,
        readings={name: as_number(value, "readings") for name, value in readings.items()},
        operator=operator,
        is_default=as_flag(values.get("is_default", False), "is_default"),
        time=as_number(values.get("time", 0.0), "time"),
        revision=as_whole(values.get("revision", 1), "revision"),
        **texts,
    )


def trial_line(trial: Trial) -> bytes:
    """Return a trial as its line."""
    values = {
        key: value
        for key, value in dataclasses.asdict(trial).items()
        if value not in ("", (), {}, False) or key in _NEEDED
    }
    values.update(seconds=list(trial.seconds), choice=dict(trial.choice))
    return json.dumps(values, ensure_ascii=False).encode() + b"\n"


def append_line(path: Path, line: bytes) -> None:
    """Append a line with one write and wait until it is on the disk.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            before = os.fstat(handle).st_size
            if os.write(handle, line) != len(line):
                # What is appended next would end the torn line.
                os.ftruncate(handle, before)
                raise OSError(errno.ENOSPC, "the disk is full")
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise OutputError(f"{path} cannot be written: {error.strerror or error}.", "Free some space.") from error


def drop_torn_line(path: Path) -> None:
    """Cut off a last line that a kill left without its end."""
    if not path.is_file():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with path.open("r+b") as file:
            file.truncate(content.rfind(b"\n") + 1)


@contextmanager
def locked(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Keep others from writing a board's folder; the lock of a killed process is released by the kernel.

    Args:
        folder: the board's.
        patience: seconds to wait for another one.

    Raises:
        RecordsError: another one is in it.
        OutputError: the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / ".lock").open("a")
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be written: {error.strerror or error}.", "Give another folder with --records."
        ) from error
    with lock:
        deadline = time.monotonic() + patience
        while not _try_lock(lock, folder):
            if time.monotonic() >= deadline:
                raise RecordsError(
                    f"Another tvmbuild is writing to {folder}.", "Wait for it, or give another folder with --records."
                )
            time.sleep(_PAUSE)
        _mended(folder)
        yield


def _mended(folder: Path) -> None:
    """End what a killed ``prune`` had begun, before trials are added that it knew nothing of."""
    try:
        finish_moves(folder)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.", "Free some space.") from error


def _try_lock(lock: IO[str], folder: Path) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        raise OutputError(
            f"{folder} cannot be locked: {error.strerror or error}.", "Give another folder with --records."
        ) from error
    return True
