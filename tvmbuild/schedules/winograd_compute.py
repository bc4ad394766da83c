"""The stages of a Winograd convolution: padded input, input transform, products, output transform.

Layouts are chosen so that what one step of a stage touches lies together: transformed inputs are
(image, tile, position, channel), products (image, tile, block, position, channel of the block), where *tile* counts
the tiles of outputs in row order and *position* the a^2 places in a transformed tile. Of a convolution with a stride
the padded input holds the phases as channels (see ``winograd_transform``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.kernel import PREFIX
from tvmbuild.schedules.selection import pick
from tvmbuild.schedules.transformed_plan import TransformedPlan
from tvmbuild.schedules.winograd_transform import input_transform, output_transform

#: Kind noted on the product stage.
KIND = "conv2d.winograd"


@dataclass(frozen=True)
class WinogradPlan(TransformedPlan):
    """How a Winograd convolution is cut.

    Attributes:
        m: outputs of a tile, in a row.
    """

    m: int


def conv2d(data: Any, packed: Any, geometry: Conv2dGeometry, plan: WinogradPlan) -> Any:
    """Compute a convolution with a square kernel and one stride for both axes.

    Args:
        data: ``te.Tensor`` NHWC.
        packed: from ``winograd_transform.pack_kernel``.
        geometry: the convolution.
        plan: the tiles.

    Returns:
        ``te.Tensor`` NHWC.
    """
    from tvm import te

    g, m, a = geometry, plan.m, plan.m + taps_of(geometry) - 1
    depth = depth_of(g)
    high, wide = -(-g.out_height // m), -(-g.out_width // m)
    last_tile = high * wide - 1
    source = _source(data, g, (high - 1) * m + a, (wide - 1) * m + a)
    channels = plan.tile.channels
    blocks = -(-g.out_channels // channels)

    def columns_first(n: Any, p: Any, i: Any, j: Any, c: Any) -> Any:
        tile = te.min(p, last_tile) if plan.tiles > last_tile + 1 else p
        row, column = te.indexdiv(tile, wide) * m, te.indexmod(tile, wide) * m
        return pick(i, input_transform([source[n, row + k, column + j, c] for k in range(a)]))

    half = te.compute((g.batch, plan.tiles, a, a, depth), columns_first, name="input_columns")
    inputs = te.compute(
        (g.batch, plan.tiles, a, a, depth),
        lambda n, p, i, j, c: pick(j, input_transform([half[n, p, i, k, c] for k in range(a)])),
        name="inputs",
    )
    ic = te.reduce_axis((0, depth), "ic")
    products = te.compute(
        (g.batch, plan.tiles, blocks, a * a, channels),
        lambda n, p, block, x, channel: te.sum(
            inputs[n, p, te.indexdiv(x, a), te.indexmod(x, a), ic] * packed[x, block, ic, channel], axis=[ic]
        ),
        name="tiled",
        attrs=_notes(g, plan),
    )

    def rows_first(n: Any, p: Any, i: Any, j: Any, c: Any) -> Any:
        block, channel = te.indexdiv(c, channels), te.indexmod(c, channels)
        return pick(i, output_transform([products[n, p, block, k * a + j, channel] for k in range(a)], m))

    outputs = te.compute((g.batch, plan.tiles, m, a, g.out_channels), rows_first, name="output_rows")

    def unpack(n: Any, h: Any, w: Any, c: Any) -> Any:
        tile = te.indexdiv(h, m) * wide + te.indexdiv(w, m)
        row = te.indexmod(h, m)
        return pick(te.indexmod(w, m), output_transform([outputs[n, tile, row, k, c] for k in range(a)], m))

    return te.compute((g.batch, g.out_height, g.out_width, g.out_channels), unpack, name="unpack")


def taps_of(geometry: Conv2dGeometry) -> int:
    """Return rows of the kernel on the input's phases."""
    return -(-geometry.kernel[0] // geometry.stride[0])


def depth_of(geometry: Conv2dGeometry) -> int:
    """Return input channels of all phases."""
    return geometry.stride[0] * geometry.stride[1] * geometry.in_channels


def _source(data: Any, g: Conv2dGeometry, height: int, width: int) -> Any:
    """Return the padded input of a height and width, with its phases as channels; the input itself if it is that."""
    from tvm import te, tirx

    top, left = g.padding[:2]
    step = g.stride[0]

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


def _notes(g: Conv2dGeometry, plan: WinogradPlan) -> dict[str, Any]:
    return {
        PREFIX + "kind": KIND,
        PREFIX + "tile": [plan.tile.columns, plan.tile.channels],
        PREFIX + "rows": [-(-g.out_height // plan.m), -(-g.out_width // plan.m)],
        PREFIX + "chunk": plan.chunk,
        PREFIX + "group": plan.group,
        PREFIX + "m": plan.m,
        PREFIX + "channels": g.out_channels,
        PREFIX + "macs": g.macs,
        PREFIX + "workload": g.workload,
        PREFIX + "geometry": g.numbers(),
    }
