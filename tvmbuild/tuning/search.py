"""Proposes the candidates of one task: all of them where they are few, else by evolution over the knobs.

The evolution is MetaSchedule's (Shao et al., NeurIPS 2022, section 4; after Ansor, section 5.1) with the knobs in place
of traces: a population of the best measured and of random candidates is mutated for some generations, the cost model
choosing parents, and the best that were not measured yet are proposed, with a few random ones among them.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tvmbuild.tuning.cost_model import CostModel
from tvmbuild.tuning.task import Candidate, Task

#: Spaces of at most this many candidates are tried one by one.
ENUMERATED = 128
_POPULATION = 96
_GENERATIONS = 4
#: Chance that a child is a mutation of its parent and not a cross of two.
_MUTATION = 0.85
#: Share of proposals that are random (MetaSchedule's ``eps_greedy``).
_RANDOM_SHARE = 0.05


class Search:
    """The search in one task's space; its draws depend on the seed, the task and what was tried alone."""

    def __init__(self, task: Task, seed: int, model: CostModel | None, warm: Sequence[Candidate] = ()) -> None:
        """Start a search.

        Args:
            task: what is searched.
            seed: of the draws.
            model: ranks candidates of large spaces; None draws them at random.
            warm: candidates to try right after the default: what was best for near shapes.
        """
        self.task = task
        self._seed = seed
        self._model = model
        self._warm = tuple(warm)
        self._times: dict[Candidate, float] = {}
        self._expected: set[Candidate] = set()

    @property
    def tried(self) -> int:
        """Number of candidates that have been tried."""
        return len(self._times)

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to propose."""
        return len(self._times) + len(self._expected) >= self.task.size

    def __contains__(self, candidate: Candidate) -> bool:
        """Whether a candidate has been tried."""
        return candidate in self._times

    def expect(self, candidates: Sequence[Candidate]) -> None:
        """Note candidates that are being tried: they are not proposed again while their outcomes are not there yet."""
        self._expected.update(candidates)

    def tell(self, candidate: Candidate, seconds: float) -> None:
        """Note an outcome; infinite for a failure."""
        self._expected.discard(candidate)
        self._times[candidate] = seconds

    def propose(self, count: int) -> list[Candidate]:
        """Return up to ``count`` candidates that were not tried yet; the default is the first of all."""
        taken = {*self._times, *self._expected}
        if self.task.default not in taken:
            first = [self.task.default]
        else:
            warm = [candidate for candidate in dict.fromkeys(self._warm) if candidate not in taken]
            # The other half of a batch goes to what the search proposes.
            first = warm[: -(-count // 2)]
        if len(first) == count:
            return first
        generator = np.random.default_rng([self._seed, int(self.task.workload, 16) % 2**32, len(taken)])
        taken.update(first)
        if self.task.size <= ENUMERATED:
            left = [candidate for candidate in self.task.candidates() if candidate not in taken]
            return (
                first + self._ranked([left[index] for index in generator.permutation(len(left))])[: count - len(first)]
            )
        return first + self._evolve(count - len(first), taken, generator)

    def _evolve(self, count: int, taken: set[Candidate], generator: np.random.Generator) -> list[Candidate]:
        measured = sorted((time, candidate.variant, candidate.values) for candidate, time in self._times.items())
        elite = [Candidate(variant, values) for time, variant, values in measured if np.isfinite(time)][:16]
        population = list(dict.fromkeys([*elite, *(self._draw(generator) for _ in range(_POPULATION))]))
        seen = dict.fromkeys(population)
        if self._model is not None:
            for _ in range(_GENERATIONS):
                scores = np.asarray(self._model.score(self.task, population))
                population = self._next_generation(population, scores, generator)
                seen.update(dict.fromkeys(population))
        fresh = [candidate for candidate in seen if candidate not in taken]
        fresh = self._ranked(fresh)
        randoms = int(generator.binomial(count, _RANDOM_SHARE))
        chosen = fresh[: count - randoms]
        rest = fresh[count - randoms :]
        chosen += [rest[index] for index in generator.permutation(len(rest))[: count - len(chosen)]]
        return chosen or [c for c in self.task.candidates() if c not in taken][:count]

    def _ranked(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return candidates, those that the model takes for the fastest first; ties keep their order."""
        if self._model is None or not candidates:
            return candidates
        scores = np.asarray(self._model.score(self.task, candidates))
        return [candidates[index] for index in np.argsort(-scores, kind="stable")]

    def _next_generation(
        self, population: list[Candidate], scores: np.ndarray, generator: np.random.Generator
    ) -> list[Candidate]:
        ranks = np.argsort(np.argsort(scores, kind="stable"), kind="stable") + 1.0
        parents = generator.choice(len(population), size=(_POPULATION, 2), p=ranks / ranks.sum())
        children = []
        for one, other in parents:
            if generator.random() < _MUTATION:
                children.append(self._mutate(population[one], generator))
            else:
                children.append(self._cross(population[one], population[other], generator))
        return list(dict.fromkeys(children))

    def _draw(self, generator: np.random.Generator) -> Candidate:
        index = int(generator.integers(len(self.task.variants)))
        knobs = self.task.variants[index].knobs
        return Candidate(index, tuple(knob.candidates[int(generator.integers(len(knob.candidates)))] for knob in knobs))

    def _mutate(self, candidate: Candidate, generator: np.random.Generator) -> Candidate:
        """Give one knob another value, or the whole another variant with the same values where it has them."""
        knobs = self.task.variants[candidate.variant].knobs
        position = int(generator.integers(len(knobs) + (len(self.task.variants) > 1)))
        if position < len(knobs):
            options = knobs[position].candidates
            values = list(candidate.values)
            values[position] = options[int(generator.integers(len(options)))]
            return Candidate(candidate.variant, tuple(values))
        drawn = self._draw(generator)
        mine = self.task.choice(candidate)
        kept = (
            mine[knob.name] if mine.get(knob.name) in knob.candidates else value
            for knob, value in zip(self.task.variants[drawn.variant].knobs, drawn.values, strict=True)
        )
        return Candidate(drawn.variant, tuple(kept))

    @staticmethod
    def _cross(one: Candidate, other: Candidate, generator: np.random.Generator) -> Candidate:
        if one.variant != other.variant:
            return one
        pairs = zip(one.values, other.values, strict=True)
        return Candidate(one.variant, tuple(a if generator.random() < 0.5 else b for a, b in pairs))
