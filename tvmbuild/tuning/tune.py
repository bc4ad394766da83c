"""tune(): a model, a board and options become records."""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import re
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.records.apply import TunedSchedules
from tvmbuild.records.board_records import BoardRecords, board_folder, write_board
from tvmbuild.records.database import DatabaseImage
from tvmbuild.records.journal import JOURNAL, append_line, drop_torn_line, locked, read_journal, trial_line
from tvmbuild.records.trial import Trial
from tvmbuild.support import progress
from tvmbuild.support.errors import OptionError, TuningError
from tvmbuild.support.options import BuildOptions, TuneOptions
from tvmbuild.support.precision import Precision
from tvmbuild.target.target import Target, require_precision
from tvmbuild.tuning.builder import Builder
from tvmbuild.tuning.cost_model import XgboostModel
from tvmbuild.tuning.extract import extract_tasks
from tvmbuild.tuning.measure.local import LocalMeasurer
from tvmbuild.tuning.measure.predicted import PredictedMeasurer
from tvmbuild.tuning.measure.protocol import Measurer
from tvmbuild.tuning.measure.rpc import RpcMeasurer
from tvmbuild.tuning.runs import KEPT, RunState, entries_of, read_run, run_path, write_run
from tvmbuild.tuning.session import TuningSession
from tvmbuild.tuning.stopping import Limits
from tvmbuild.tuning.task import Candidate, Task
from tvmbuild.tuning.trials import TrialRunner

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
#: Seconds to wait for who merges into the records; who tunes into them takes longer than anyone waits.
_PATIENCE = 10.0


@dataclass(frozen=True)
class TuneResult:
    """What a run found.

    Attributes:
        session: the run, with its states.
        folder: the board's records.
        reason: why it ended.
    """

    session: TuningSession
    folder: Path
    reason: str


def tune(
    model: Path,
    target: Target,
    options: TuneOptions,
    *,
    measurer: Measurer | None = None,
    listener: Callable[[TuningSession], None] = lambda session: None,
) -> TuneResult:
    """Tune a model for a board and keep the records in ``<records>/<target>/<board>``.

    Args:
        model: the ONNX file.
        target: the board.
        options: how.
        measurer: what measures; None opens what the options name.
        listener: called before the first trial and after each.

    Raises:
        OptionError: an option is wrong.
        RecordsError: the records are damaged, in use, or there is nothing to resume.
        TuningError: nothing can be tuned, or the first trials all failed.
        TvmbuildError: the model cannot be compiled, or a tool or the board is missing.
    """
    _check_limits(options)
    _check_precision(options.precision, target)
    toolchain = find_toolchain(target, options.toolchain or None)
    with ExitStack() as stack:
        if measurer is None:
            measurer = open_measurer(target, options)
        stack.callback(measurer.close)
        folder = board_folder(options.records, target, measurer.board)
        stack.enter_context(locked(folder, _PATIENCE))
        before = read_run(run_path(folder, model.stem)) if options.resume else None
        if before is not None:
            options = dataclasses.replace(options, **{name: before.options[name] for name in KEPT})
            _check_limits(options)
        build_options = BuildOptions(
            shape=options.shape, value=options.value, precision=options.precision, limit=options.limit
        )
        with progress.stage("find the kernels") as step:
            tasks = chosen_tasks(extract_tasks(model, target, build_options), options.task)
            step.detail = f"{len(tasks)} kernels, {sum(task.size for task in tasks)} choices"
        workers = options.workers or len(os.sched_getaffinity(0))
        builder = stack.enter_context(Builder(target, toolchain, workers))
        runner = TrialRunner(builder, measurer, options.seed)
        stack.callback(runner.close)
        writer = TrialWriter(folder, target, measurer)
        session = TuningSession(
            tasks,
            runner,
            store=writer.store,
            limits=Limits(options.trials, duration_seconds(options.time), options.min_gain),
            seed=options.seed,
            model=XgboostModel(target, options.seed),
            warm=nearest(tasks, BoardRecords(folder, measurer.board, writer.trials), target),
            predicted=measurer.board.predicted,
            listener=listener,
        )
        state = _started(model, target, options, tasks, writer.trials, before)
        write_run(folder, state)
        counted = writer.trials[state.first_trial :] if before is not None else ()
        elapsed = max(0.0, counted[-1].time - state.started) if counted else 0.0
        session.recall(writer.trials, counted=len(counted), elapsed=elapsed)
        reason = session.run()
        write_run(folder, dataclasses.replace(state, stopped=reason))
    return TuneResult(session, folder, reason)


