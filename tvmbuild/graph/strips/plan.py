"""Which stages belong together, in strips of how many rows: by predicted cycles of computing and of lines moved.

The stages stand in a line, in the order in which they run. Each stretch of it whose inner results nobody else reads may
be a chain. What a chain costs is added up from its strips, and what its stages cost alone from their layers; the
cheapest division of the line is found by dynamic programming.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tvmbuild.graph.rewriter import Var, shape_of
from tvmbuild.graph.strips.cost import CALL, COPIED, Cost, Memory, bytes_of
from tvmbuild.graph.strips.rows import Node, Policy, Read, Rows, plan_rows, split
from tvmbuild.graph.strips.stage import Graph, Stage, is_chain
from tvmbuild.schedules.cache import LINE

#: Stages of a chain, at most: scratches add up, and every stage adds to the halo.
MOST_STAGES = 16
#: What may become of rows that two strips read.
POLICIES = (Policy.ROLLING, Policy.RECOMPUTE)
#: Share of their cycles that a chain must save of its stages: less is within the error of the prediction.
_LEAST_GAIN = 0.03

#: Why stages are no chain.
IN_CACHE = "what it hands on stays in the cache"
READ_OUTSIDE = "its result is read in several places"
AT_END = "nothing behind it works row by row"
TOO_LARGE = "strips of it and the next one do not fit the cache"
NO_GAIN = "in strips it would not be faster"


@dataclass(frozen=True)
class Link:
    """Some stages as a chain.

    Attributes:
        stages: in order.
        inputs: tensors that they read and do not make, each once.
        rows: the same as rows.
    """

    stages: tuple[Stage, ...]
    inputs: tuple[Var, ...]
    rows: Rows


@dataclass(frozen=True)
class Choice:
    """How a chain is to run.

    Attributes:
        first: number of its first stage.
        last: number of its last one.
        height: rows of the output in a strip.
        policy: what becomes of rows that two strips read.
        cycles: what it takes, as predicted.
    """

    first: int
    last: int
    height: int
    policy: Policy
    cycles: float


@dataclass
class Division:
    """What was chosen for a line of stages.

    Attributes:
        chains: in order.
        kept: by stage that is in none, why.
    """

    chains: list[Choice] = field(default_factory=list)
    kept: dict[int, str] = field(default_factory=dict)


def link(stages: Sequence[Stage], granules: Sequence[int]) -> Link:
    """Return some stages, in an order in which they can run, as a chain; each begins at multiples of its granule."""
    made = {stage.output: index for index, stage in enumerate(stages)}
    inputs = list(dict.fromkeys(source.var for stage in stages for source in stage.sources if source.var not in made))
    number = {var: index for index, var in enumerate(inputs)}
    number |= {var: len(inputs) + index for var, index in made.items()}
    nodes = tuple(
        Node(tuple(Read(number[source.var], source.window) for source in stage.sources), granule)
        for stage, granule in zip(stages, granules, strict=True)
    )
    heights = tuple(shape_of(var)[1] for var in (*inputs, *made))
    return Link(tuple(stages), tuple(inputs), Rows(heights, nodes))


class Planner:
    """Prices stretches of a line of stages."""

    def __init__(
        self, graph: Graph, stages: Sequence[Stage], costs: Sequence[Cost | None], memory: Memory, cores: int
    ) -> None:
        """Take the stages with what each costs; None for one that cannot be part of a chain."""
        self._graph, self._stages, self._costs = graph, stages, costs
        self._memory, self._cores = memory, cores

    def divide(self) -> Division:
        """Return the cheapest division into chains and stages alone."""
        best = [0.0]
        chosen: list[Choice | None] = [None]
        choices: dict[tuple[int, int], Choice] = {}
        for first in range(len(self._stages)):
            for choice in self._chains_from(first):
                choices[choice.first, choice.last] = choice
        for last in range(len(self._stages)):
            options: list[tuple[float, Choice | None]] = [(best[last] + self._alone(last), None)]
            for first in range(max(0, last + 1 - MOST_STAGES), last):
                found = choices.get((first, last))
                if found is not None:
                    options.append((best[first] + found.cycles, found))
            cycles, choice_of = min(options, key=lambda option: option[0])
            best.append(cycles)
            chosen.append(choice_of)
        return self._traced(chosen)

    def _traced(self, chosen: Sequence[Choice | None]) -> Division:
        division = Division()
        last = len(self._stages)
        while last > 0:
            choice = chosen[last]
            if choice is None:
                if self._costs[last - 1] is not None:
                    division.kept[last - 1] = self._reason(last - 1)
                last -= 1
            else:
                division.chains.insert(0, choice)
                last = choice.first
        return division

    def _alone(self, number: int) -> float:
        cost, stage = self._costs[number], self._stages[number]
        if cost is None:
            return 0.0
        lines = self._lines([source.var for source in stage.sources]) + self._memory.lines_moved(cost.bytes)
        return cost.alone / self._cores + self._memory.launch + lines * self._memory.bus_line

    def _lines(self, tensors: Sequence[Var]) -> float:
        """Return the lines that reading tensors brings from memory, each tensor once."""
        return sum(self._memory.lines_moved(bytes_of(var)) for var in dict.fromkeys(tensors))

    def _chains_from(self, first: int) -> list[Choice]:
        """Return the chains worth their while that begin with a stage."""
        found = []
        alone = moved = 0.0
        for last in range(first, min(len(self._stages), first + MOST_STAGES)):
            cost = self._costs[last]
            if cost is None:
                break
            alone += self._alone(last)
            stages = self._stages[first : last + 1]
            if last > first and moved > 0 and is_chain(self._graph, stages):
                choice = self._cheapest(first, last)
                if choice is None:
                    break
                if choice.cycles < (1 - _LEAST_GAIN) * alone:
                    found.append(choice)
            moved += self._memory.lines_moved(cost.bytes)
        return found

    def _reason(self, number: int) -> str:
        """Say why a stage is in no chain with the one behind it."""
        cost = self._costs[number]
        if number + 1 == len(self._stages) or self._costs[number + 1] is None:
            return AT_END
        if cost is not None and not self._memory.lines_moved(cost.bytes):
            return IN_CACHE
        if not is_chain(self._graph, self._stages[number : number + 2]):
            return READ_OUTSIDE
        return NO_GAIN if self._cheapest(number, number + 1) is not None else TOO_LARGE

    def _cheapest(self, first: int, last: int) -> Choice | None:
        """Return the cheapest height and policy of a chain; None where no strip fits the cache."""
        costs = [cost for cost in self._costs[first : last + 1] if cost is not None]
        chain = link(self._stages[first : last + 1], [cost.granule for cost in costs])
        granule = costs[-1].granule
        shares = split(chain.rows.heights[-1], self._cores, granule)
        core = len(shares) // 2
        rows = max(high - low for low, high in shares)
        best: Choice | None = None
        parts = -(-rows // granule)
        for height in sorted({granule * -(-parts // count) for count in range(1, parts + 1)}):
            policies = POLICIES[-1:] if height >= rows else POLICIES
            priced = [self._price(chain, costs, core, height, policy) for policy in policies]
            fitting = [
                Choice(first, last, height, policy, cycles)
                for policy, cycles in zip(policies, priced, strict=True)
                if cycles is not None
            ]
            if not fitting:
                break
            best = min([*fitting, *([best] if best else [])], key=lambda choice: choice.cycles)
        return best

    def _price(self, chain: Link, costs: Sequence[Cost], core: int, height: int, policy: Policy) -> float | None:
        """Return the cycles of a chain by those of one core; None where the strips do not fit."""
        plan = plan_rows(chain.rows, self._cores, height, policy, only=core)
        inputs = chain.rows.inputs
        scratch = sum(rows * cost.row_bytes for rows, cost in zip(plan.scratch[inputs:], costs, strict=True))
        cycles, copies = 0.0, 0
        for strip in plan.cores[0]:
            for piece in strip.pieces:
                cost = costs[piece.node]
                made = piece.rows[1] - piece.rows[0]
                cycles += made * cost.row + CALL
                part = piece.reads[0]
                padded = cost.padded_bytes * (part.rows[1] - part.rows[0] + part.top + part.bottom)
                copies = max(copies, padded + cost.temporary)
            cycles += sum(kept.rows * costs[kept.tensor - inputs].row_bytes for kept in strip.kept) / COPIED
        weights = sum(cost.weights for cost in costs)
        passing = height * costs[-1].row_bytes
        if self._cores * (scratch + copies + passing) + weights > self._memory.scratch:
            return None
        cycles += weights / LINE * self._memory.cache_line * (len(plan.cores[0]) - 1)
        lines = self._lines(chain.inputs) + self._memory.lines_moved(costs[-1].bytes)
        return cycles + self._memory.launch + lines * self._memory.bus_line
