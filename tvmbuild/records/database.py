"""The image of a journal in the format of MetaSchedule's JSON database, for other tools.

``database_workload.json`` holds one line for each distinct kernel, ``database_tuning_record.json`` one for each
successful trial, in the journal's order; ``tvm.s_tir.meta_schedule.database.JSONDatabase(work_dir=...)`` reads both.
The traces hold every knob as a decision and replay on the workload; what ``schedules.finish`` does after a schedule is
no part of a trace.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tvmbuild.records.journal import append_line, drop_torn_line
from tvmbuild.records.trial import Trial
from tvmbuild.records.values import read_small
from tvmbuild.records.workload import private_copy, workload_key, workload_module
from tvmbuild.schedules.knob import Choice
from tvmbuild.schedules.space import schedule_fn
from tvmbuild.support.atomic.staging import write_whole
from tvmbuild.support.errors import RecordsError
from tvmbuild.target.target import Target

WORKLOADS = "database_workload.json"
RECORDS = "database_tuning_record.json"
#: Bytes of each file, at most.
_LARGEST = 1 << 30
_ANEW = "Get it anew from where it came, or delete it: tuning writes it again."


class DatabaseImage:
    """Writes the two files of one board's folder."""

    def __init__(self, folder: Path, target: Target) -> None:
        """Read which workloads are there; lines cut off by a kill are dropped.

        Raises:
            RecordsError: a file is damaged.
        """
        self._folder = folder
        self._target = target
        self._functions: list[Any] = []
        self._index: dict[str, int] = {}
        for name in (WORKLOADS, RECORDS):
            drop_torn_line(folder / name)
        for line in _lines(folder / WORKLOADS):
            self._remember(_read_workload(line, folder / WORKLOADS))

    def add_workload(self, func: Any) -> None:
        """Store a PrimFunc that is not there yet."""
        from tvm.s_tir.meta_schedule.database import Workload

        if workload_key(func) not in self._index:
            text = json.dumps(Workload(workload_module(func)).as_json(), separators=(",", ":"))
            append_line(self._folder / WORKLOADS, text.encode() + b"\n")
            self._remember(func)

    def add_record(self, trial: Trial) -> None:
        """Store a successful trial whose workload is there."""
        append_line(self._folder / RECORDS, self._record_line(trial))

    def functions(self) -> dict[str, Any]:
        """Return the PrimFuncs of the workloads that are there, by hash."""
        return {key: self._functions[index] for key, index in self._index.items()}

    def mend(self, trials: Sequence[Trial]) -> None:
        """Add the records that a kill between two writes left out.

        Args:
            trials: the whole journal.
        """
        successful = [trial for trial in trials if trial.ok and trial.workload in self._index]
        present = len(_lines(self._folder / RECORDS))
        if present > len(successful):
            write_whole(self._folder / RECORDS, b"".join(self._record_line(trial) for trial in successful))
        for trial in successful[present:]:
            self.add_record(trial)

    def _remember(self, func: Any) -> None:
        self._index[workload_key(func)] = len(self._functions)
        self._functions.append(func)

    def _record_line(self, trial: Trial) -> bytes:
        from tvm.s_tir.meta_schedule.arg_info import ArgInfo
        from tvm.s_tir.meta_schedule.database import TuningRecord, Workload

        index = self._index[trial.workload]
        func = self._functions[index]
        schedule = scheduled(func, self._target, trial.choice)
        record = TuningRecord(
            schedule.trace,
            Workload(workload_module(func)),
            list(trial.seconds),
            self._target.to_tvm(),
            ArgInfo.from_prim_func(func),
        )
        return json.dumps([index, record.as_json()], separators=(",", ":")).encode() + b"\n"


def scheduled(func: Any, target: Target, choice: Choice) -> Any:
    """Return the ``tvm.s_tir.Schedule`` of a PrimFunc with a choice, whose trace holds the knobs as decisions."""
    from tvm import s_tir

    schedule = s_tir.Schedule(workload_module(private_copy(func)))
    schedule_fn(target, choice)(schedule)
    return schedule


def _lines(path: Path) -> list[str]:
    if not path.exists():
        return []
    try:
        return read_small(path, _LARGEST).decode().splitlines()
    except (OSError, ValueError) as error:
        raise RecordsError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}.", _ANEW) from error


def _read_workload(line: str, path: Path) -> Any:
    from tvm.s_tir.meta_schedule.database import Workload

    try:
        return Workload.from_json(json.loads(line)).mod["main"]
    except Exception as error:  # TVM raises errors of any class.
        raise RecordsError(
            f"{path} is damaged: {(str(error).strip() or type(error).__name__).splitlines()[-1][:200]}.", _ANEW
        ) from error
