"""Depthwise convolution of int8, NHWC: channels in vectors, a row of output columns in registers.

    for image, row:                                       # parallel
        for tile of columns, vector of channels:          # the last vector apart, where it is not full
            sums[column] = 0                              # int32, in registers
            for pair of taps, column:                     # written out; of large kernels row by row
                sums[column] += widen(x * weight + next x * next weight)
            for column: outputs = requantize(sums[column])

The inputs are read from a copy with the padding, which for bytes is cheap, with the channels rounded up to whole
vectors and repeated where each has several outputs. Two products of bytes fit 16 bits, so the taps are added up in
pairs before they are widened: a pair of 8 channels takes four instructions (SMULL, SMLAL, SADDW, SADDW2).
"""

from __future__ import annotations

import math
from typing import Any

from tvmbuild.schedules.contracts import Int8DepthwiseContract
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.int8 import taps as int8_taps
from tvmbuild.schedules.kernel import Kernel
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.loops.injective import schedule_block
from tvmbuild.schedules.schedule import Schedule, legalized_as
from tvmbuild.schedules.threads import thread_count
from tvmbuild.schedules.tir.border import mark_peel
from tvmbuild.target.target import Target

KIND = "depthwise.int8"

#: Most columns of a tile.
_MAX_COLUMNS = 8

#: Taps that are written out together, at most.
_MAX_TAPS = 25


def lanes_of(channels: int) -> int:
    """Return the channels of a vector: 16 bytes, or 8 where 16 would leave more of them empty."""
    return 16 if -(-channels // 16) * 16 == -(-channels // 8) * 8 else 8


def compute(data: Any, weight: Any, geometry: Conv2dGeometry, pad_value: int, pairs: bool) -> Any:
    """Compute a depthwise convolution of int8 to int32.

    Args:
        data: ``te.Tensor`` NHWC, int8.
        weight: ``te.Tensor`` (kernel_h, kernel_w, vectors, lanes), zeros beyond the last channel.
        geometry: the convolution; its groups are its input channels.
        pad_value: what stands outside the image, the zero point of the inputs.
        pairs: whether two products always fit 16 bits, as they do unless a weight is -128.

    Returns:
        ``te.Tensor`` NHWC, int32.
    """
    from tvm import te

    g = geometry
    _, _, vectors, lanes = (int(extent) for extent in weight.shape)
    width = -(-g.out_width // _columns(g)) * _columns(g)
    source = _padded(data, g, vectors * lanes, width, pad_value)
    kh = te.reduce_axis((0, g.kernel[0]), "kh")
    kw = te.reduce_axis((0, g.kernel[1]), "kw")

    def product(n: Any, h: Any, w: Any, vector: Any, lane: Any) -> Any:
        row = h * g.stride[0] + kh * g.dilation[0]
        column = w * g.stride[1] + kw * g.dilation[1]
        value = source(n, row, column, vector * lanes + lane).astype("int32")
        return te.sum(value * weight[kh, kw, vector, lane].astype("int32"), axis=[kh, kw])

    notes = Int8DepthwiseContract(KIND, g, g.macs, f"depthwise {g.workload} int8", pairs).to_notes()
    sums = te.compute((g.batch, g.out_height, width, vectors, lanes), product, name="depthwise", attrs=notes)
    return te.compute(
        (g.batch, g.out_height, g.out_width, g.out_channels),
        lambda n, h, w, c: sums[n, h, w, c // lanes, c % lanes],
        name="unpack",
    )


def _padded(data: Any, g: Conv2dGeometry, channels: int, width: int, pad_value: int) -> Any:
    """Return the input with what whole tiles read around it; the input itself when that is nothing."""
    from tvm import te, tirx

    top, left, bottom, right = g.padding
    reach = max((width - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1, g.width + left + right)
    if not g.is_padded and reach == g.width and channels == g.in_channels:
        return data

    def padded(n: Any, h: Any, w: Any, c: Any) -> Any:
        inside = [
            *([h >= top] if top else []),
            *([h < g.height + top] if bottom else []),
            *([w >= left] if left else []),
            *([w < g.width + left] if reach > g.width + left else []),
            *([c < g.out_channels] if channels > g.out_channels else []),
        ]
        value = data[n, h - top, w - left, c // g.group_out]
        return te.if_then_else(te.all(*inside), value, tirx.const(pad_value, data.dtype)) if inside else value

    return te.compute((g.batch, g.height + top + bottom, reach, channels), padded, name="padded")


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the columns of a tile, by default as many as registers hold."""
    assert kernel.main is not None
    width = kernel.main.spatial[2]
    g = kernel.main.contract(Int8DepthwiseContract).geometry
    candidates = tuple(count for count in range(1, _MAX_COLUMNS + 1) if width % count == 0)
    return (Knob("columns", _columns(g), candidates),)


def _columns(g: Conv2dGeometry) -> int:
    """Return the columns of a tile: their sums take a vector of int32 for every four channels."""
    lanes = lanes_of(g.out_channels)
    most = min(64 // lanes, g.out_width)
    return min(range(1, most + 1), key=lambda count: (-(-g.out_width // count) * (count + 1), -count))


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Tile the columns and channels of the output and accumulate a tile in registers."""
    main = kernel.main
    assert main is not None
    contract = main.contract(Int8DepthwiseContract)
    g = contract.geometry
    for stage in kernel.producers:
        schedule_block(sch, stage.name, target, 1)
    for stage in kernel.epilogue[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    block, last = sch.get_sblock(main.name), sch.get_sblock(kernel.last.name)
    lanes = main.spatial[-1]
    n, h, w, vector, lane, kh, kw = sch.get_loops(block)
    tile, column = sch.split(w, [None, choice["columns"]])
    sch.reorder(n, h, tile, vector, kh, kw, column, lane)
    rows = sch.fuse(n, h)
    if thread_count(g.macs / 6, target) > 1 and g.batch * g.out_height > 1:
        sch.parallel(rows)
    sch.reverse_compute_at(last, vector, preserve_unit_loops=True)
    *_, out_column, out_channel = sch.get_loops(last)
    sch.unroll(out_column)
    sch.vectorize(out_channel)
    all_taps = math.prod(g.kernel) <= _MAX_TAPS
    start = sch.decompose_reduction(block, kh)
    int8_taps.mark(sch, kh if all_taps else kw, contract.pairs)
    *_, start_column, start_lane = sch.get_loops(start)
    sch.unroll(start_column)
    sch.vectorize(start_lane)
    mark_peel(sch, vector, 0, int(g.out_channels % lanes != 0))


SCHEDULE = Schedule(KIND, legalized_as(KIND), knobs, apply)
