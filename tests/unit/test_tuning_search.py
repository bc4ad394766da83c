from __future__ import annotations

from collections.abc import Sequence

from tuning_fakes import task

from tvmbuild.schedules.knob import Knob
from tvmbuild.tuning.search import ENUMERATED, Search
from tvmbuild.tuning.task import Candidate, Task, Variant


def wide() -> Task:
    knobs = tuple(Knob(name, 0, tuple(range(8))) for name in ("a", "b", "c"))
    return Task("wide", "conv2d.direct", "", (), "", 1, 1000, (Variant("f" * 16, knobs), Variant("e" * 16, knobs)))


def cost(candidate: Candidate) -> float:
    return 1.0 + sum((value - 5) ** 2 for value in candidate.values) + 3 * (1 - candidate.variant)


class Oracle:
    """A cost model that knows the answer."""

    def learn(self, task: Task, candidates: Sequence[Candidate], seconds: Sequence[float]) -> None: ...

    def score(self, task: Task, candidates: Sequence[Candidate]) -> list[float]:
        return [-cost(candidate) for candidate in candidates]


def run(search: Search, count: int, batch: int = 8) -> list[Candidate]:
    tried: list[Candidate] = []
    while len(tried) < count:
        for candidate in search.propose(min(batch, count - len(tried))):
            search.tell(candidate, cost(candidate))
            tried.append(candidate)
    return tried


def test_the_default_is_proposed_first_then_the_warm_ones() -> None:
    made = task()
    warm = Candidate(0, (3, 1))
    search = Search(made, 0, None, [warm])
    assert search.propose(1) == [made.default]
    search.tell(made.default, 1.0)
    assert search.propose(4)[0] == warm
    assert len(search.propose(4)) == 4


def test_a_small_space_is_tried_whole() -> None:
    made = task()
    search = Search(made, 0, None)
    assert set(run(search, made.size)) == set(made.candidates())
    assert search.exhausted
    assert search.propose(4) == []


def test_evolution_finds_the_best_of_a_large_space_with_a_good_model() -> None:
    made = wide()
    assert made.size > ENUMERATED
    tried = run(Search(made, 0, Oracle()), 48)
    assert len(set(tried)) == 48
    assert min(map(cost, tried)) == 1.0


def test_draws_depend_on_the_seed_alone() -> None:
    assert run(Search(wide(), 1, Oracle()), 24) == run(Search(wide(), 1, Oracle()), 24)
    assert run(Search(wide(), 1, None), 24) != run(Search(wide(), 2, None), 24)


def test_without_a_model_nothing_is_proposed_twice_to_the_end() -> None:
    made = wide()
    search = Search(made, 0, None)
    assert len(set(run(search, made.size, batch=64))) == made.size
