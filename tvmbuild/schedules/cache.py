"""What schedules may count on of a board's caches, and what lines from beyond them cost, while all its cores work.

The prediction counts lines and charges what the table of cores says (``predict/costs.py``); rules estimate the lines
and charge the same, in cycles of *one* core: what all cores wait for together, such as the way to memory, counts once
for each of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from tvmbuild.target.target import Target

#: Share of a cache that may be counted on.
CACHE_SHARE = 0.7

#: Beyond that by this share of it, nothing of what is read in turn stays.
_SPILL = 0.86

#: Bytes of a line.
LINE = 64

#: Cost of a line from memory, in lines from the second level cache, where no figures are known.
MEMORY_COST = 3

#: Share of lines that arithmetic does not hide, likewise.
_EXPOSED = 0.3


def usable_bytes(target: Target) -> tuple[float, float]:
    """Return the bytes of the first and the second level cache that may be counted on."""
    return target.l1d_kib * 1024 * CACHE_SHARE, target.l2_kib * 1024 * CACHE_SHARE


@dataclass(frozen=True)
class Caches:
    """The caches of a board, in bytes that may be counted on, and the cycles that a byte from beyond adds.

    Attributes:
        first: first level of one core.
        own: the levels behind that a core has for itself; 0 where there are none.
        shared: the last level, where all cores share it; 0 where they do not.
        near: cycles of a core for a byte that comes to its first level from the levels behind.
        far: cycles of a core for a byte from memory, or to it.
        stream: the same for weights, which are read once and in order.
        launch: cycles of all cores together that starting a parallel loop, and waiting for its end, takes.
        cores: how many.
        is_known: whether the table of cores charges for lines; elsewhere arithmetic is taken to hide what tiles load.
    """

    first: float
    own: float
    shared: float
    near: float
    far: float
    stream: float
    launch: float
    cores: int
    is_known: bool

    def lost(self, common: float, of_each: float = 0.0, cores: int | None = None) -> float:
        """Return the share of some data that does not stay behind the first level until it is read again.

        None is lost of what fills the part of a cache that may be counted on, and all of what is nearly twice as much.

        Args:
            common: bytes that all cores read.
            of_each: bytes that a core has for itself.
            cores: that have some; all by default.
        """
        busy = self.cores if cores is None else cores
        needs = ((common + of_each, self.own), (common + busy * of_each, self.shared))
        fill = min(need / level if level else math.inf for need, level in needs)
        return min(1.0, max(0.0, (fill - 1) / _SPILL))


@lru_cache
def caches(target: Target) -> Caches:
    """Return the caches of a board."""
    core, costs, cores = target.core, target.core.costs, target.cores
    first, second, third = (CACHE_SHARE * 1024 * kib for kib in (target.l1d_kib, target.l2_kib, target.l3_kib))
    own, shared = (0.0, max(second, third)) if core.l2_is_shared else (second, third)
    if not costs.bus_line:
        line = core.shared_memory_line
        near = _EXPOSED * line / (MEMORY_COST + 1)
        return Caches(first, own, shared, near / LINE, MEMORY_COST * near / LINE, line / LINE, 0.0, cores, False)
    pace = target.max_mhz / costs.mhz if target.max_mhz else 1.0
    memory = (costs.bus_line * cores if cores > 1 else costs.memory_line) * pace
    near = costs.l3_line if third else costs.l2_line
    launch = costs.launch_us * (target.max_mhz or costs.mhz) * cores if cores > 1 else 0.0
    return Caches(first, own, shared, near / LINE, memory / LINE, memory / LINE, launch, cores, True)


def collide(step: int, count: int, target: Target) -> bool:
    """Whether lines at a distance displace each other in the first level cache.

    Args:
        step: distance of neighbours, in bytes.
        count: lines that are in use at a time.
        target: the board.
    """
    period = target.l1d_kib * 1024 // target.core.l1_ways
    return -(-count // (period // math.gcd(step, period))) > target.core.l1_ways