def _check_precision(precision: Precision, target: Target) -> None:
    if precision.quantizes:
        raise OptionError(
            f"Nothing is tuned in {precision}: the kernels are those of the model that 'quantize' writes.",
            f"Tune that model, in {precision.unquantized}.",
        )
    require_precision(target, precision)


class TrialWriter:
    """Writes trials: into the journal first, then into MetaSchedule's database."""

    def __init__(self, folder: Path, target: Target, measurer: Measurer) -> None:
        """Open a board's folder, which is locked, and mend what a kill left."""
        self._path = folder / JOURNAL
        write_board(folder, measurer.board)
        drop_torn_line(self._path)
        self.trials = read_journal(self._path)
        self._image = DatabaseImage(folder, target)
        self._image.mend(self.trials)

    def store(self, task: Task, trial: Trial) -> None:
        """Keep a trial."""
        if trial.ok:
            variant = next(variant for variant in task.variants if variant.workload == trial.workload)
            self._image.add_workload(variant.func)
        append_line(self._path, trial_line(trial))
        if trial.ok:
            self._image.add_record(trial)


def open_measurer(target: Target, options: TuneOptions) -> Measurer:
    """Return what the options name.

    Raises:
        OptionError: both a tracker and ``--emulate`` are given.
        DeviceError: the tracker or its boards cannot be used.
    """
    if options.tracker and options.emulate:
        raise OptionError("--tracker and --emulate exclude each other.", "Leave one of them out.")
    if options.tracker:
        return RpcMeasurer(target, options.tracker, options.key or target.name)
    if options.emulate:
        return PredictedMeasurer(target)
    if target.is_this_core:
        return LocalMeasurer(target)
    raise OptionError(
        f"This machine is no {target.name} ({target.cpu}), so there is nothing to measure on.",
        "Give --tracker HOST:PORT for a board, or --emulate to predict.",
    )


def nearest(tasks: tuple[Task, ...], records: BoardRecords, target: Target) -> dict[str, Candidate]:
    """Return, for tasks that were not tuned, what was best for the nearest shape that was."""
    tuned = TunedSchedules([records])
    found = {}
    for task in tasks:
        origin = tuned.find(task.variants[0].func, target)
        candidate = task.candidate(task.workload, origin.choice) if origin is not None else None
        if candidate is not None:
            found[task.workload] = candidate
    return found


def _check_limits(options: TuneOptions) -> None:
    duration_seconds(options.time)
    for name, value in (("trials", options.trials), ("workers", options.workers)):
        if value < 0:
            raise OptionError(f"--{name} {value} is less than nothing.", "Give a whole number, or leave it out.")
    if not 0.0 <= options.min_gain < 1.0:
        raise OptionError(f"--min-gain {options.min_gain:g} is no share.", "Give 0.01 for 1 %, or 0 to try everything.")


def duration_seconds(text: str) -> float:
    """Return a duration ("90s", "30m", "1.5h"; a plain number is minutes) in seconds; 0 for "".

    Raises:
        OptionError: it is none.
    """
    if not text:
        return 0.0
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", text.strip())
    if match is None:
        raise OptionError(f"--time {text} is no duration.", "Write 90s, 30m or 2h.")
    return float(match.group(1)) * _UNITS[match.group(2) or "m"]


def chosen_tasks(tasks: tuple[Task, ...], pattern: str) -> tuple[Task, ...]:
    """Return the tasks whose name, kind or shape matches a pattern.

    Raises:
        TuningError: there is none, or none has a choice.
    """
    chosen = tuple(
        task
        for task in tasks
        if not pattern or any(fnmatch.fnmatch(text, pattern) for text in (task.name, task.kind, task.shape))
    )
    if not any(task.size > 1 for task in chosen):
        names = ", ".join(task.name for task in tasks if task.size > 1)
        raise TuningError(
            f"No kernel{f' that matches {pattern!r}' if pattern else ''} has anything to tune.",
            f"Kernels with choices: {names or 'none'}.",
        )
    return chosen


def _started(
    model: Path,
    target: Target,
    options: TuneOptions,
    tasks: tuple[Task, ...],
    trials: tuple[Trial, ...],
    before: RunState | None,
) -> RunState:
    if before is not None:
        return dataclasses.replace(before, stopped="", tasks=entries_of(tasks))
    kept = {name: getattr(options, name) for name in KEPT}
    return RunState(model.stem, target.name, kept, len(trials), time.time(), "", entries_of(tasks))
