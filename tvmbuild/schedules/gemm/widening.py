"""Weights that lie in the library as float16 and are widened to float32 in the kernel that reads them.

A library of half the size brings half the bytes from memory. Widening is exact; whether rounding to float16 is allowed
was decided when the weights were packed (``legalize/storage.py``). There are two ways, by how often a weight is used:

- *in registers*, right where it is read: a conversion a vector and use;
- *ahead*: blocks of weights are widened once into a buffer that stays in cache, and read from there.

LLVM's model of the Cortex-A72 gives ``fcvtl`` three micro-operations and 1.5 cycles, that of the Neoverse N1 two of
each. Ahead, a vector takes 2.75 cycles on the former, 2.5 on the latter (load, conversion, store), whatever its uses.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.cache import caches
from tvmbuild.schedules.gemm.register_tile import RegisterTile, vector_unit
from tvmbuild.schedules.gemm.traffic import Order, Traffic, cheapest_order, traffic_of
from tvmbuild.schedules.kernel import Kernel, Stage
from tvmbuild.schedules.knob import Knob
from tvmbuild.target.target import Target

#: Name of the stage.
STAGE = "widened"

#: Knobs: how many blocks of weights are widened together, 0 to widen in registers; and into how many parts the rows are
#: cut, each of which widens for itself.
AHEAD = "ahead"
PARTS = "parts"

#: Cycles to widen a vector of weights at each use, and ahead.
IN_REGISTERS_CYCLES = 1.5
AHEAD_CYCLES = 2.75

#: Vectors of weights that one trip of the widening loop takes: float16 fills a register with two of them.
_VECTORS = 2


def widened(packed: Any, dtype: str) -> Any:
    """Return weights as a stage of their own that has the type of the computation; the weights if they have it.

    Args:
        packed: ``te.Tensor`` of weights, float32 or float16.
        dtype: what is computed in.
    """
    from tvm import te

    if packed.dtype == dtype:
        return packed
    return te.compute(packed.shape, lambda *index: packed(*index).astype(dtype), name=STAGE)


def is_widened(kernel: Kernel) -> bool:
    """Whether a kernel widens its weights."""
    return any(stage.name == STAGE for stage in kernel.producers)


def without_widening(stages: Sequence[Stage]) -> list[Stage]:
    """Return the stages that widen no weights."""
    return [stage for stage in stages if stage.name != STAGE]


def block_knob(uses: float) -> Knob:
    """Return the knob ``ahead`` of a kernel that widens a block of weights at a time.

    Args:
        uses: how often it reads a vector of a block before it goes on to the next block.
    """
    return Knob(AHEAD, int(uses * IN_REGISTERS_CYCLES > AHEAD_CYCLES), (0, 1))


@dataclass(frozen=True)
class Tiles:
    """A tiled kernel that widens its weights.

    Attributes:
        images: repetitions of everything else: images, or leading axes.
        traffic: what the loops around its tiles read, the weights widened.
        cycles: of the multiply-adds of one tile.
        vectors: vectors of weights of one block.
    """

    images: int
    traffic: Traffic
    cycles: float
    vectors: float

    @classmethod
    def of(cls, spatial: Sequence[int], reduction: Sequence[int], tile: RegisterTile, target: Target) -> Tiles:
        """Describe a kernel in float32; arguments as of ``traffic_of``."""
        traffic, unit = traffic_of(spatial, reduction, tile, "float32"), vector_unit(target)
        vectors = math.prod(reduction) * tile.channels / unit.lanes
        cycles = vectors * tile.columns / unit.core.fma_per_cycle
        return cls(math.prod(spatial[:-3]) // traffic.rows, traffic, cycles, vectors)

    @property
    def count(self) -> int:
        """Tiles in all."""
        return self.images * self.traffic.rows * self.traffic.strips * self.traffic.blocks


@dataclass(frozen=True)
class Widening:
    """How weights are widened: the knobs' values, and the predicted cycles of all cores together.

    Attributes:
        ahead: blocks of weights widened together; 0 in registers.
        parts: parts of the rows.
        rows: rows of a chunk.
        extra: cycles that widening itself takes, added over the cores.
        total: cycles that the kernel takes, times the cores.
    """

    ahead: int
    parts: int
    rows: int
    extra: float
    total: float


def plan_widening(tiles: Tiles, target: Target, parallel: bool) -> Widening:
    """Return the cheapest way, as predicted for all of a board's cores.

    Each core takes a group of blocks, and widens it for all chunks of its part of the rows, of which one after the
    other stays in the first level cache.

    Args:
        tiles: the kernel.
        target: the board.
        parallel: whether the cores share the work.
    """
    sizes = divisors(tiles.traffic.rows)
    plans = [
        _ahead(tiles, target, parallel, rows, group, parts)
        for rows, group, parts in itertools.product(sizes, divisors(tiles.traffic.blocks), sizes)
        if (tiles.traffic.rows // rows) % parts == 0
    ]
    return min([_in_registers(tiles, target), *plans], key=lambda plan: (plan.total, plan.ahead, plan.rows))


def divisors(number: int) -> tuple[int, ...]:
    """Return the divisors of a number, smallest first."""
    return tuple(size for size in range(1, number + 1) if number % size == 0)


def _in_registers(tiles: Tiles, target: Target) -> Widening:
    """Price widening at each use: the weights come to the first level cache as halves, in the better order of loops."""
    extra = tiles.count * tiles.vectors * IN_REGISTERS_CYCLES
    order = order_of_halves(tiles.traffic, target)
    return Widening(0, 1, order.rows, extra, tiles.count * tiles.cycles + tiles.images * order.cycles + extra)


def order_of_halves(traffic: Traffic, target: Target) -> Order:
    """Return the best order of loops where weights come to the first level cache as halves."""
    return cheapest_order(dataclasses.replace(traffic, weight_bytes=traffic.weight_bytes // 2), target)


def _ahead(tiles: Tiles, target: Target, parallel: bool, rows: int, group: int, parts: int) -> Widening:
    traffic, cores = tiles.traffic, target.cores if parallel else 1
    extra = tiles.images * traffic.blocks * parts * tiles.vectors * AHEAD_CYCLES
    if caches(target).lost(0, group * traffic.weight_bytes, cores):
        # It would go to memory and come back.
        return Widening(group, parts, rows, extra, math.inf)
    moved = tiles.images * _moving_cycles(traffic, target, rows, group)
    trips = tiles.images * (traffic.blocks // group) * parts
    balance = -(-trips // cores) * cores / trips
    return Widening(group, parts, rows, extra, balance * (tiles.count * tiles.cycles + moved + extra))


def _moving_cycles(traffic: Traffic, target: Target, rows: int, group: int) -> float:
    """Return the cycles that a core waits for halves, widened weights and inputs, as ``traffic.moving_cycles`` does.

    Chunks of rows pass one after the other over each group of blocks.
    """
    c = caches(target)
    inputs, weights = traffic.rows * traffic.row_bytes, traffic.weight_bytes * traffic.blocks
    passes = traffic.blocks // group
    near = float(inputs * passes)
    if rows * traffic.row_bytes + traffic.weight_bytes > c.first:
        near *= group
    weights_fit = traffic.weight_bytes + traffic.tile_bytes <= c.first
    near += weights * (traffic.rows // rows) * (1 if weights_fit else rows * traffic.strips)
    return near * c.near + c.lost(inputs) * inputs * (passes - 1) * c.far + weights / 2 * c.stream


def widening_knobs(plan: Widening, tiles: Tiles) -> tuple[Knob, ...]:
    """Return the knobs ``ahead`` and ``parts`` of a tiled kernel, with the defaults of a plan."""
    parts = divisors(tiles.traffic.rows // plan.rows)
    return (Knob(AHEAD, plan.ahead, (0, *divisors(tiles.traffic.blocks))), Knob(PARTS, plan.parts, parts))


def widen_in_registers(sch: Any) -> None:
    """Widen weights where they are read."""
    sch.compute_inline(sch.get_sblock(STAGE))


def widen_ahead(sch: Any, loop: Any, lanes: int) -> None:
    """Widen what one trip of a loop reads of the weights, at its start.

    Args:
        sch: the schedule.
        loop: the loop around the uses.
        lanes: elements of a vector register of the computation.
    """
    block = sch.get_sblock(STAGE)
    rank = len(sch.get(block).iter_vars)
    sch.compute_at(block, loop, preserve_unit_loops=True)
    whole = sch.fuse(*sch.get_loops(block)[-rank:])
    width = lanes * (_VECTORS if int(sch.get(whole).extent) % (lanes * _VECTORS) == 0 else 1)
    sch.vectorize(sch.split(whole, [None, width])[1])
