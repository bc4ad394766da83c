"""When to stop, and what going on would buy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Trials over which the gain is looked at, at least, and their share of all trials.
LEAST_WINDOW = 48
_WINDOW_SHARE = 0.25


@dataclass(frozen=True)
class Limits:
    """What ends a run.

    Attributes:
        trials: number of trials; 0 for no limit.
        seconds: duration; 0 for no limit.
        min_gain: share of the model's time below which the gain still expected is not worth going on for.
    """

    trials: int = 0
    seconds: float = 0.0
    min_gain: float = 0.01


@dataclass(frozen=True)
class Point:
    """The state after a trial: how many there were, after how many seconds, and the model's best time then."""

    trials: int
    elapsed: float
    total: float


def expected_gain(curve: Sequence[Point], trials: float) -> float:
    """Return the seconds of model time that so many more trials are expected to gain.

    Tuning curves flatten: what the next window of trials gains is taken to be half of what the last one did, and so on.
    """
    if len(curve) < 2 or trials <= 0:
        return 0.0
    window = max(LEAST_WINDOW, int(_WINDOW_SHARE * curve[-1].trials))
    start = next(point for point in curve if point.trials >= curve[-1].trials - window)
    spent = curve[-1].trials - start.trials
    gained = start.total - curve[-1].total
    if spent <= 0 or gained <= 0.0:
        return 0.0
    return float(gained * (1.0 - 0.5 ** (trials / spent)))


def expected_in(curve: Sequence[Point], seconds: float) -> float:
    """Return the seconds of model time that so many more seconds of tuning are expected to gain."""
    rate = trials_a_second(curve)
    return expected_gain(curve, rate * seconds)


def trials_a_second(curve: Sequence[Point]) -> float:
    """Return the rate of the run so far."""
    if len(curve) < 2 or curve[-1].elapsed <= curve[0].elapsed:
        return 0.0
    return (curve[-1].trials - curve[0].trials) / (curve[-1].elapsed - curve[0].elapsed)


def reason_to_stop(curve: Sequence[Point], limits: Limits, left: int, *, unseen: bool = False) -> str:
    """Return why the run is over, in words, or "" to go on.

    Args:
        curve: one point for each trial, from the run's start.
        limits: of the run.
        left: candidates that were not tried yet, of all tasks together.
        unseen: whether a task that matters has hardly been looked at, so that the past tells nothing of its gain.
    """
    if not curve:
        return ""
    now = curve[-1]
    if left <= 0:
        return "every choice was tried"
    if limits.trials and now.trials >= limits.trials:
        return f"the {limits.trials} trials asked for are done"
    if limits.seconds and now.elapsed >= limits.seconds:
        return f"the {limits.seconds / 60:.0f} minutes asked for are over"
    if unseen or now.trials - curve[0].trials < LEAST_WINDOW:
        return ""
    coming = float(min(left, limits.trials - now.trials if limits.trials else left))
    if limits.seconds:
        coming = min(coming, trials_a_second(curve) * (limits.seconds - now.elapsed))
    gain = expected_gain(curve, coming)
    if gain < limits.min_gain * now.total:
        share = gain / now.total if now.total else 0.0
        return (
            f"all that is left is expected to gain {share:.2%} of the model's time, less than the "
            f"{limits.min_gain:.2%} of --min-gain"
        )
    return ""
