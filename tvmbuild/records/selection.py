"""Which trial wins: the default, unless another is faster by more than the noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tvmbuild.records.trial import Trial

#: A measured candidate must be faster than the default by this share at least, and by what both spread.
LEAST_GAIN = 0.01


def best_trial(trials: Sequence[Trial], *, predicted: bool) -> Trial | None:
    """Return the winner among the trials of one task on one board; None when none succeeded.

    Args:
        trials: of one task.
        predicted: whether their figures are predicted, which have no noise.
    """
    successful = [trial for trial in trials if trial.ok]
    if not successful:
        return None
    fastest = min(successful, key=lambda trial: (trial.best, trial.key))
    default = next((trial for trial in reversed(successful) if trial.is_default), None)
    return fastest if default is None or beats(fastest, default, predicted=predicted) else default


def beats(trial: Trial, default: Trial, *, predicted: bool) -> bool:
    """Whether a trial is faster than the default by more than the noise."""
    noise = 0.0 if predicted else max(LEAST_GAIN, trial.spread + default.spread)
    return trial.best < default.best * (1.0 - noise)


def by_task(trials: Iterable[Trial]) -> dict[str, list[Trial]]:
    """Group trials by task, in order."""
    groups: dict[str, list[Trial]] = {}
    for trial in trials:
        groups.setdefault(trial.task, []).append(trial)
    return groups
