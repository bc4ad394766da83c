"""The stages of a Winograd convolution: padded input, input transform, products, output transform.

Layouts are chosen so that what one step of a stage touches lies together: transformed inputs are
(image, tile, position, channel), products (image, tile, block, position, channel of the block), where *tile* counts
the tiles of outputs in row order and *position* the places in a transformed tile. Where the phases of a convolution
with a stride are its channels the padded input holds them so (see ``winograd_transform``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.contracts import WinogradContract
from tvmbuild.schedules.gemm.transformed_plan import TransformedPlan
from tvmbuild.schedules.gemm.widening import widened
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.tir.selection import pick
from tvmbuild.schedules.winograd.transform import Filtering

#: Kind noted on the product stage.
KIND = "conv2d.winograd"


@dataclass(frozen=True)
class WinogradPlan(TransformedPlan):
    """How a Winograd convolution is cut.

    Attributes:
        m: outputs of a tile, in a row.
        phases: phases of a row that are taken as channels: 1, or the stride.
    """

    m: int
    phases: int = 1


def conv2d(data: Any, packed: Any, geometry: Conv2dGeometry, plan: WinogradPlan) -> Any:
    """Compute a convolution with a square kernel and one stride for both axes.

    Args:
        data: ``te.Tensor`` NHWC.
        packed: from ``winograd_transform.pack_kernel``; float16 ones are widened where ``data`` is float32.
        geometry: the convolution.
        plan: the tiles.

    Returns:
        ``te.Tensor`` NHWC.
    """
    from tvm import te

    g, m = geometry, plan.m
    filtering = filtering_of(g, m, plan.phases)
    rows, places, step = filtering.rows, filtering.places, filtering.stride * m
    depth = depth_of(g, plan.phases)
    high, wide = -(-g.out_height // m), -(-g.out_width // m)
    last_tile = high * wide - 1
    source = _source(data, g, plan.phases, ((high - 1) * step + rows, (wide - 1) * step + rows))
    channels = plan.tile.channels
    blocks = -(-g.out_channels // channels)

    def columns_first(n: Any, p: Any, i: Any, j: Any, c: Any) -> Any:
        tile = te.min(p, last_tile) if plan.tiles > last_tile + 1 else p
        row, column = te.indexdiv(tile, wide) * step, te.indexmod(tile, wide) * step
        return pick(i, filtering.inputs([source[n, row + k, column + j, c] for k in range(rows)]))

    half = te.compute((g.batch, plan.tiles, places, rows, depth), columns_first, name="input_columns")
    inputs = te.compute(
        (g.batch, plan.tiles, places, places, depth),
        lambda n, p, i, j, c: pick(j, filtering.inputs([half[n, p, i, k, c] for k in range(rows)])),
        name="inputs",
    )
    weights = widened(packed, data.dtype)
    ic = te.reduce_axis((0, depth), "ic")

    def product(n: Any, p: Any, block: Any, x: Any, channel: Any) -> Any:
        i, j = te.indexdiv(x, places), te.indexmod(x, places)
        return te.sum(inputs[n, p, i, j, ic] * weights[_weight(filtering, i, j), block, ic, channel], axis=[ic])

    products = te.compute(
        (g.batch, plan.tiles, blocks, places * places, channels),
        product,
        name="tiled",
        attrs=_contract(g, plan).to_notes(),
    )

    def rows_first(n: Any, p: Any, i: Any, j: Any, c: Any) -> Any:
        block, channel = te.indexdiv(c, channels), te.indexmod(c, channels)
        values = [products[n, p, block, k * places + j, channel] for k in range(places)]
        return pick(i, filtering.outputs(values))

    outputs = te.compute((g.batch, plan.tiles, m, places, g.out_channels), rows_first, name="output_rows")

    def unpack(n: Any, h: Any, w: Any, c: Any) -> Any:
        tile = te.indexdiv(h, m) * wide + te.indexdiv(w, m)
        row = te.indexmod(h, m)
        return pick(te.indexmod(w, m), filtering.outputs([outputs[n, tile, row, k, c] for k in range(places)]))

    return te.compute((g.batch, g.out_height, g.out_width, g.out_channels), unpack, name="unpack")


def filtering_of(geometry: Conv2dGeometry, m: int, phases: int) -> Filtering:
    """Return the filtering of a row by tiles of m outputs."""
    return Filtering(m, -(-geometry.kernel[0] // phases), geometry.stride[0] // phases)


def depth_of(geometry: Conv2dGeometry, phases: int) -> int:
    """Return input channels, with those of the phases that are taken as channels."""
    return phases * phases * geometry.in_channels


def _weight(filtering: Filtering, i: Any, j: Any) -> Any:
    """Return which transformed weights belong to a place."""
    from tvm import te

    last = filtering.weights - 1
    if last < filtering.places - 1:
        i, j = te.min(i, last), te.min(j, last)
    return i * filtering.weights + j


def _source(data: Any, g: Conv2dGeometry, step: int, extents: tuple[int, int]) -> Any:
    """Return the padded input of a height and width, with ``step`` phases of a row and as many of a column as channels.

    Where that is the input itself, return that.
    """
    from tvm import te, tirx

    height, width = extents
    top, left = g.padding[:2]

    def padded(n: Any, h: Any, w: Any, c: Any) -> Any:
        inside = te.all(h >= top, h < g.height + top, w >= left, w < g.width + left)
        return te.if_then_else(inside, data[n, h - top, w - left, c], tirx.const(0, data.dtype))

    if step == 1:
        if (top, left) == (0, 0) and height <= g.height and width <= g.width:
            return data
        return te.compute((g.batch, height, width, g.in_channels), padded, name="padded")
    phases = te.compute(
        (g.batch, height, width, step, step, g.in_channels),
        lambda n, h, w, i, j, c: padded(n, h * step + i, w * step + j, c),
        name="padded",
    )
    channels = g.in_channels

    def flat(n: Any, h: Any, w: Any, k: Any) -> Any:
        phase = te.indexdiv(k, channels)
        return phases[n, h, w, te.indexdiv(phase, step), te.indexmod(phase, step), te.indexmod(k, channels)]

    return _View(flat)


@dataclass(frozen=True)
class _View:
    """A tensor by its elements, as ``te.Tensor`` is indexed."""

    element: Callable[..., Any]

    def __getitem__(self, indices: tuple[Any, ...]) -> Any:
        return self.element(*indices)


def _contract(g: Conv2dGeometry, plan: WinogradPlan) -> WinogradContract:
    return WinogradContract(
        kind=KIND,
        tile=(plan.tile.columns, plan.tile.channels),
        rows=(-(-g.out_height // plan.m), -(-g.out_width // plan.m)),
        chunk=plan.chunk,
        group=plan.group,
        m=plan.m,
        channels=g.out_channels,
        macs=g.macs,
        workload=g.workload,
        geometry=g,
    )
