"""Decides which task gets the next trials: the gradient scheduler of Ansor (Zheng et al., OSDI 2020, section 6).

The model's time is the sum of calls x best time over the tasks. A task's gradient is what one more trial is expected to
take off that sum, from how its best time fell lately and from how far it is from what similar tasks reach.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: Weight of the recent past against the outlook; trust in what similar tasks reach; trials that "lately" spans.
ALPHA = 0.2
BETA = 2.0
WINDOW = 16


@dataclass(frozen=True)
class Progress:
    """What the scheduler knows of a task.

    Attributes:
        weight: calls in the model.
        macs: multiply-accumulates of one call.
        kind: tasks of one kind are similar.
        best: the best time after each trial, in seconds; infinite until one succeeded.
        exhausted: whether nothing is left to try.
    """

    weight: int
    macs: int
    kind: str
    best: Sequence[float]
    exhausted: bool


def gradient(task: Progress, tasks: Sequence[Progress]) -> float:
    """Return the model seconds that one more trial of a task is expected to gain (a number of at least 0)."""
    count = len(task.best)
    if not count:
        return float("inf")
    now = task.best[-1]
    if now == float("inf"):
        return 0.0
    finite = [time for time in task.best[-WINDOW - 1 :] if time != float("inf")]
    backward = (finite[0] - now) / max(1, len(finite) - 1)
    outlook = now / count
    rates = [other.macs / other.best[-1] for other in tasks if _is_similar(other, task)]
    if rates and task.macs:
        outlook = max(outlook, now - BETA * task.macs / max(rates))
    return task.weight * (ALPHA * backward + (1.0 - ALPHA) * outlook)


def next_task(tasks: Sequence[Progress]) -> int | None:
    """Return the position of the task to try next; None when all are exhausted."""
    open_tasks = [index for index, task in enumerate(tasks) if not task.exhausted]
    if not open_tasks:
        return None
    return max(open_tasks, key=lambda index: (gradient(tasks[index], tasks), -index))


def _is_similar(other: Progress, task: Progress) -> bool:
    return other.kind == task.kind and bool(other.macs) and bool(other.best) and 0.0 < other.best[-1] < float("inf")
