"""A run in rows: what the live table, the plain lines and ``--json`` show."""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass, replace
from typing import Any

from tvmbuild.support.errors import TargetError
from tvmbuild.target.target import Target, predicted_core
from tvmbuild.tuning.session import TuningSession
from tvmbuild.tuning.stopping import expected_in, trials_a_second
from tvmbuild.tuning.task_state import TaskState
from tvmbuild.tuning.waits import Waits, limit_of, limit_text


@dataclass(frozen=True)
class Row:
    """One task. Times are of one call, in seconds; None where they are not known.

    Attributes:
        name: the kernel.
        shape: shapes and parameters.
        kind: the schedule.
        calls: in the model.
        share: of the model's time, with the best schedules.
        default: with the default schedule.
        best: with the best.
        limit: of the core, by its multiply-adds alone.
        trials: tried candidates.
        size: all candidates.
        errors: failed trials by cause.
        choice: the best one's knobs.
    """

    name: str
    shape: str
    kind: str
    calls: int
    share: float
    default: float | None
    best: float | None
    limit: float | None
    trials: int
    size: int
    errors: dict[str, int]
    choice: dict[str, int]


@dataclass(frozen=True)
class Summary:
    """A run so far. Times are in seconds.

    Attributes:
        predicted: whether times are predicted.
        trials: of this run.
        elapsed: since its start.
        eta: until its limits; None when it has none.
        default: model time with the defaults.
        best: model time with the best.
        next_hour: what the next hour is expected to gain; None while too few candidates were tried to tell.
        defaults: tasks whose default was tried; until that is all of them, ``default`` and ``best`` are of these alone.
        rows: the tasks, the costliest first.
        waits: who waited for whom; None where compiling and measuring take turns.
        limit: what keeps the run from more trials a minute: "builder", "boards", "machine", or "".
        limit_text: the same in words, with what would help.
    """

    predicted: bool
    trials: int
    elapsed: float
    eta: float | None
    default: float
    best: float
    next_hour: float | None
    defaults: int
    rows: tuple[Row, ...]
    waits: Waits | None = None
    limit: str = ""
    limit_text: str = ""

    def after(self, seconds: float) -> Summary:
        """Return the same run so many seconds later, if nothing came meanwhile."""
        eta = None if self.eta is None else max(0.0, self.eta - seconds)
        return replace(self, elapsed=self.elapsed + seconds, eta=eta)

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


def summarize(session: TuningSession, target: Target) -> Summary:
    """Describe a run so far."""
    total = session.total_seconds
    rows = sorted((_row(session, state, total, target) for state in session.states), key=lambda row: -row.share)
    waits = session.waits
    limit = limit_of(waits, len(os.sched_getaffinity(0)) if session.predicted else 0) if waits is not None else ""
    return Summary(
        predicted=session.predicted,
        trials=session.done,
        elapsed=session.elapsed,
        eta=_eta(session),
        default=session.default_total_seconds,
        best=total,
        next_hour=expected_in(session.curve, 3600.0, session.left),
        defaults=sum(state.task.default in state.search for state in session.states),
        rows=tuple(rows),
        waits=waits,
        limit=limit,
        limit_text=limit_text(waits, limit) if waits is not None else "",
    )


def _row(session: TuningSession, state: TaskState, total: float, target: Target) -> Row:
    task, best = state.task, session.best(state)
    time = best.best if best is not None else None
    return Row(
        name=task.name,
        shape=task.shape,
        kind=task.kind,
        calls=task.calls,
        share=task.calls * time / total if time is not None and total else 0.0,
        default=state.default_seconds if math.isfinite(state.default_seconds) else None,
        best=time,
        limit=limit_seconds(task.macs, task.kind, target, threads=1 if session.predicted else target.cores),
        trials=state.search.tried,
        size=task.size,
        errors=dict(state.errors),
        choice=dict(best.choice) if best is not None else {},
    )


def limit_seconds(macs: int, kind: str, target: Target, threads: int) -> float | None:
    """Return the time that a core needs for fp32 multiply-adds alone; None when the core or its clock is not known.

    Winograd needs fewer multiply-adds than are counted, so it has no such limit.
    """
    if not macs or not target.max_mhz or "winograd" in kind or not kind.startswith(("conv2d", "depthwise", "matmul")):
        return None
    try:
        core = predicted_core(target)
    except TargetError:
        return None
    return macs / core.float32_macs / (target.max_mhz * 1e6) / threads


def _eta(session: TuningSession) -> float | None:
    limits, rate = session.limits, trials_a_second(session.curve)
    waits = []
    if limits.seconds:
        waits.append(limits.seconds - session.elapsed)
    if rate:
        left = min(session.left, limits.trials - session.done) if limits.trials else session.left
        waits.append(left / rate)
    return max(0.0, min(waits)) if waits else None
