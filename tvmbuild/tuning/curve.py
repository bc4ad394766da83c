"""The tuning curve of a run: the model's best time after each of its trials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.records.board_records import BoardRecords
from tvmbuild.records.trial import Trial
from tvmbuild.support.atomic.staging import staged
from tvmbuild.support.errors import OutputError, RecordsError, ToolchainError
from tvmbuild.support.escape import plot_text
from tvmbuild.tuning.runs import RunState, read_run, run_path

#: Size of the curve as text, in characters.
_COLUMNS, _ROWS = 64, 12
#: Share of the default's time that the drawn axis spans at least.
_LEAST_REACH = 0.05
_FORMATS = (".svg", ".png", ".pdf")


@dataclass(frozen=True)
class Curve:
    """A run's curve.

    Attributes:
        model: what was tuned.
        board: what on, for people.
        predicted: whether times are predicted.
        default: the model's time with the default schedules, in seconds.
        points: (trials, seconds since the start, the model's best time in seconds), from the end of the defaults on.
        failures: failed trials by cause.
        stopped: why the run ended; "" when it was interrupted.
    """

    model: str
    board: str
    predicted: bool
    default: float
    points: tuple[tuple[int, float, float], ...]
    failures: dict[str, int]
    stopped: str

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {
            "model": self.model,
            "board": self.board,
            "predicted": self.predicted,
            "default_seconds": self.default,
            "best_seconds": self.points[-1][2],
            "points": [{"trials": t, "elapsed": e, "seconds": s} for t, e, s in self.points],
            "failures": self.failures,
            "stopped": self.stopped,
        }


def curve_of(entry: BoardRecords, model: str) -> Curve:
    """Return the curve of a model's last run on a board.

    Raises:
        RecordsError: there is no such run, or it did not get through its defaults.
    """
    run = read_run(run_path(entry.folder, model))
    calls = {task.task: task.calls for task in run.tasks}
    defaults = {t.task: t.best for t in entry.trials if t.is_default and t.ok and t.task in calls}
    best: dict[str, float] = {}
    failed: set[str] = set()
    points = []
    for number, trial in enumerate(entry.trials):
        if trial.task not in calls:
            continue
        if trial.ok:
            best[trial.task] = min(best.get(trial.task, trial.best), trial.best)
        elif trial.task not in best:
            failed.add(trial.task)
        if number >= run.first_trial and len(best.keys() | failed) == len(calls):
            total = sum(calls[task] * seconds for task, seconds in best.items())
            points.append((number + 1 - run.first_trial, max(0.0, trial.time - run.started), total))
    if not points:
        raise RecordsError(
            f"The run of {model} in {entry.folder} has no curve: it ended before every default was measured, or "
            "repeated what was known.",
            "Go on with it: tvmbuild tune ... --resume.",
        )
    default = sum(calls[task] * seconds for task, seconds in defaults.items())
    board = entry.board
    return Curve(
        model, board.about, board.predicted, default, tuple(points), _failures(entry.trials, run, calls), run.stopped
    )


def _failures(trials: Sequence[Trial], run: RunState, calls: dict[str, int]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for trial in trials[run.first_trial :]:
        if not trial.ok and trial.task in calls:
            counts[trial.cause] = counts.get(trial.cause, 0) + 1
    return counts


def text_curve(curve: Curve) -> list[str]:
    """Draw a curve with characters: trials to the right, the model's time upwards."""
    times = [seconds for _, _, seconds in curve.points]
    top, bottom = max(*times, curve.default), min(times)
    reach = top - bottom or 1.0
    first, last = curve.points[0][0], curve.points[-1][0]
    heights = []
    for column in range(_COLUMNS):
        trials = first + (last - first) * column / (_COLUMNS - 1)
        seconds = [s for t, _, s in curve.points if t <= trials][-1]
        heights.append(round((seconds - bottom) / reach * (_ROWS - 1)))
    lines = []
    for row in reversed(range(_ROWS)):
        value = bottom + reach * row / (_ROWS - 1)
        marks = "".join("*" if height == row else " " for height in heights)
        lines.append(f"{value * 1e3:10.3f} ms |{marks}".rstrip())
    lines.append(" " * 14 + "+" + "-" * _COLUMNS)
    lines.append(f"{'trials':>13}  {first}{str(last).rjust(_COLUMNS - len(str(first)))}")
    return lines


def draw_curve(curve: Curve, output: Path) -> None:
    """Draw a curve into a file; its ending says the format.

    Raises:
        ToolchainError: matplotlib is not installed.
        OutputError: the ending is not known, or the file cannot be written.
    """
    if output.suffix not in _FORMATS:
        raise OutputError(f"{output} has no ending of {', '.join(_FORMATS)}.", "Name the file curve.svg.")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ToolchainError(
            "matplotlib, which draws the curve, is missing.", "pip install 'tvmbuild[plot]'"
        ) from error
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot()
    trials = [point[0] for point in curve.points]
    best, default = curve.points[-1][2] * 1e3, curve.default * 1e3
    label = f"best: {best:.3f} ms, {1 - best / default:.1%} less"
    axes.step(trials, [point[2] * 1e3 for point in curve.points], where="post", label=label)
    axes.axhline(default, linestyle="--", color="grey", label=f"default schedules: {default:.3f} ms")
    # A gain of a thousandth is not to look like one of a half.
    axes.set_ylim(
        min(best, default * (1 - _LEAST_REACH)) * 0.995, max(point[2] * 1e3 for point in curve.points) * 1.005
    )
    axes.set_xlabel("trials")
    axes.set_ylabel(f"{'predicted ' if curve.predicted else ''}time of the model, ms")
    axes.set_title(plot_text(f"{curve.model}, {curve.board}"), fontsize="medium")
    axes.legend()
    with staged(output.parent) as aside:
        figure.savefig(aside / output.name)
