"""Depthwise convolution, NHWC: channels in vectors, a row of output columns in registers.

    for image, row:                                       # parallel
        for tile of columns, vector of channels:          # tiles at the borders and the last vector written out apart
            sums[column] = 0                              # in registers
            for kernel row inside the image:
                for kernel column, column:                # written out; taps in the padding are left out
                    sums[column] += x * weight
            for column: outputs = epilogue(sums[column])

One vector of channels of ``columns`` neighbouring outputs is accumulated in registers, so that an input loaded once
serves every output whose window holds it, and a weight serves all columns. Padding is not copied: see ``border``.
"""

from __future__ import annotations

import math
from typing import Any

from tvmbuild.schedules.contracts import DepthwiseContract, GuardMark
from tvmbuild.schedules.gemm.register_tile import vector_unit
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.kernel import Kernel
from tvmbuild.schedules.knob import Choice, Knob
from tvmbuild.schedules.schedule import Schedule, legalized_as
from tvmbuild.schedules.threads import thread_count
from tvmbuild.schedules.tir.border import mark_peel
from tvmbuild.target.target import Target

KIND = "depthwise"

#: Most columns of a tile: their accumulators, the inputs in flight and the weights of a row fit 32 registers.
MAX_COLUMNS = 8


def compute(data: Any, weight: Any, geometry: Conv2dGeometry) -> Any:
    """Compute a depthwise convolution of multiplier 1.

    Args:
        data: ``te.Tensor`` NHWC.
        weight: ``te.Tensor`` (kernel_h, kernel_w, channels).
        geometry: the convolution.

    Returns:
        ``te.Tensor`` NHWC.
    """
    from tvm import te, tirx

    g = geometry
    kh = te.reduce_axis((0, g.kernel[0]), "kh")
    kw = te.reduce_axis((0, g.kernel[1]), "kw")
    top, left, _, _ = g.padding

    def product(n: Any, h: Any, w: Any, c: Any) -> Any:
        row = h * g.stride[0] + kh * g.dilation[0] - top
        column = w * g.stride[1] + kw * g.dilation[1] - left
        value = data[n, row, column, c]
        inside = _inside(row, g.height, top, g.padding[2]) + _inside(column, g.width, left, g.padding[3])
        if inside:
            value = te.if_then_else(te.all(*inside), value, tirx.const(0, data.dtype))
        return te.sum(value * weight[kh, kw, c], axis=[kh, kw])

    notes = DepthwiseContract(KIND, g, g.macs, f"depthwise {g.workload}").to_notes()
    return te.compute((g.batch, g.out_height, g.out_width, g.out_channels), product, name="depthwise", attrs=notes)


def _inside(index: Any, extent: int, before: int, after: int) -> list[Any]:
    return ([index >= 0] if before else []) + ([index < extent] if after else [])


def knobs(kernel: Kernel, target: Target) -> tuple[Knob, ...]:
    """Return the columns of a tile, by default those with the fewest predicted cycles."""
    assert kernel.main is not None
    g = kernel.main.contract(DepthwiseContract).geometry
    candidates = tuple(range(1, min(MAX_COLUMNS, g.out_width) + 1))
    return (Knob("columns", min(candidates, key=lambda columns: (_row_cycles(g, columns), columns)), candidates),)


def row_cycles(geometry: Conv2dGeometry, target: Target, dtype: str = "float32") -> float:
    """Return predicted cycles of one row of the output, on one core."""
    widest = min(MAX_COLUMNS, geometry.out_width)
    vectors = -(-geometry.out_channels // channel_lanes(geometry.out_channels, target, dtype))
    cycles = min(_row_cycles(geometry, columns) for columns in range(1, widest + 1))
    return cycles * vectors / target.core.fma_per_cycle


def _row_cycles(g: Conv2dGeometry, columns: int) -> float:
    """Estimate the cycles of one row of one vector of channels: multiply-adds and loads issue side by side."""
    taps = math.prod(g.kernel)

    def tile(width: int) -> float:
        positions = {w * g.stride[1] + k * g.dilation[1] for w in range(width) for k in range(g.kernel[1])}
        loads = taps + len(positions) * g.kernel[0]
        # A third of the smaller is not hidden, and a tile costs some instructions of its own.
        work, other = max(width * taps, loads), min(width * taps, loads)
        return work + other / 3 + 4 + 2 * width

    whole, rest = divmod(g.out_width, columns)
    return whole * tile(columns) + (tile(rest) if rest else 0)


def channel_lanes(channels: int, target: Target, dtype: str = "float32") -> int:
    """Return the lanes of a vector of channels: a whole register, or less where that divides the channels."""
    native = vector_unit(target, dtype).lanes
    return next((lanes for lanes in (native, native // 2, native // 4) if lanes >= 4 and channels % lanes == 0), native)


def apply(sch: Any, kernel: Kernel, target: Target, choice: Choice) -> None:
    """Tile the columns and channels of the output and accumulate a tile in registers."""
    main = kernel.main
    assert main is not None
    g = main.contract(DepthwiseContract).geometry
    block = sch.get_sblock(main.name)
    for stage in kernel.epilogue[:-1]:
        sch.compute_inline(sch.get_sblock(stage.name))
    last = sch.get_sblock(kernel.last.name) if kernel.epilogue else sch.cache_write(block, 0, "global")
    if not kernel.epilogue:
        last, block = sch.get_sblock(str(sch.get(last).name_hint)), sch.get_sblock(main.name)
    columns, lanes = choice["columns"], channel_lanes(g.out_channels, target, main.writes[0].dtype)
    n, h, w, c = sch.get_loops(last)
    tile, column = sch.split(w, [None, columns])
    vector, lane = sch.split(c, [None, lanes])
    sch.reorder(n, h, tile, vector, column, lane)
    sch.compute_at(block, vector, preserve_unit_loops=True)
    *_, in_column, in_lane, kh, kw = sch.get_loops(block)
    sch.reorder(kh, kw, in_column, in_lane)
    for loop in (kw, in_column, column):
        sch.unroll(loop)
    sch.vectorize(in_lane)
    sch.vectorize(lane)
    rows = sch.fuse(n, h)
    if thread_count(g.macs / 2, target) > 1 and g.batch * g.out_height > 1:
        sch.parallel(rows)
    start = sch.decompose_reduction(block, kh)
    *_, start_column, start_lane = sch.get_loops(start)
    sch.unroll(start_column)
    sch.vectorize(start_lane)
    GuardMark().put(sch, block)
    mark_peel(sch, tile, *edge_tiles(g, columns))
    mark_peel(sch, vector, 0, int(g.out_channels % lanes != 0))


def edge_tiles(g: Conv2dGeometry, columns: int) -> tuple[int, int]:
    """Return how many tiles at each end of a row read padding or lie in part beyond the row."""
    tiles = -(-g.out_width // columns)
    left, reach = g.padding[1], (g.kernel[1] - 1) * g.dilation[1]
    first = -(-left // (columns * g.stride[1]))
    inside = 0
    for tile in range(tiles):
        end = (tile + 1) * columns - 1
        inside += int(end < g.out_width and end * g.stride[1] + reach - left < g.width)
    return min(first, tiles), tiles - inside


SCHEDULE = Schedule(KIND, legalized_as(KIND), knobs, apply)
