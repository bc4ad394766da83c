"""What the loops around register tiles move between the caches, and the order of loops that waits least for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tvmbuild.schedules.cache import caches
from tvmbuild.schedules.gemm.register_tile import RegisterTile, element_bytes
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class Traffic:
    """What the loops around the tiles read.

    Attributes:
        rows: rows of tiles, that chunks are made of.
        strips: tiles in a row.
        blocks: blocks of channels.
        weight_bytes: weights of one block.
        row_bytes: inputs that a row brings with it.
        tile_bytes: inputs that one tile reads.
    """

    rows: int
    strips: int
    blocks: int
    weight_bytes: int
    row_bytes: int
    tile_bytes: int


def traffic_of(spatial: Sequence[int], reduction: Sequence[int], tile: RegisterTile, dtype: str) -> Traffic:
    """Return what the loops around the tiles of a tiled stage read.

    Args:
        spatial: extents of its axes (leading..., column, block, channel).
        reduction: extents of its reduction axes; the last is the one that both factors hold contiguously.
        tile: outputs kept in registers.
        dtype: type of the computation.
    """
    *leading, width, blocks, _ = spatial
    reduced = math.prod(reduction)
    taps = reduction[-2] if len(reduction) > 1 else 1
    size = element_bytes(dtype)
    return Traffic(
        rows=leading[-1] if len(leading) > 1 else 1,
        strips=width // tile.columns,
        blocks=blocks,
        weight_bytes=reduced * tile.channels * size,
        row_bytes=width * reduction[-1] * size,
        tile_bytes=tile.columns * reduced * size // max(1, taps // 2),
    )


@dataclass(frozen=True)
class Order:
    """An order of the loops around the tiles.

    Attributes:
        cycles: that a core waits for what they move, the inputs' first way from memory not counted.
        rows: of a chunk.
        weight_stationary: 1 where all chunks pass before the next block of weights, 0 where all blocks pass before
            the next chunk.
    """

    cycles: float
    rows: int
    weight_stationary: int


def cheapest_order(traffic: Traffic, target: Target) -> Order:
    """Return the order that waits least."""
    candidates = [(rows, stay) for rows in chunk_sizes(traffic) for stay in (0, 1)]
    cycles, rows, stay = min((moving_cycles(traffic, rows, stay, target), rows, stay) for rows, stay in candidates)
    return Order(cycles, rows, stay)


def chunk_sizes(traffic: Traffic) -> tuple[int, ...]:
    """Return the rows that a chunk can have."""
    return tuple(size for size in range(1, traffic.rows + 1) if traffic.rows % size == 0)


def moving_cycles(traffic: Traffic, rows: int, weight_stationary: int, target: Target) -> float:
    """Return the cycles that a core waits for weights, and for inputs but for their first way from memory.

    Args:
        traffic: what there is to be moved.
        rows: of a chunk.
        weight_stationary: as in ``Order``.
        target: the board.
    """
    c = caches(target)
    chunks, tiles = traffic.rows // rows, traffic.rows * traffic.strips
    inputs, weights = float(traffic.rows * traffic.row_bytes), float(traffic.weight_bytes * traffic.blocks)
    chunk = rows * traffic.row_bytes
    weights_fit = traffic.weight_bytes + traffic.tile_bytes <= c.first
    if weight_stationary:
        near = weights * (1 if weights_fit else tiles) + inputs * traffic.blocks
        far = c.lost(inputs) * inputs * (traffic.blocks - 1)
    else:
        inputs_fit = chunk + traffic.weight_bytes <= c.first
        near = inputs * (1 if inputs_fit else traffic.blocks) + weights * (chunks if weights_fit else tiles)
        # Cores go through the weights at one pace where each has as many chunks; else each fetches its own.
        together = min(c.cores, chunks)
        passes = chunks // together if chunks % together == 0 else chunks
        far = c.lost(weights, chunk, together) * weights * (passes - 1)
        # All blocks of weights pass a chunk; one that does not stay comes from memory for each of them.
        far += c.lost(0, chunk, together) * inputs * (traffic.blocks - 1)
    return near * c.near + far * c.far + weights * c.stream
