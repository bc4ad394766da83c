"""Which operators take indices, and what these count: data for whoever checks them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Shape = Sequence[int]


@dataclass(frozen=True)
class Indices:
    """Which input of an operator holds indices, and what they count.

    Attributes:
        position: of the input.
        sizes: from the shapes of the inputs and the attributes that are numbers, the size of each indexed axis, in the
            order of the last axis of the indices; a single one counts for every index.
        negative: whether -1 is the last element.
    """

    position: int
    sizes: Callable[[Sequence[Shape], Mapping[str, int]], Shape]
    negative: bool = True

    def range(self, size: int) -> tuple[int, int]:
        """Return the first and the last index of an axis."""
        return (-size if self.negative else 0), size - 1


def _one_axis(shapes: Sequence[Shape], numbers: Mapping[str, int]) -> Shape:
    return (shapes[0][numbers.get("axis", 0) % len(shapes[0])],)


def _leading_axes(shapes: Sequence[Shape], numbers: Mapping[str, int]) -> Shape:
    first = numbers.get("batch_dims", 0)
    return shapes[0][first : first + shapes[1][-1]]


def _rows_of(position: int) -> Callable[[Sequence[Shape], Mapping[str, int]], Shape]:
    return lambda shapes, _: (shapes[position][0],)


def unpooled_shape(shape: Shape, attributes: Mapping[str, Any]) -> Shape:
    """Return the shape that MaxUnpool makes of one when it is not told."""
    kernel = attributes["kernel_shape"]
    strides, pads = attributes.get("strides", [1] * len(kernel)), attributes.get("pads", [0] * 2 * len(kernel))
    axes = zip(shape[2:], strides, kernel, pads[: len(kernel)], pads[len(kernel) :], strict=True)
    spatial = [(size - 1) * stride + width - before - after for size, stride, width, before, after in axes]
    return (*shape[:2], *spatial)


#: By operator, its inputs that hold indices. MaxUnpool's converter checks its own, which count all that it writes.
#: OneHot has none: it compares them, and what is outside equals nothing.
INDEXED: Mapping[str, tuple[Indices, ...]] = {
    "Gather": (Indices(1, _one_axis),),
    "GatherElements": (Indices(1, _one_axis),),
    "GatherND": (Indices(1, _leading_axes),),
    "Scatter": (Indices(1, _one_axis),),
    "ScatterElements": (Indices(1, _one_axis),),
    "ScatterND": (Indices(1, _leading_axes),),
    "RoiAlign": (Indices(2, _rows_of(0), negative=False),),
    "EmbedLayerNormalization": (
        Indices(0, _rows_of(2), negative=False),
        Indices(1, _rows_of(4), negative=False),
        Indices(8, _rows_of(3), negative=False),
    ),
}
