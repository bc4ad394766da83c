"""What is kept of a tuning run beside its trials: how it was started, so that it can be resumed, and its tasks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.errors import RecordsError
from tvmbuild.tuning.journal import write_whole
from tvmbuild.tuning.task import Task


@dataclass(frozen=True)
class TaskEntry:
    """A task as a report needs it: hash, name, shapes and calls."""

    task: str
    name: str
    shape: str
    calls: int
    macs: int


@dataclass(frozen=True)
class RunState:
    """One run.

    Attributes:
        model: stem of the model's file.
        target: name of the target.
        options: the options that a resumed run has to repeat.
        first_trial: trials in the journal when it started.
        started: seconds since 1970.
        stopped: why it ended; "" while it runs or after a kill.
        tasks: what it tunes.
    """

    model: str
    target: str
    options: Mapping[str, Any]
    first_trial: int
    started: float
    stopped: str
    tasks: tuple[TaskEntry, ...]


def entries_of(tasks: Sequence[Task]) -> tuple[TaskEntry, ...]:
    """Return tasks as a run keeps them."""
    return tuple(TaskEntry(task.workload, task.name, task.shape, task.calls, task.macs) for task in tasks)


def run_path(folder: Path, model: str) -> Path:
    """Return where the last run of a model on a board is kept."""
    return folder / f"run-{model}.json"


def write_run(folder: Path, state: RunState) -> None:
    """Write a run's state."""
    text = json.dumps(dataclasses.asdict(state), indent=1, default=str)
    write_whole(run_path(folder, state.model), [text.encode() + b"\n"])


def read_run(path: Path) -> RunState:
    """Read a run's state.

    Raises:
        RecordsError: there is none, or it is damaged.
    """
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        values["tasks"] = tuple(TaskEntry(**entry) for entry in values["tasks"])
        return RunState(**values)
    except FileNotFoundError as error:
        raise RecordsError(f"There is no run {path}.", "Start one: tvmbuild tune MODEL, without --resume.") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordsError(f"{path} cannot be used: {error}.", "Delete it; the trials are not lost.") from error
