"""What is kept of a tuning run beside its trials: how it was started, so that it can be resumed, and its tasks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.records.values import as_list, as_number, as_object, as_text, as_whole, needed, parse_object, read_small
from tvmbuild.support.atomic.staging import write_whole
from tvmbuild.support.errors import RecordsError
from tvmbuild.tuning.task import Task

#: Options that a resumed run takes from the one that it goes on with, and what reads each.
KEPT: Mapping[str, Callable[[Any, str], Any]] = {
    "trials": as_whole,
    "time": as_text,
    "task": as_text,
    "seed": as_whole,
    "min_gain": as_number,
}


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
    write_whole(run_path(folder, state.model), text + "\n")


def read_run(path: Path) -> RunState:
    """Read a run's state.

    Raises:
        RecordsError: there is none, or it is damaged.
    """
    try:
        return _parsed(parse_object(read_small(path)))
    except FileNotFoundError as error:
        raise RecordsError(f"There is no run {path}.", "Start one: tvmbuild tune MODEL, without --resume.") from error
    except (OSError, ValueError) as error:
        raise RecordsError(f"{path} cannot be used: {error}.", "Delete it; the trials are not lost.") from error


def _parsed(values: Mapping[str, Any]) -> RunState:
    options = as_object(needed(values, "options"), "options")
    model, target, stopped = (as_text(needed(values, name), name) for name in ("model", "target", "stopped"))
    return RunState(
        model=model,
        target=target,
        options={name: read(needed(options, name), name) for name, read in KEPT.items()},
        first_trial=_count(values, "first_trial"),
        started=as_number(needed(values, "started"), "started"),
        stopped=stopped,
        tasks=tuple(_task(as_object(entry, "a task")) for entry in as_list(needed(values, "tasks"), "tasks")),
    )


def _task(values: Mapping[str, Any]) -> TaskEntry:
    task, name, shape = (as_text(needed(values, key), key) for key in ("task", "name", "shape"))
    return TaskEntry(task, name, shape, _count(values, "calls"), _count(values, "macs"))


def _count(values: Mapping[str, Any], name: str) -> int:
    count = as_whole(needed(values, name), name)
    if count < 0:
        raise ValueError(f"{name} is less than nothing")
    return count
