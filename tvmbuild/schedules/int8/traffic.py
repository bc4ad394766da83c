"""What the loops around the tiles of an integer product read from beyond the first level cache."""

from __future__ import annotations

import math
from dataclasses import dataclass

from tvmbuild.schedules.cache import MEMORY_COST, usable_bytes
from tvmbuild.schedules.contracts import Int8GemmContract
from tvmbuild.schedules.kernel import Kernel
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class Int8Traffic:
    """Sizes of a product.

    Attributes:
        tiles: tiles of positions.
        blocks: blocks of channels.
        weight_bytes: weights of one block.
        tile_bytes: inputs and outputs that a tile of positions brings with it, of all channels.
    """

    tiles: int
    blocks: int
    weight_bytes: int
    tile_bytes: float

    def moved(self, tiles: int, together: int, weight_stationary: bool, target: Target) -> float:
        """Return what comes into the first level cache, in bytes from the second level, by what stays in them.

        Args:
            tiles: tiles of a chunk.
            together: blocks of channels that are computed for a tile before the next one.
            weight_stationary: whether all chunks pass before the next blocks.
            target: the board.
        """
        first, second = usable_bytes(target)
        chunks, passes = self.tiles // tiles, self.blocks // together
        moving, weights = self.tiles * self.tile_bytes, float(self.weight_bytes * self.blocks)
        held = self.weight_bytes * together
        weight_times = 1 if held + 2 * self.tile_bytes <= first else self.tiles
        if weight_stationary:
            again = 1 if moving <= second else MEMORY_COST
            return weights * max(1, weight_times) + moving * (MEMORY_COST + (passes - 1) * again)
        fits = tiles * self.tile_bytes + held <= first
        again = 1 if weights + tiles * self.tile_bytes <= second else MEMORY_COST
        inside = 1 if fits else passes
        return moving * (MEMORY_COST + inside - 1) + weights * (chunks if weight_times == 1 else self.tiles) * again


def traffic_of(kernel: Kernel) -> Int8Traffic:
    """Return the sizes of a kernel whose main stage is a tiled integer product."""
    main = kernel.main
    assert main is not None
    contract = main.contract(Int8GemmContract)
    tile, channels = contract.tile
    positions, blocks = main.spatial[0], main.spatial[1]
    source, weights = main.reads[0], main.reads[1]
    if weights.shape[0] != blocks or source.name == weights.name:
        source, weights = weights, source
    inputs = math.prod(source.shape)
    outputs = math.prod(kernel.last.spatial)
    size = 2 if source.dtype == "int16" else 1
    return Int8Traffic(
        tiles=positions // tile,
        blocks=blocks,
        weight_bytes=math.prod(main.reduction) * channels * size * contract.partial,
        tile_bytes=tile * (inputs * size + outputs) / positions,
    )
