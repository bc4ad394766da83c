"""The transforms of Winograd's minimal filtering F(m x m, 3 x 3).

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. A tile of m x m outputs needs
a = m + 2 rows and columns of input d; with the kernel g it is A^T ((G g G^T) * (B^T d B)) A, an element-wise product
of a x a values instead of 9 m^2. The one-dimensional transforms below are written with their common parts shared.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tvmbuild.schedules.packing import Array
from tvmbuild.schedules.partial_sums import MOST_TERMS

#: Output channels of which the error in float16 is measured; its sums are done one channel after the other.
_MEASURED = 32

#: G by m.
_G: dict[int, list[list[float]]] = {
    2: [[1, 0, 0], [1 / 2, 1 / 2, 1 / 2], [1 / 2, -1 / 2, 1 / 2], [0, 0, 1]],
    4: [
        [1 / 4, 0, 0],
        [-1 / 6, -1 / 6, -1 / 6],
        [-1 / 6, 1 / 6, -1 / 6],
        [1 / 24, 1 / 12, 1 / 6],
        [1 / 24, -1 / 12, 1 / 6],
        [0, 0, 1],
    ],
}


def transform_kernel(kernel: Array, m: int) -> Array:
    """Transform 3x3 kernels, in float64.

    Args:
        kernel: shape (..., 3, 3).
        m: outputs of a tile in a row.

    Returns:
        Shape (..., m + 2, m + 2), of the kernel's dtype.
    """
    g = np.array(_G[m])
    return np.asarray(g @ kernel.astype(np.float64) @ g.T).astype(kernel.dtype)


def input_transform(d: Sequence[Any], m: int) -> list[Any]:
    """Return B^T d for ``m + 2`` values (arrays or TE expressions)."""
    if m == 2:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]
    even, odd = d[4] - d[2] * 4.0, d[3] - d[1] * 4.0
    difference, double = d[4] - d[2], (d[3] - d[1]) * 2.0
    return [
        (d[0] * 4.0 + d[4]) - d[2] * 5.0,
        even + odd,
        even - odd,
        difference + double,
        difference - double,
        (d[1] * 4.0 + d[5]) - d[3] * 5.0,
    ]


def output_transform(y: Sequence[Any], m: int) -> list[Any]:
    """Return A^T y, ``m`` values, for ``m + 2`` values (arrays or TE expressions)."""
    if m == 2:
        return [(y[0] + y[1]) + y[2], (y[1] - y[2]) - y[3]]
    near, near_difference = y[1] + y[2], y[1] - y[2]
    far, far_difference = y[3] + y[4], y[3] - y[4]
    return [
        (y[0] + near) + far,
        near_difference + far_difference * 2.0,
        near + far * 4.0,
        (near_difference + y[5]) + far_difference * 8.0,
    ]


def pack_kernel(kernel: Array, m: int, block: int) -> Array:
    """Transform and pack weights.

    Args:
        kernel: OIHW with H = W = 3.
        m: outputs of a tile in a row.
        block: output channels of a block.

    Returns:
        Shape ((m + 2)^2, ceil(out_channels / block), in_channels, block), zeros beyond the last channel.
    """
    out_channels, in_channels = kernel.shape[:2]
    blocks = -(-out_channels // block)
    transformed = transform_kernel(kernel, m).reshape(out_channels, in_channels, (m + 2) ** 2)
    padded = np.zeros((blocks * block, in_channels, (m + 2) ** 2), kernel.dtype)
    padded[:out_channels] = transformed
    split = padded.reshape(blocks, block, in_channels, (m + 2) ** 2)
    return np.ascontiguousarray(split.transpose(3, 0, 2, 1))


def relative_error(kernel: Array, m: int, tiles: int = 4, seed: int = 0) -> float:
    """Measure what the kernel's dtype loses: the largest error of a few tiles, over the largest output.

    The inputs are standard normal; the reference is computed in float64 by the definition.

    Args:
        kernel: OIHW with H = W = 3, float32 or float16; of the latter the first channels are measured.
        m: outputs of a tile in a row.
        tiles: tiles to try.
        seed: of the inputs.
    """
    a, is_half = m + 2, kernel.dtype == np.float16
    kernel = kernel[:_MEASURED] if is_half else kernel.astype(np.float32)
    data = np.random.default_rng(seed).standard_normal((tiles, kernel.shape[1], a, a)).astype(kernel.dtype)
    rows = np.stack(input_transform([data[..., i, :] for i in range(a)], m), axis=-2)
    values = np.stack(input_transform([rows[..., j] for j in range(a)], m), axis=-1)
    weights = transform_kernel(kernel, m)
    products = _half_products(values, weights) if is_half else np.einsum("tcij,ocij->toij", values, weights)
    columns = np.stack(output_transform([products[..., i, :] for i in range(a)], m), axis=-2)
    outputs = np.stack(output_transform([columns[..., j] for j in range(a)], m), axis=-1)
    exact = np.zeros(outputs.shape)
    for i in range(3):
        for j in range(3):
            window = data[..., i : i + m, j : j + m].astype(np.float64)
            exact += np.einsum("tcij,oc->toij", window, kernel[..., i, j].astype(np.float64))
    scale = float(np.abs(exact).max())
    return float(np.abs(outputs - exact).max()) / scale if scale else 0.0


def _half_products(values: Array, weights: Array) -> Array:
    """Sum products over the channels as the kernel does: fused multiply-adds in float16, in parts."""
    total = part = np.zeros((len(values), len(weights), *values.shape[2:]), np.float16)
    for channel in range(values.shape[1]):
        factor = values[:, None, channel].astype(np.float32)
        part = (part + factor * weights[None, :, channel].astype(np.float32)).astype(np.float16)
        if (channel + 1) % MOST_TERMS == 0:
            total, part = total + part, np.zeros_like(part)
    return np.asarray(total + part)
