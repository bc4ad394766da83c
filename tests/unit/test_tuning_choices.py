"""What the search and its scheduler choose: how much is random, what a similar task promises, what is run again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tuning_search import Oracle, cost, wide
from tuning_fakes import FakeBuilder, FakeMeasurer, FakeTrialRunner, task

from tvmbuild.records.trial import Failure, Trial
from tvmbuild.tuning.scheduler import Progress, gradient
from tvmbuild.tuning.search import Search
from tvmbuild.tuning.task import Candidate

COUNT = 16


class Recording(Oracle):
    """Keeps what it was asked to rank last."""

    def score(self, task: Any, candidates: Sequence[Candidate]) -> list[float]:
        self.ranked = list(candidates)
        return super().score(task, candidates)


def unranked(seed: int) -> int:
    """Return how many of a batch are not among the best of those that the model ranked for it."""
    model = Recording()
    search = Search(wide(), seed, model)
    search.tell(search.task.default, cost(search.task.default))
    batch = search.propose(COUNT)
    best = sorted(map(cost, model.ranked))[:COUNT]
    return sum(cost(candidate) > best[-1] for candidate in batch)


def test_one_in_twenty_proposals_is_random() -> None:
    """Of 60 batches of 16 about 48 are random, with a standard deviation of 7; a few of them are among the best."""
    assert 25 <= sum(map(unranked, range(60))) <= 70


def of(best: list[float], macs: int, weight: int = 1, kind: str = "conv2d.direct") -> Progress:
    return Progress(weight, macs, kind, best, False)


@settings(max_examples=60)
@given(
    times=st.lists(st.floats(1e-4, 1.0), min_size=1, max_size=24),
    macs=st.integers(1, 10**6),
    rate=st.floats(1.0, 1e9),
    weight=st.integers(1, 9),
)
def test_a_gradient_is_what_the_paper_says(times: list[float], macs: int, rate: float, weight: int) -> None:
    """Ansor's section 6.2 with alpha 0.2, beta 2 and the last 16 trials."""
    best = sorted(times, reverse=True)
    other = of([1000 / rate], 1000)
    fastest = max(macs / best[-1], 1000 / other.best[-1])
    before = best[max(0, len(best) - 17)]
    backward = (before - best[-1]) / max(1, min(16, len(best) - 1))
    outlook = max(best[-1] / len(best), best[-1] - 2.0 * macs / fastest)
    mine = of(best, macs, weight)
    assert gradient(mine, [mine, other]) == pytest.approx(weight * (0.2 * backward + 0.8 * outlook))


def test_a_task_of_another_kind_or_without_numbers_says_nothing_of_this_one() -> None:
    mine = of([1.0] * 4, 100)
    alone = gradient(mine, [mine])
    for other in (of([1e-6], 10**6, kind="matmul"), of([1e-6], 0), of([], 10**6), of([float("inf")], 10**6)):
        assert gradient(mine, [mine, other]) == alone


class InTurn(FakeMeasurer):
    """Fails for all but the default, each time for the next of some causes; then it measures."""

    def __init__(self, causes: Sequence[str]) -> None:
        super().__init__(self._next)
        self._causes = iter(causes)

    def _next(self, _workload: str, choice: Any) -> float | Failure:
        cause = "" if choice == {"rows": 1, "stay": 0} else next(self._causes, "")
        return Failure(cause, cause) if cause else 1.0


@pytest.mark.parametrize(
    ("causes", "kept"),
    [
        (["crash", "crash"], "quarantined"),
        (["crash"], ""),
        (["lost"], ""),
        (["lost", "crash"], "crash"),
        (["upload", "crash"], "crash"),
        (["crash", "lost"], "lost"),
        (["lost", "lost"], "lost"),
        (["timeout"], "timeout"),
    ],
)
def test_only_two_crashes_quarantine(tmp_path: Path, causes: list[str], kept: str) -> None:
    """One after the connection broke may be the board's, which the candidate has to survive."""
    one = task(rows=2)
    runner = FakeTrialRunner(FakeBuilder(tmp_path), InTurn(causes), 0)
    trials: list[Trial] = []
    list(runner.start(one, [Candidate(0, (2, 1))], lambda _, trial: trials.append(trial)))
    runner.close()
    assert [trial.cause for trial in trials] == [kept]


def test_a_task_is_known_by_its_first_variant() -> None:
    """By what a build without records computes: its records are found by that hash."""
    made = wide()
    assert made.workload == made.variants[0].workload != made.variants[1].workload
    assert made.default.variant == 0
    assert [candidate.variant for candidate in made.variant_defaults] == [0, 1]
    for candidate in (made.default, Candidate(1, (3, 1, 7))):
        assert made.candidate(made.variants[candidate.variant].workload, made.choice(candidate)) == candidate
