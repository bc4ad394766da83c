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

from tvmbuild.target.cores import Core
from tvmbuild.target.target import Target

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
class VectorUnit:
    """A core's vector unit for elements of one type.

    Attributes:
        core: its issue widths and latencies.
        lanes: elements of a vector register.
        element_bytes: bytes of an element.
        registers: vector registers.
        by_lane: whether a multiply-add can take one lane of a vector as its scalar factor (NEON); otherwise the
            factor is broadcast from memory.
    """

    core: Core
    lanes: int
    element_bytes: int
    registers: int
    by_lane: bool

    @property
    def most_columns(self) -> int:
        """Columns of a tile, at most."""
        return _MAX_COLUMNS_OF_HALVES if self.by_lane and self.element_bytes == 2 else _MAX_COLUMNS


@dataclass(frozen=True)
class RegisterTile:
    """Outputs kept in registers: ``columns`` positions x ``channels`` channels (a multiple of the lanes)."""

    columns: int
    channels: int


def vector_unit(target: Target, dtype: str = "float32") -> VectorUnit:
    """Return the vector unit of a board's core for elements of a type ("float32" or "float16")."""
    size = element_bytes(dtype)
    lanes = target.vector_bits // (8 * size)
    return VectorUnit(target.core, lanes, size, target.vector_registers, by_lane=target.arch != "x86_64")


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
    unit = vector_unit(target, dtype)
    best: tuple[float, int, RegisterTile] | None = None
    for vectors in range(1, unit.registers // 2):
        if vectors > 1 and (vectors - 1) * unit.lanes >= channels:
            break
        for width in range(1, min(columns, unit.most_columns, most_columns) + 1):
            if not _fits(width, vectors, unit) or (exact_columns and columns % width):
                continue
            tile = RegisterTile(width, vectors * unit.lanes)
            cost = tile_cost(tile, columns, channels, unit)
            rank = (cost, abs(width - vectors), tile)
            if best is None or rank[:2] < best[:2]:
                best = rank
    assert best is not None
    return best[2]


def cheapest_tiles(
    columns: int, channels: int, target: Target, count: int, dtype: str = "float32"
) -> list[RegisterTile]:
    """Return the tiles with the least predicted cycles, the cheapest first; arguments as of ``choose_tile``."""
    unit = vector_unit(target, dtype)
    fitting = [
        RegisterTile(width, vectors * unit.lanes)
        for vectors in range(1, unit.registers // 2)
        for width in range(1, min(columns, unit.most_columns) + 1)
        if (vectors - 1) * unit.lanes < channels and _fits(width, vectors, unit)
    ]
    return sorted(fitting, key=lambda tile: (tile_cost(tile, columns, channels, unit), tile.columns))[:count]


def tile_cost(tile: RegisterTile, columns: int, channels: int, unit: VectorUnit) -> float:
    """Return predicted cycles of one reduction index over ``columns`` x ``channels`` outputs."""
    vectors = tile.channels // unit.lanes
    tiles = -(-columns // tile.columns) * -(-channels // tile.channels)
    fma = tile.columns * vectors
    loads = vectors + tile.columns / (unit.lanes if unit.by_lane else 1)
    folded = 0 if unit.by_lane else tile.columns
    cycles = max(
        fma / unit.core.fma_per_cycle,
        (fma + (loads - folded) * unit.core.load_uops + 1) / unit.core.issue,
        loads / unit.core.loads_per_cycle,
        float(unit.core.fma_latency),
    )
    return tiles * (cycles + _LINE_COST * (tile.columns + vectors * 4) / unit.core.fma_per_cycle)


def _fits(columns: int, vectors: int, unit: VectorUnit) -> bool:
    """Whether accumulators, the weights in use and the columns' values fit the registers."""
    accumulators = columns * vectors
    if accumulators * unit.lanes * unit.element_bytes >= _STACK_BYTES:
        return False
    if unit.by_lane:
        return accumulators + columns + 2 * vectors <= unit.registers
    return accumulators + vectors + 1 <= unit.registers
