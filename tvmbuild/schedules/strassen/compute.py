"""A 1x1 convolution as a product of matrices by one level of Strassen's algorithm: seven products of halves, not eight.

Source: V. Strassen, "Gaussian Elimination is not Optimal", 1969, in S. Winograd's form with 15 additions (N. J. Higham,
"Accuracy and Stability of Numerical Algorithms", 2002, section 23.1). The left matrix has the output's positions as
rows and the input channels as columns; its rows are halved by pairing neighbours (the positions 2p and 2p + 1), its
columns into the first and last channels. The columns of the right matrix, the weights, are halved by vectors of
channels, of even and of odd number, so that what belongs together lies together; it is transformed when the model is
built.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvmbuild.schedules.contracts import StrassenContract
from tvmbuild.schedules.gemm.packing import Array, pack_matrix
from tvmbuild.schedules.gemm.transformed_plan import TransformedPlan
from tvmbuild.schedules.gemm.widening import widened
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.tir.selection import pick

#: Kind noted on the product stage.
KIND = "conv2d.strassen"

#: Products of quarters.
PRODUCTS = 7


@dataclass(frozen=True)
class StrassenPlan(TransformedPlan):
    """How a convolution by Strassen's algorithm is cut; a tile of outputs is a pair of positions.

    Attributes:
        lanes: channels of a vector, by which the output channels are halved.
    """

    lanes: int


def conv2d(data: Any, packed: Any, geometry: Conv2dGeometry, plan: StrassenPlan) -> Any:
    """Compute a 1x1 convolution without padding.

    Args:
        data: ``te.Tensor`` NHWC, an even number of channels.
        packed: from ``pack_kernel``; float16 ones are widened where ``data`` is float32.
        geometry: the convolution, with an even number of output channels.
        plan: the tiles.

    Returns:
        ``te.Tensor`` NHWC.
    """
    from tvm import te

    g = geometry
    count = g.out_height * g.out_width
    depth, lanes, channels = g.in_channels // 2, plan.lanes, plan.tile.channels
    blocks = -(-g.out_channels // 2 // channels)

    def transformed(n: Any, p: Any, x: Any, k: Any) -> Any:
        def value(half: int, side: int) -> Any:
            position = te.min(p * 2 + half, count - 1) if plan.tiles * 2 > count else p * 2 + half
            row, column = te.indexdiv(position, g.out_width), te.indexmod(position, g.out_width)
            return data[n, row * g.stride[0], column * g.stride[1], side * depth + k]

        return pick(x, transform_left([[value(half, side) for side in (0, 1)] for half in (0, 1)]))

    inputs = te.compute((g.batch, plan.tiles, PRODUCTS, depth), transformed, name="inputs")
    weights = widened(packed, data.dtype)
    ic = te.reduce_axis((0, depth), "ic")
    products = te.compute(
        (g.batch, plan.tiles, blocks, PRODUCTS, channels),
        lambda n, p, block, x, channel: te.sum(inputs[n, p, x, ic] * weights[x, block, ic, channel], axis=[ic]),
        name="tiled",
        attrs=_contract(g, plan).to_notes(),
    )

    def unpack(n: Any, h: Any, w: Any, c: Any) -> Any:
        position = h * g.out_width + w
        block = te.indexdiv(c, 2 * channels)
        vector = te.indexmod(te.indexdiv(c, 2 * lanes), channels // lanes)
        channel = vector * lanes + te.indexmod(c, lanes)
        values = [products[n, te.indexdiv(position, 2), block, x, channel] for x in range(PRODUCTS)]
        return pick(te.indexmod(position, 2) * 2 + te.indexmod(te.indexdiv(c, lanes), 2), transform_back(values))

    return te.compute((g.batch, g.out_height, g.out_width, g.out_channels), unpack, name="unpack")


def pair_rows(geometry: Conv2dGeometry) -> tuple[int, int]:
    """Return in how many rows of how many pairs the positions fall: pairs never span two rows, but for a single one."""
    height, width = geometry.out_height, geometry.out_width
    if width % 2 == 0:
        return height, width // 2
    return (height // 2, width) if height % 2 == 0 else (1, -(-height * width // 2))


def transform_left(a: Sequence[Sequence[Any]]) -> list[Any]:
    """Return the left factors of the seven products from the quarters of the left matrix."""
    s1 = a[1][0] + a[1][1]
    s2 = s1 - a[0][0]
    return [a[0][0], a[0][1], a[0][1] - s2, a[1][1], s1, s2, a[0][0] - a[1][0]]


def transform_right(b: Sequence[Sequence[Array]]) -> list[Array]:
    """Return the right factors of the seven products from the quarters of the right matrix."""
    t1 = b[0][1] - b[0][0]
    t2 = b[1][1] - t1
    return [b[0][0], b[1][0], b[1][1], t2 - b[1][0], t1, t2, b[1][1] - b[0][1]]


def transform_back(p: Sequence[Any]) -> list[Any]:
    """Return the quarters of the result, row by row, from the seven products."""
    u2 = p[0] + p[5]
    u3 = u2 + p[6]
    return [p[0] + p[1], (u2 + p[4]) + p[2], u3 - p[3], u3 + p[4]]


def pack_kernel(kernel: Array, block: int, lanes: int) -> Array:
    """Transform and pack weights.

    Args:
        kernel: OIHW with H = W = 1, O and I even.
        block: output channels of a block.
        lanes: channels of a vector; of the output channels, vectors of even number are one half.

    Returns:
        Shape (7, ceil(out_channels / 2 / block), in_channels / 2, block), zeros beyond the last channel.
    """
    matrix = kernel[:, :, 0, 0].T.astype(np.float64)
    vectors = matrix.reshape(len(matrix), -1, 2, lanes)
    halves = vectors.transpose(0, 2, 1, 3).reshape(matrix.shape)
    factors = transform_right(_quarters(halves))
    return np.stack([pack_matrix(factor.astype(kernel.dtype), block) for factor in factors])


def relative_error(kernel: Array, rows: int = 8, seed: int = 0, *, half_weights: bool = False) -> float:
    """Measure what the kernel's dtype loses: the largest error of a few rows, over the largest output.

    The inputs are standard normal; the reference is computed in float64.

    Args:
        kernel: OIHW with H = W = 1, O and I even.
        rows: positions to try, even.
        seed: of the inputs.
        half_weights: whether float32 weights are rounded to float16 when they are transformed.
    """
    stored = np.dtype(np.float16) if half_weights else kernel.dtype
    matrix = kernel[:, :, 0, 0].T
    left = np.random.default_rng(seed).standard_normal((rows, len(matrix))).astype(kernel.dtype)
    exact = left.astype(np.float64) @ matrix.astype(np.float64)
    factors = transform_right(_quarters(matrix.astype(np.float64)))
    rights = (factor.astype(stored).astype(kernel.dtype) for factor in factors)
    pairs = zip(transform_left(_quarters(left)), rights, strict=True)
    quarters = transform_back([a @ b for a, b in pairs])
    result = np.block([quarters[:2], quarters[2:]])
    scale = float(np.abs(exact).max())
    return float(np.abs(result - exact).max()) / scale if scale else 0.0


def _quarters(matrix: Array) -> list[list[Array]]:
    return [np.split(half, 2, axis=1) for half in np.split(matrix, 2)]


def _contract(g: Conv2dGeometry, plan: StrassenPlan) -> StrassenContract:
    return StrassenContract(
        kind=KIND,
        tile=(plan.tile.columns, plan.tile.channels),
        rows=pair_rows(g),
        chunk=plan.chunk,
        group=plan.group,
        lanes=plan.lanes,
        channels=g.out_channels // 2,
        macs=g.macs,
        workload=g.workload,
        geometry=g,
    )
