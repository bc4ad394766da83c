"""Cycles of superblocks: llvm-mca's figures, corrected for what it does not model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from tvmbuild.predict import llvm
from tvmbuild.predict.costs import Counts
from tvmbuild.predict.instructions import (
    multiply_add_bound,
    pairwise_adds,
    spilled_accumulators,
    vector_divisions,
)
from tvmbuild.predict.profile import Block, Profile
from tvmbuild.predict.superblocks import Superblock, join
from tvmbuild.target.cores import Core

#: Share of the executed instructions that is priced; the rest is taken to cost as much an instruction.
_COVERED = 0.999
_MOST_BLOCKS = 6000


@dataclass(frozen=True)
class PricedBlock:
    """A superblock and what it costs.

    Attributes:
        block: the superblock.
        body: assembly text of its instructions.
        cycles: of one execution, as simulated, without cache misses.
        counts: of all executions together.
        trips: iterations each time that the loop is entered; 1 when it is no loop.
        spills: accumulators that a loop keeps on the stack.
    """

    block: Superblock
    body: tuple[str, ...]
    cycles: float
    counts: Counts
    trips: float
    spills: int


@dataclass
class PriceCache:
    """What LLVM said of instructions and blocks, for one core: many profiles share the code of the runtime.

    Threads may share it: at worst two ask LLVM the same.
    """

    texts: dict[str, str | None] = field(default_factory=dict)
    costs: dict[tuple[str, ...], llvm.BlockCost | None] = field(default_factory=dict)

    def disassemble(self, tools: llvm.LlvmTools, words: set[str]) -> dict[str, str]:
        """Return what ``llvm.disassemble`` does."""
        new = {word for word in words if word not in self.texts}
        if new:
            found = llvm.disassemble(tools, new)
            self.texts.update({word: found.get(word) for word in new})
        return {word: text for word in words if (text := self.texts[word]) is not None}

    def price(self, tools: llvm.LlvmTools, cpu: str, bodies: Sequence[tuple[str, ...]]) -> list[llvm.BlockCost | None]:
        """Return what ``llvm.price`` does."""
        new = list(dict.fromkeys(body for body in bodies if body not in self.costs))
        self.costs.update(zip(new, llvm.price(tools, cpu, new), strict=True))
        return [self.costs[body] for body in bodies]


def price_profile(
    profile: Profile, core: Core, tools: llvm.LlvmTools, cache: PriceCache | None = None
) -> list[PricedBlock]:
    """Price the blocks that make up nearly all executed instructions.

    Args:
        profile: what was executed.
        core: the core to price for.
        tools: LLVM's programs.
        cache: what is known already of this core; it is added to.

    Raises:
        ToolchainError: LLVM's programs could not be run.
    """
    hot = _hot_blocks(profile)
    cache = cache or PriceCache()
    texts = cache.disassemble(tools, {word for block in hot for word in block.words})
    superblocks = join(hot, texts)
    bodies = [tuple(texts[word] for word in block.words if word in texts) for block in superblocks]
    costs = cache.price(tools, core.scheduling_model, bodies)
    executions: Counter[int] = Counter()
    for block in profile.blocks:
        executions[block.address] += block.count
    return [
        price_block(block, body, cost, core, executions)
        for block, body, cost in zip(superblocks, bodies, costs, strict=True)
        if cost is not None
    ]


def _hot_blocks(profile: Profile) -> Sequence[Block]:
    ordered = sorted(profile.blocks, key=lambda block: -block.executed)[:_MOST_BLOCKS]
    covered = 0
    for number, block in enumerate(ordered):
        if covered >= _COVERED * profile.instructions:
            return ordered[:number]
        covered += block.executed
    return ordered


def price_block(
    block: Superblock, body: tuple[str, ...], cost: llvm.BlockCost, core: Core, executions: Mapping[int, int]
) -> PricedBlock:
    """Correct llvm-mca's cost of one superblock.

    llvm-mca repeats a block without end, so a chain of latencies through it counts in full. On the core a block that
    is left soon overlaps with what comes next, as far as the reorder window reaches: the simulated cycles count in
    proportion to how much of the window its executions fill, and never less than what its pipes need.

    Args:
        block: the superblock.
        body: its assembly text.
        cost: llvm-mca's figures.
        core: the core.
        executions: how often the block at an address ran, to find the trips of a loop.
    """
    trips = _trips(block, executions) if block.is_loop else 1.0
    spills = spilled_accumulators(list(body)) if block.is_loop else 0
    cycles = cost.cycles
    if core.in_order:
        # LLVM's model of the Cortex-A55, which stands for the A53, issues twice the multiply-adds that either does.
        cycles = max(cycles, multiply_add_bound(list(body), core)[1])
    else:
        cycles = max(cost.floor, cost.cycles * min(1.0, trips * cost.micro_ops / core.window))
    if spills:
        # llvm-mca takes loads as independent of stores, which hides this chain.
        cycles = max(cycles, core.forwarding)
    counts = Counts(
        compute_cycles=block.count * cycles,
        pairwise_adds=block.count * pairwise_adds(body),
        divisions=block.count * vector_divisions(body),
        l1_misses=block.l1_misses,
        l2_misses=block.l2_misses,
        memory_reads=block.memory_reads,
        memory_writes=block.memory_writes,
    )
    return PricedBlock(block, body, cycles, counts, trips, spills)


def _trips(block: Superblock, executions: Mapping[int, int]) -> float:
    """Return the iterations per entry, from how often the code behind the loop ran."""
    left = executions.get(block.parts[-1].end, 0)
    return block.count / min(block.count, left) if left else float(block.count)
