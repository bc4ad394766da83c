"""Adds up a prediction: computing, plus the lines that are moved, at what the table of cores charges for each."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from tvmbuild.target.cores import Costs


@dataclass(frozen=True)
class Counts:
    """What some code did, all threads together.

    Attributes:
        compute_cycles: simulated cycles without cache misses.
        pairwise_adds: instructions that add pairs of lanes to an accumulator.
        divisions: divisions of four fp32 lanes.
        l1_misses: accesses that missed the first level data cache.
        l2_misses: of those, that missed the second level.
        memory_reads: lines that came from memory.
        memory_writes: changed lines that were written back to memory.
    """

    compute_cycles: float = 0.0
    pairwise_adds: float = 0
    divisions: float = 0
    l1_misses: float = 0
    l2_misses: float = 0
    memory_reads: float = 0
    memory_writes: float = 0

    @property
    def memory_lines(self) -> float:
        """Lines moved from memory and to it."""
        return self.memory_reads + self.memory_writes


def total(parts: Iterable[Counts]) -> Counts:
    """Add counts up."""
    columns = zip(*map(astuple, parts), strict=True)
    return Counts(*map(sum, columns))


def work(counts: Counts, costs: Costs) -> float:
    """Return the cycles of computing, all threads together."""
    return costs.compute_factor * (counts.compute_cycles + costs.pairwise_add * counts.pairwise_adds)


def cache_cycles(counts: Counts, costs: Costs) -> float:
    """Return the cycles that lines from the cores' caches and from the shared ones add, all threads together."""
    from_l2, from_l3 = counts.l1_misses - counts.l2_misses, counts.l2_misses - counts.memory_reads
    return from_l2 * costs.l2_line + from_l3 * costs.l3_line


def memory_cycles(counts: Counts, per_line: float, costs: Costs, mhz: float) -> float:
    """Return the cycles that lines from memory and to it add at a clock, of which one takes ``per_line`` at theirs."""
    return counts.memory_lines * per_line * (mhz / costs.mhz if mhz and costs.mhz else 1.0)


def one_thread_cycles(counts: Counts, costs: Costs, mhz: float) -> float:
    """Return the cycles of one thread while the other cores rest: computing and lines add up.

    Args:
        counts: what it did.
        costs: of the core.
        mhz: the clock; 0 when it is unknown: that of the costs.
    """
    return work(counts, costs) + cache_cycles(counts, costs) + memory_cycles(counts, costs.memory_line, costs, mhz)


def shared_cycles(counts: Counts, costs: Costs, *, speedup: float, launches: float, mhz: float) -> float:
    """Return the cycles from start to end of code that several threads share.

    Computing, and what moves between caches, is divided by what the parallel loops really give; all cores share one
    way to memory.

    Args:
        counts: of all threads together.
        costs: of the core.
        speedup: by what the computing is divided; 1.0 for code of one thread, which has the memory for itself.
        launches: parallel loops that are started.
        mhz: the clock; 0 when it is unknown: that of the costs.
    """
    line = costs.bus_line if speedup > 1 else costs.memory_line
    own = (work(counts, costs) + cache_cycles(counts, costs)) / speedup
    return own + memory_cycles(counts, line, costs, mhz) + launches * costs.launch_us * (mhz or costs.mhz)


def error_band(cycles: float, counts: Counts, costs: Costs, threads: int) -> tuple[float, float] | None:
    """Return the cycles between which a board's are expected, or None where no board's times were compared.

    They are what is not known of the core's pipes, and twice the spread of earlier predictions.

    Args:
        cycles: predicted.
        counts: what they were predicted from.
        costs: of the core.
        threads: threads that share the work.
    """
    spread = costs.spread if threads == 1 else costs.shared_spread
    if not spread:
        return None
    faster = counts.pairwise_adds * costs.pairwise_add + counts.divisions * costs.divide_excess
    slower = counts.pairwise_adds * max(0.0, costs.pairwise_add_most - costs.pairwise_add)
    factor = math.exp(2 * spread)
    return max(0.0, cycles - costs.compute_factor * faster / threads) / factor, (
        cycles + costs.compute_factor * slower / threads
    ) * factor
