"""Computes of matrix-product form, shaped for the register-tiled schedule.

Each ends in two stages. The *tiled* stage has the axes (leading..., column, block, channel) and computes whole tiles,
also beyond the output's edge, so that its loops carry no condition; its reduction axes end with the one that both
factors hold contiguously. The *unpack* stage writes the outputs that exist, in the operator's layout, and takes every
fused operator with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.contracts import GemmContract
from tvmbuild.schedules.gemm.register_tile import RegisterTile
from tvmbuild.schedules.gemm.widening import widened
from tvmbuild.schedules.geometry import Conv2dGeometry

#: Kinds noted on the tiled stage.
CONV2D = "conv2d.direct"
MATMUL = "matmul"


@dataclass(frozen=True)
class TilePlan:
    """How a compute is cut into tiles.

    Attributes:
        tile: outputs kept in registers.
        columns: positions of a row of tiles, rounded up to whole tiles.
        lane_step: reduction indices unrolled together.
        by_vector: whether each column's inputs of a step are loaded as one vector.
        channels: channels of the padded input, where they are rounded up to make whole vectors.
    """

    tile: RegisterTile
    columns: int
    lane_step: int
    by_vector: bool
    channels: int


def conv2d(data: Any, packed: Any, geometry: Conv2dGeometry, plan: TilePlan) -> Any:
    """Compute a convolution by its definition.

    Args:
        data: ``te.Tensor`` NHWC.
        packed: weights from ``packing.pack_conv2d``, shape (blocks, kernel_h, kernel_w, depth, channels of a tile),
            where depth may be the group's input channels rounded up; float16 ones are widened where ``data`` is
            float32.
        geometry: the convolution.
        plan: the tiles.

    Returns:
        ``te.Tensor`` NHWC.
    """
    from tvm import te

    g = geometry
    depth = int(packed.shape[3])
    channels = plan.tile.channels
    blocks = -(-g.group_out // channels)
    source = _padded_input(data, g, plan)
    weights = widened(packed, data.dtype)
    kh = te.reduce_axis((0, g.kernel[0]), "kh")
    kw = te.reduce_axis((0, g.kernel[1]), "kw")
    ic = te.reduce_axis((0, depth), "ic")

    def tiled(n: Any, h: Any, w: Any, block: Any, channel: Any) -> Any:
        row = h * g.stride[0] + kh * g.dilation[0]
        column = w * g.stride[1] + kw * g.dilation[1]
        first = (block // blocks) * g.group_in if g.groups > 1 else 0
        return te.sum(source[n, row, column, first + ic] * weights[block, kh, kw, ic, channel], axis=[kh, kw, ic])

    products = te.compute(
        (g.batch, g.out_height, plan.columns, g.groups * blocks, channels),
        tiled,
        name="tiled",
        attrs=_contract(CONV2D, plan, g.macs, g.workload, g).to_notes(),
    )

    def unpack(n: Any, h: Any, w: Any, c: Any) -> Any:
        within = c % g.group_out if g.groups > 1 else c
        block = c // g.group_out * blocks + within // channels if g.groups > 1 else c // channels
        return products[n, h, w, block, within % channels]

    return te.compute((g.batch, g.out_height, g.out_width, g.out_channels), unpack, name="unpack")


def matmul(left: Any, packed: Any, columns: int, plan: TilePlan, workload: str) -> Any:
    """Compute a matrix product (leading..., rows, depth) x (depth, columns).

    Args:
        left: ``te.Tensor`` (leading..., rows, depth).
        packed: right factor from ``packing.pack_matrix``, shape (blocks, depth, channels of a tile), with the leading
            axes of ``left`` in front when it differs between them; float16 as of ``conv2d``.
        columns: columns of the product (the tiles' channels).
        plan: the tiles; its ``columns`` are the product's rows, rounded up.
        workload: one line for people.

    Returns:
        ``te.Tensor`` (leading..., rows, columns).
    """
    from tvm import te

    *leading, rows, depth = (int(extent) for extent in left.shape)
    channels = plan.tile.channels
    batched = len(packed.shape) > 3
    blocks = int(packed.shape[-3])
    source = left
    if plan.columns != rows:
        source = te.compute(
            (*leading, plan.columns, depth),
            lambda *i: te.if_then_else(i[-2] < rows, left(*i), _zero(left)),
            name="padded",
        )
    weights = widened(packed, left.dtype)
    k = te.reduce_axis((0, depth), "k")

    def tiled(*index: Any) -> Any:
        *outer, row, block, channel = index
        weight = weights(*(outer if batched else ()), block, k, channel)
        return te.sum(source(*outer, row, k) * weight, axis=[k])

    macs = rows * depth * columns
    for extent in leading:
        macs *= extent
    shape = (*leading, plan.columns, blocks, channels)
    notes = _contract(MATMUL, plan, macs, workload).to_notes()
    products = te.compute(shape, tiled, name="tiled", attrs=notes)

    def unpack(*index: Any) -> Any:
        *outer, column = index
        return products(*outer, column // channels, column % channels)

    return te.compute((*leading, rows, columns), unpack, name="unpack")


def pack_right(right: Any, channels: int) -> Any:
    """Pack a right factor that is known only at run time: (leading..., depth, columns) to blocks of columns.

    Returns:
        ``te.Tensor`` (leading..., ceil(columns / channels), depth, channels), zeros beyond the last column.
    """
    from tvm import te

    *leading, depth, columns = (int(extent) for extent in right.shape)
    blocks = -(-columns // channels)

    def packed(*index: Any) -> Any:
        *outer, block, k, channel = index
        column = block * channels + channel
        if columns % channels == 0:
            return right(*outer, k, column)
        return te.if_then_else(column < columns, right(*outer, k, column), _zero(right))

    return te.compute((*leading, blocks, depth, channels), packed, name="pack")


def _padded_input(data: Any, g: Conv2dGeometry, plan: TilePlan) -> Any:
    """Return the input with its padding and what whole tiles read beyond it; the input itself when both are none."""
    from tvm import te

    top, left, bottom, _ = g.padding
    reach = (plan.columns - 1) * g.stride[1] + (g.kernel[1] - 1) * g.dilation[1] + 1
    height = g.height + top + bottom
    width = max(reach, g.width + left)
    channels = plan.channels if g.groups == 1 else g.in_channels
    if not g.is_padded and reach <= g.width and channels == g.in_channels:
        return data

    def padded(n: Any, h: Any, w: Any, c: Any) -> Any:
        inside = []
        if top:
            inside.append(h >= top)
        if bottom:
            inside.append(h < g.height + top)
        if left:
            inside.append(w >= left)
        if width > g.width + left:
            inside.append(w < g.width + left)
        if channels > g.in_channels:
            inside.append(c < g.in_channels)
        value = data[n, h - top, w - left, c]
        return te.if_then_else(te.all(*inside), value, _zero(data)) if inside else value

    return te.compute((g.batch, height, width, channels), padded, name="padded")


def _contract(
    kind: str, plan: TilePlan, macs: int, workload: str, geometry: Conv2dGeometry | None = None
) -> GemmContract:
    tile = (plan.tile.columns, plan.tile.channels)
    return GemmContract(kind, tile, plan.lane_step, plan.by_vector, macs, workload, geometry)


def _zero(tensor: Any) -> Any:
    from tvm import tirx

    return tirx.const(0, tensor.dtype)
