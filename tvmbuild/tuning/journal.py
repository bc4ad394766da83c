"""The journal of a board: one line of JSON for each trial, appended whole.

It is the truth of what was tried. ``database`` keeps an image of its successful trials in MetaSchedule's format.
"""

from __future__ import annotations

import dataclasses
import fcntl
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tvmbuild.errors import OutputError, RecordsError
from tvmbuild.tuning.trial import Trial

JOURNAL = "trials.jsonl"
_FIELDS = {item.name for item in dataclasses.fields(Trial)}
_NEEDED = ("task", "workload")


def read_journal(path: Path) -> tuple[Trial, ...]:
    """Return the trials of a journal; a last line that was cut off by a kill is left out.

    Raises:
        RecordsError: another line cannot be read.
    """
    if not path.is_file():
        return ()
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecordsError(f"{path} cannot be read: {error.strerror or error}.") from error
    *whole, torn = content.split(b"\n")
    trials = []
    for number, line in enumerate(whole, 1):
        try:
            trials.append(parse_trial(line))
        except (ValueError, TypeError, KeyError) as error:
            raise RecordsError(
                f"{path}, line {number}, is no trial: {error}.",
                "Delete the line, or get the file anew from where it came.",
            ) from error
    del torn
    return tuple(trials)


def parse_trial(line: bytes) -> Trial:
    """Read one line.

    Raises:
        ValueError, TypeError, KeyError: it is not a trial.
    """
    values: dict[str, Any] = json.loads(line)
    known = {key: value for key, value in values.items() if key in _FIELDS}
    known["seconds"] = tuple(float(second) for second in known["seconds"])
    known.setdefault("plan", "")
    known["operator"] = tuple(int(number) for number in known.get("operator", ()))
    return Trial(**known)


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
            if os.write(handle, line) != len(line):
                raise OSError("the disk is full")
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


def write_whole(path: Path, lines: Iterable[bytes]) -> None:
    """Write a file aside and rename it.

    Raises:
        OutputError: it cannot be written.
    """
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with aside.open("wb") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} cannot be written: {error.strerror or error}.", "Choose another folder, or free some space."
        ) from error
    finally:
        aside.unlink(missing_ok=True)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other tuners out of a board's folder; the lock of a killed one is released by the kernel.

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
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise RecordsError(
                f"Another tvmbuild is tuning into {folder}.", "Wait for it, or give another folder with --records."
            ) from error
        yield
