"""Chooses the tile of outputs that a matrix-product-like kernel keeps in registers.

A tile is ``columns`` x ``channels`` outputs. For each reduction index the kernel loads one value per column and
``channels / lanes`` vectors of weights, and issues ``columns * channels / lanes`` fused multiply-adds. The rule prices
every tile that fits the registers by the slower of arithmetic, instruction issue and accumulation latency, plus the
lines that it brings to the first level cache, times the outputs computed beyond the edge, and takes the cheapest.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from tvmbuild.targets.target import Target

#: Reduction indices that are unrolled together where a vector of inputs is loaded at once (128-bit NEON, by lane), of
#: float32; of float16 twice as many where the depth allows.
LANE_STEP = 4

#: Columns of a tile, at most; more would not fit any register file here.
_MAX_COLUMNS = 16

#: The same where a multiply-add takes lanes of halves: it can take them from 16 of the 32 registers alone, which LLVM
#: also gives to accumulators; with 11 columns it spills, with 9 it does not.
_MAX_COLUMNS_OF_HALVES = 9

#: Bytes that TVM keeps on the stack for one buffer, at most (kMaxStackAlloca, exclusive); a larger tile would be
#: allocated anew in every call and could not become registers.
_STACK_BYTES = 1024

#: Cycles per reduction index for each column and channel of a tile: their share of a cache line from the second level.
_LINE_COST = 0.1

#: Cycles to start and store one tile, for each of its accumulators on a core of one multiply-add a cycle.
TILE_CYCLES = 2.5


@dataclass(frozen=True)
class Core:
    """What the rule needs to know of a core.

    Attributes:
        lanes: elements of a vector register.
        element_bytes: bytes of an element.
        registers: vector registers.
        fma_per_cycle: vector multiply-adds issued in a cycle.
        fma_latency: cycles until a multiply-add's sum can be added to again.
        issue: micro-operations issued in a cycle.
        loads_per_cycle: loads issued in a cycle.
        load_uops: micro-operations of a vector load.
        by_lane: whether a multiply-add can take one lane of a vector as its scalar factor (NEON); otherwise the
            factor is broadcast from memory.
        memory_line: cycles to bring a line from memory, more than for one core alone since cores wait for each other.
    """

    lanes: int
    element_bytes: int
    registers: int
    fma_per_cycle: int
    fma_latency: int
    issue: int
    loads_per_cycle: int
    load_uops: float
    by_lane: bool
    memory_line: float

    @property
    def most_columns(self) -> int:
        """Columns of a tile, at most."""
        return _MAX_COLUMNS_OF_HALVES if self.by_lane and self.element_bytes == 2 else _MAX_COLUMNS


@dataclass(frozen=True)
class RegisterTile:
    """Outputs kept in registers: ``columns`` positions x ``channels`` channels (a multiple of the lanes)."""

    columns: int
    channels: int


def core_of(target: Target, dtype: str = "float32") -> Core:
    """Return the core's limits for elements of a type ("float32" or "float16").

    The Arm figures are from Arm's software optimization guides for Cortex-A72 and Cortex-A76, the load figure of the
    latter from LLVM's Neoverse N1 model, by which the product predicts it.
    """
    size = element_bytes(dtype)
    lanes = target.vector_bits // (8 * size)
    if target.arch == "x86_64":
        return Core(lanes, size, target.vector_registers, 2, 4, 6, 2, 1.0, by_lane=False, memory_line=16)
    if target.cpu in ("cortex-a76", "neoverse-n1", "cortex-a77", "cortex-a78"):
        return Core(lanes, size, 32, 2, 4, 3, 2, 1.75, by_lane=True, memory_line=17)
    return Core(lanes, size, 32, 1, 7, 3, 1, 1.0, by_lane=True, memory_line=32)


def element_bytes(dtype: str) -> int:
    """Return the bytes of an element ("float16": 2)."""
    return int(np.dtype(dtype).itemsize)


@lru_cache(maxsize=4096)
def choose_tile(
    columns: int,
    channels: int,
    target: Target,
    exact_columns: bool = False,
    dtype: str = "float32",
    most_columns: int = _MAX_COLUMNS,
) -> RegisterTile:
    """Choose the tile for a kernel of ``columns`` positions in a row by ``channels`` outputs.

    Args:
        columns: positions that one row of tiles covers.
        channels: output channels of one group.
        target: the board.
        exact_columns: whether the tile's columns must divide ``columns``.
        dtype: type of the factors and the accumulators.
        most_columns: columns of the tile, at most.
    """
    core = core_of(target, dtype)
    best: tuple[float, int, RegisterTile] | None = None
    for vectors in range(1, core.registers // 2):
        if vectors > 1 and (vectors - 1) * core.lanes >= channels:
            break
        for width in range(1, min(columns, core.most_columns, most_columns) + 1):
            if not _fits(width, vectors, core) or (exact_columns and columns % width):
                continue
            tile = RegisterTile(width, vectors * core.lanes)
            cost = tile_cost(tile, columns, channels, core)
            rank = (cost, abs(width - vectors), tile)
            if best is None or rank[:2] < best[:2]:
                best = rank
    assert best is not None
    return best[2]


def cheapest_tiles(
    columns: int, channels: int, target: Target, count: int, dtype: str = "float32"
) -> list[RegisterTile]:
    """Return the tiles with the least predicted cycles, the cheapest first; arguments as of ``choose_tile``."""
    core = core_of(target, dtype)
    fitting = [
        RegisterTile(width, vectors * core.lanes)
        for vectors in range(1, core.registers // 2)
        for width in range(1, min(columns, core.most_columns) + 1)
        if (vectors - 1) * core.lanes < channels and _fits(width, vectors, core)
    ]
    return sorted(fitting, key=lambda tile: (tile_cost(tile, columns, channels, core), tile.columns))[:count]


def tile_cost(tile: RegisterTile, columns: int, channels: int, core: Core) -> float:
    """Return predicted cycles of one reduction index over ``columns`` x ``channels`` outputs."""
    vectors = tile.channels // core.lanes
    tiles = -(-columns // tile.columns) * -(-channels // tile.channels)
    fma = tile.columns * vectors
    loads = vectors + tile.columns / (core.lanes if core.by_lane else 1)
    folded = 0 if core.by_lane else tile.columns
    cycles = max(
        fma / core.fma_per_cycle,
        (fma + (loads - folded) * core.load_uops + 1) / core.issue,
        loads / core.loads_per_cycle,
        float(core.fma_latency),
    )
    return tiles * (cycles + _LINE_COST * (tile.columns + vectors * 4) / core.fma_per_cycle)


def _fits(columns: int, vectors: int, core: Core) -> bool:
    """Whether accumulators, the weights in use and the columns' values fit the registers."""
    accumulators = columns * vectors
    if accumulators * core.lanes * core.element_bytes >= _STACK_BYTES:
        return False
    if core.by_lane:
        return accumulators + columns + 2 * vectors <= core.registers
    return accumulators + vectors + 1 <= core.registers
