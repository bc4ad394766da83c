"""The transforms of Winograd's minimal filtering F(m x m, r x r).

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. A tile of m x m outputs needs
a = m + r - 1 rows and columns of input d; with the kernel g it is A^T ((G g G^T) * (B^T d B)) A, an element-wise
product of a x a values instead of r^2 m^2. B depends on a alone: polynomials are evaluated at 0, 1, -1 and infinity
(a = 4), and at 2 and -2 as well (a = 6). The one-dimensional transforms below are written with their common parts
shared.

A convolution of stride s is one of stride 1 on the s^2 phases of its input, taken as channels, with a kernel of
ceil(r / s) taps (``phase_kernel``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tvmbuild.schedules.packing import Array
from tvmbuild.schedules.partial_sums import MOST_TERMS

#: Output channels of which the error in float16 is measured; its sums are done one channel after the other.
_MEASURED = 32

#: Finite points at which polynomials are evaluated, and the factors of G's rows, by a.
_POINTS: Mapping[int, tuple[tuple[int, float], ...]] = {
    4: ((0, 1), (1, 1 / 2), (-1, 1 / 2)),
    6: ((0, 1 / 4), (1, -1 / 6), (-1, -1 / 6), (2, 1 / 24), (-2, 1 / 24)),
}


def phase_kernel(kernel: Array, stride: int) -> Array:
    """Return the kernel of the convolution of stride 1 that one of another stride is on its input's phases.

    Args:
        kernel: OIHW, square.
        stride: of both axes.

    Returns:
        Shape (out_channels, stride^2 in_channels, r, r), r = ceil(H / stride); channels are (row and column of the
        phase, channel), zeros where the kernel has no tap.
    """
    if stride == 1:
        return kernel
    out_channels, in_channels, size = kernel.shape[:3]
    taps = -(-size // stride)
    filled = np.zeros((out_channels, in_channels, taps * stride, taps * stride), kernel.dtype)
    filled[:, :, :size, :size] = kernel
    split = filled.reshape(out_channels, in_channels, taps, stride, taps, stride)
    phases: Array = split.transpose(0, 3, 5, 1, 2, 4).reshape(out_channels, -1, taps, taps)
    return phases


def transform_kernel(kernel: Array, m: int) -> Array:
    """Transform r x r kernels, in float64.

    Args:
        kernel: shape (..., r, r).
        m: outputs of a tile in a row.

    Returns:
        Shape (..., m + r - 1, m + r - 1), of the kernel's dtype.
    """
    taps = kernel.shape[-1]
    rows = [[factor * point**tap for tap in range(taps)] for point, factor in _POINTS[m + taps - 1]]
    g = np.array([*rows, [0] * (taps - 1) + [1]])
    return np.asarray(g @ kernel.astype(np.float64) @ g.T).astype(kernel.dtype)


def input_transform(d: Sequence[Any]) -> list[Any]:
    """Return B^T d for a = 4 or 6 values (arrays or TE expressions)."""
    if len(d) == 4:
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
    """Return A^T y, ``m`` values, for a = 4 or 6 values (arrays or TE expressions)."""
    near, near_difference = y[1] + y[2], y[1] - y[2]
    if len(y) == 4:
        values = [y[0] + near, near_difference, near][:m]
        return [*values[:-1], values[-1] - y[3]]
    far, far_difference = y[3] + y[4], y[3] - y[4]
    values = [
        (y[0] + near) + far,
        near_difference + far_difference * 2.0,
        near + far * 4.0,
        near_difference + far_difference * 8.0,
        near + far * 16.0,
    ][:m]
    return [*values[:-1], values[-1] + y[5]]


def pack_kernel(kernel: Array, m: int, block: int) -> Array:
    """Transform and pack weights.

    Args:
        kernel: OIHW with H = W = r.
        m: outputs of a tile in a row.
        block: output channels of a block.

    Returns:
        Shape ((m + r - 1)^2, ceil(out_channels / block), in_channels, block), zeros beyond the last channel.
    """
    out_channels, in_channels, taps = kernel.shape[:3]
    positions = (m + taps - 1) ** 2
    blocks = -(-out_channels // block)
    transformed = transform_kernel(kernel, m).reshape(out_channels, in_channels, positions)
    padded = np.zeros((blocks * block, in_channels, positions), kernel.dtype)
    padded[:out_channels] = transformed
    split = padded.reshape(blocks, block, in_channels, positions)
    return np.ascontiguousarray(split.transpose(3, 0, 2, 1))


def relative_error(kernel: Array, m: int, tiles: int = 4, seed: int = 0) -> float:
    """Measure what the kernel's dtype loses: the largest error of a few tiles, over the largest output.

    The inputs are standard normal; the reference is computed in float64 by the definition.

    Args:
        kernel: OIHW with H = W = r, float32 or float16; of the latter the first channels are measured.
        m: outputs of a tile in a row.
        tiles: tiles to try.
        seed: of the inputs.
    """
    taps = kernel.shape[-1]
    a, is_half = m + taps - 1, kernel.dtype == np.float16
    kernel = kernel[:_MEASURED] if is_half else kernel.astype(np.float32)
    data = np.random.default_rng(seed).standard_normal((tiles, kernel.shape[1], a, a)).astype(kernel.dtype)
    rows = np.stack(input_transform([data[..., i, :] for i in range(a)]), axis=-2)
    values = np.stack(input_transform([rows[..., j] for j in range(a)]), axis=-1)
    weights = transform_kernel(kernel, m)
    products = _half_products(values, weights) if is_half else np.einsum("tcij,ocij->toij", values, weights)
    columns = np.stack(output_transform([products[..., i, :] for i in range(a)], m), axis=-2)
    outputs = np.stack(output_transform([columns[..., j] for j in range(a)], m), axis=-1)
    exact = np.zeros(outputs.shape)
    for i in range(taps):
        for j in range(taps):
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
