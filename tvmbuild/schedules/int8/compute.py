"""Integer convolutions and matrix products as products of rows: positions of the output by blocks of channels.

All positions of the output form one flat axis, so that tiles of positions waste next to nothing whatever the width of
a row. The *tiled* stage has the axes (position, block, channel), with one more for the parts of a sum where the core
adds neighbouring products in neighbouring lanes (see ``int8_form``); its reduction axes are the taps and runs of
neighbouring input channels. ``lane_sums`` adds those parts; ``unpack`` writes the outputs in the operator's layout and
takes every fused operator with it. Padding is written into a copy, with the zero point of the inputs; a convolution of
few input channels is a matrix product over a copy of its windows (im2col).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.contracts import Int8GemmContract, SumContract
from tvmbuild.schedules.geometry import Conv2dGeometry

#: Kinds noted on the tiled stage.
CONV2D = "conv2d.int8"
MATMUL = "matmul.int8"

#: Stages of these computes that move inputs.
PADDED, IM2COL = "padded", "windows"

#: Bytes of inputs that one load brings, at most.
_VECTOR = 16

#: The stage that adds the lanes of a sum.
LANE_SUMS = "lane_sums"


@dataclass(frozen=True)
class Int8Plan:
    """How an integer product is cut into tiles.

    Attributes:
        form: name of the ``Int8Form``.
        positions: positions of a tile.
        channels: channels of a tile and of a block of packed weights.
        run: neighbouring reduction indices that lie together in the packed weights, for each channel.
        runs: runs of a tap, of zeros where the channels do not fill them.
        partial: parts of a sum, in lanes of their own.
        vectors: runs for which inputs are loaded as one vector.
        im2col: whether inputs are copied window by window.
        element: type of inputs in the tiled stage.
    """

    form: str
    positions: int
    channels: int
    run: int
    runs: int
    partial: int
    vectors: int
    im2col: bool
    element: str

    def whole(self, positions: int) -> int:
        """Return positions rounded up to whole tiles."""
        return -(-positions // self.positions) * self.positions


def conv2d(data: Any, packed: Any, geometry: Conv2dGeometry, plan: Int8Plan, pad_value: int) -> Any:
    """Compute a convolution of int8 to int32.

    Args:
        data: ``te.Tensor`` NHWC, int8.
        packed: weights from ``int8_packing``, shape (blocks, kernel_h, kernel_w, runs, channels, run).
        geometry: the convolution.
        plan: the tiles.
        pad_value: what stands outside the image, the zero point of the inputs.

    Returns:
        ``te.Tensor`` NHWC, int32.
    """
    g = geometry
    blocks = -(-g.group_out // plan.channels)
    read = _im2col(data, packed, g, plan, pad_value) if plan.im2col else _taps(data, packed, g, plan, pad_value)

    def value(position: Any, block: Any, taps: tuple[Any, ...], k: Any) -> Any:
        return read(position, block // blocks if g.groups > 1 else 0, taps, k)

    positions = g.batch * g.out_height * g.out_width
    contract = dataclasses.replace(
        _contract(CONV2D, plan, g.macs, f"{g.workload} int8"),
        window=(g.kernel[0], g.kernel[1] * g.in_channels) if plan.im2col else None,
        groups=(g.groups, g.group_out) if g.groups > 1 else None,
    )
    products = _tiled(value, packed, positions, plan, contract)

    def place(n: Any, h: Any, w: Any, c: Any) -> tuple[Any, Any, Any]:
        within = c % g.group_out if g.groups > 1 else c
        block = c // g.group_out * blocks + within // plan.channels if g.groups > 1 else c // plan.channels
        return (n * g.out_height + h) * g.out_width + w, block, within % plan.channels

    return _unpack(products, (g.batch, g.out_height, g.out_width, g.out_channels), place)


def matmul(left: Any, packed: Any, columns: int, plan: Int8Plan) -> Any:
    """Compute a matrix product (leading..., rows, depth) x (depth, columns) of int8 to int32.

    Args:
        left: ``te.Tensor`` (leading..., rows, depth), int8.
        packed: right factor from ``int8_packing``, shape (blocks, runs, channels, run).
        columns: columns of the product.
        plan: the tiles; positions are the rows of all matrices together.

    Returns:
        ``te.Tensor`` (leading..., rows, columns), int32.
    """
    from tvm import te, tirx

    *leading, depth = (int(extent) for extent in left.shape)
    positions = math.prod(leading)
    rounded = int(packed.shape[1]) * plan.run
    source = left
    if rounded != depth or plan.element != "int8":

        def padded(*index: Any) -> Any:
            inner = left(*index).astype(plan.element)
            return te.if_then_else(index[-1] < depth, inner, tirx.const(0, plan.element)) if rounded > depth else inner

        source = te.compute((*leading, rounded), padded, name=PADDED)

    def value(position: Any, block: Any, taps: tuple[Any, ...], k: Any) -> Any:
        return source(*_unflatten(_within(position, positions, plan), leading), k)

    rows = "x".join(map(str, leading))
    contract = _contract(MATMUL, plan, positions * depth * columns, f"matmul {rows}x{depth} by {depth}x{columns} int8")
    products = _tiled(value, packed, positions, plan, contract)

    def place(*index: Any) -> tuple[Any, Any, Any]:
        *outer, column = index
        position: Any = 0
        for extent, axis in zip(leading, outer, strict=True):
            position = position * extent + axis
        return position, column // plan.channels, column % plan.channels

    return _unpack(products, (*leading, columns), place)


#: ``(position, block or group, taps, index in the depth) -> input``.
_Read = Callable[[Any, Any, tuple[Any, ...], Any], Any]


def _tiled(value: _Read, packed: Any, positions: int, plan: Int8Plan, contract: Int8GemmContract) -> Any:
    from tvm import te

    blocks, *taps, runs, channels, run = (int(extent) for extent in packed.shape)
    tap_axes = tuple(te.reduce_axis((0, extent), f"tap{i}") for i, extent in enumerate(taps))
    outer = te.reduce_axis((0, runs), "run")
    share = run // plan.partial
    inner = te.reduce_axis((0, share), "k")

    def product(position: Any, block: Any, channel: Any, *part: Any) -> Any:
        k = part[0] * share + inner if part else inner
        factor = value(position, block, tap_axes, outer * run + k).astype("int32")
        weight = packed(block, *tap_axes, outer, channel, k).astype("int32")
        return te.sum(factor * weight, axis=[*tap_axes, outer, inner])

    parts = (plan.partial,) if plan.partial > 1 else ()
    shape = (plan.whole(positions), blocks, channels, *parts)
    products = te.compute(shape, product, name="tiled", attrs=contract.to_notes())
    if not parts:
        return products
    part = te.reduce_axis((0, plan.partial), "part")
    notes = SumContract().to_notes()
    return te.compute(shape[:-1], lambda *i: te.sum(products(*i, part), axis=part), name=LANE_SUMS, attrs=notes)


def _unpack(products: Any, shape: tuple[int, ...], place: Callable[..., tuple[Any, Any, Any]]) -> Any:
    from tvm import te

    return te.compute(shape, lambda *index: products(*place(*index)), name="unpack")


def _taps(data: Any, packed: Any, g: Conv2dGeometry, plan: Int8Plan, pad_value: int) -> _Read:
    """Return how to read inputs tap by tap, from a copy with padding where there is any."""
    depth = int(packed.shape[3]) * plan.run
    source = _padded(data, g, depth, pad_value, plan.element)
    outputs = (g.batch, g.out_height, g.out_width)

    def read(position: Any, group: Any, taps: tuple[Any, ...], k: Any) -> Any:
        n, h, w = _unflatten(_within(position, math.prod(outputs), plan), outputs)
        row = h * g.stride[0] + taps[0] * g.dilation[0]
        column = w * g.stride[1] + taps[1] * g.dilation[1]
        return source(n, row, column, (group * depth if g.groups > 1 else 0) + k)

    return read


def _im2col(data: Any, packed: Any, g: Conv2dGeometry, plan: Int8Plan, pad_value: int) -> _Read:
    """Return how to read inputs from a copy of each position's window, row of the kernel after row.

    A window is not filled up to whole runs: what is read beyond its end belongs to the next one and meets weights of
    zero.
    """
    from tvm import te

    source = _padded(data, g, g.in_channels, pad_value, "int8")
    outputs = (g.batch, g.out_height, g.out_width)
    row_size = g.kernel[1] * g.in_channels
    size = g.kernel[0] * row_size
    reach = -(-int(packed.shape[3]) * plan.run // _VECTOR) * _VECTOR
    count = plan.whole(math.prod(outputs)) + -(-reach // size) - 1

    def copied(index: Any) -> Any:
        n, h, w = _unflatten(te.min(index // size, math.prod(outputs) - 1), outputs)
        row, k = h * g.stride[0] + index % size // row_size, index % row_size
        value = source(n, row, w * g.stride[1] + k // g.in_channels, k % g.in_channels)
        return value.astype(plan.element)

    windows = te.compute((count * size,), copied, name=IM2COL)
    return lambda position, group, taps, k: windows(position * size + k)


def _padded(data: Any, g: Conv2dGeometry, depth: int, pad_value: int, element: str) -> Callable[..., Any]:
    """Return how to read the input: itself, or a copy with its border, its channels rounded up group by group.

    A copy of all channels has rows of (column, channel) as one axis, which is copied in vectors from border to border.
    """
    from tvm import te, tirx

    top, left, bottom, right = g.padding
    if not g.is_padded and depth == g.group_in and element == "int8":
        return lambda n, h, w, c: data[n, h, w, c]
    channels = g.groups * depth

    def padded(n: Any, h: Any, x: Any) -> Any:
        c = x % channels
        channel = c // depth * g.group_in + c % depth if g.groups > 1 else c
        inside = [
            *([h >= top] if top else []),
            *([h < g.height + top] if bottom else []),
            *([x >= left * channels] if left else []),
            *([x < (g.width + left) * channels] if right else []),
            *([c % depth < g.group_in] if depth > g.group_in else []),
        ]
        value = data[n, h - top, x // channels - left, channel].astype(element)
        return te.if_then_else(te.all(*inside), value, tirx.const(pad_value, element)) if inside else value

    shape = (g.batch, g.height + top + bottom, (g.width + left + right) * channels)
    copy = te.compute(shape, padded, name=PADDED)
    return lambda n, h, w, c: copy[n, h, w * channels + c]


def _within(position: Any, positions: int, plan: Int8Plan) -> Any:
    """Return a position that exists: the last tile may reach beyond the end."""
    from tvm import te

    return position if positions % plan.positions == 0 else te.min(position, positions - 1)


def _unflatten(position: Any, extents: tuple[int, ...] | list[int]) -> tuple[Any, ...]:
    """Return the index of a flat position."""
    index = []
    for axis, extent in reversed(list(enumerate(extents))):
        index.append(position % extent if axis else position)
        position = position // extent
    return tuple(reversed(index))


def _contract(kind: str, plan: Int8Plan, macs: int, workload: str) -> Int8GemmContract:
    tile = (plan.positions, plan.channels)
    return Int8GemmContract(kind, plan.form, tile, plan.vectors, plan.partial, macs, workload)
