"""When to stop, and what going on would buy."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

#: Trials over which gains are looked at, at least, and their share of all trials: two half-lives of what a gain tells.
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

    Tuning curves flatten: a gain is taken to tell of half its size in the next half-life of trials, of a quarter in the
    one after, and so on; and the longer ago it was, the less it tells, by the same measure.
    """
    if len(curve) < 2 or trials <= 0:
        return 0.0
    now = curve[-1].trials
    half_life = _half_life(now)
    told = 0.0
    for before, after in itertools.pairwise(curve):
        gain = before.total - after.total
        # A total may rise where a task's first time comes late.
        if gain > 0.0:
            told += gain * 0.5 ** ((now - after.trials) / half_life)
    return float(told * (1.0 - 0.5 ** (trials / half_life)))


def _half_life(trials: int) -> float:
    return max(LEAST_WINDOW, _WINDOW_SHARE * trials) / 2


def expected_in(curve: Sequence[Point], seconds: float, left: int) -> float | None:
    """Return the seconds of model time that so many more seconds of tuning are expected to gain.

    Args:
        curve: one point for each trial, from the run's start.
        seconds: how much longer.
        left: candidates that were not tried yet.

    Returns:
        None while too few candidates were tried to tell.
    """
    if not curve or curve[-1].trials - curve[0].trials < LEAST_WINDOW // 2:
        return 0.0 if curve and left <= 0 else None
    return expected_gain(curve, min(left, trials_a_second(curve) * seconds))


def trials_a_second(curve: Sequence[Point]) -> float:
    """Return the rate of the run so far."""
    if len(curve) < 2 or curve[-1].elapsed <= curve[0].elapsed:
        return 0.0
    return (curve[-1].trials - curve[0].trials) / (curve[-1].elapsed - curve[0].elapsed)


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 60 else f"{seconds / 60:g} minutes"


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
        return f"the {_duration(limits.seconds)} asked for are over"
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
