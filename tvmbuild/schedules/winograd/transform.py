"""The transforms of Winograd's minimal filtering F(m x m, r x r).

Source: A. Lavin and S. Gray, "Fast Algorithms for Convolutional Neural Networks", 2015. A tile of m x m outputs needs
a = m + r - 1 rows and columns of input d; with the kernel g it is A^T ((G g G^T) * (B^T d B)) A, an element-wise
product of a x a values instead of r^2 m^2. B depends on a alone: polynomials are evaluated at infinity and the points
below. The one-dimensional transforms are written with their common parts shared.

A convolution of stride s is one of stride 1 on the s^2 phases of its input, taken as channels, with a kernel of
ceil(r / s) taps (``phase_kernel``). Of three taps and stride 2, one phase of a row has two taps and the other one:
filtered each by itself, m outputs take m + 1 and m products, not 2 m + 2 (J. Yepez and S.-B. Ko, "Stride 2 1-D, 2-D,
and 3-D Winograd for Convolutional Neural Networks", IEEE Transactions on VLSI Systems 28, 2020).
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvmbuild.schedules.gemm.packing import Array
from tvmbuild.schedules.gemm.partial_sums import MOST_TERMS

#: Output channels of which the error in float16 is measured; its sums are done one channel after the other.
_MEASURED = 32

#: Finite points at which polynomials are evaluated, and the factors of G's rows, by a.
_POINTS: Mapping[int, tuple[tuple[float, float], ...]] = {
    3: ((0, 1), (1, 1)),
    4: ((0, 1), (1, 1 / 2), (-1, 1 / 2)),
    5: ((0, -1 / 2), (1, -1 / 2), (-1, -1 / 6), (2, -1 / 6)),
    6: ((0, 1 / 4), (1, -1 / 6), (-1, -1 / 6), (2, 1 / 24), (-2, 1 / 24)),
    7: ((0, -1 / 2), (1, -1 / 3), (-1, 1 / 9), (2, 1 / 36), (-2, -1 / 60), (1 / 2, 32 / 45)),
}


@dataclass(frozen=True)
class Filtering:
    """Filtering of a row, by which both axes of a tile are filtered.

    Attributes:
        m: outputs.
        taps: taps of the kernel.
        stride: 1, or 2 with three taps.
    """

    m: int
    taps: int
    stride: int = 1

    @property
    def rows(self) -> int:
        """Inputs."""
        return (self.m - 1) * self.stride + self.taps

    @property
    def places(self) -> int:
        """Products."""
        return self.rows

    @property
    def weights(self) -> int:
        """Transformed weights; the last belongs to all places from its own on."""
        return self.places if self.stride == 1 else self.m + 2

    def inputs(self, d: Sequence[Any]) -> list[Any]:
        """Transform ``rows`` inputs (arrays or TE expressions) to ``places`` factors."""
        return _inputs(d) if self.stride == 1 else [*_inputs(d[::2]), *d[1::2]]

    def outputs(self, y: Sequence[Any]) -> list[Any]:
        """Transform ``places`` products (arrays or TE expressions) to ``m`` outputs."""
        if self.stride == 1:
            return _outputs(y, self.m)
        split = self.m + 1
        return [value + other for value, other in zip(_outputs(y[:split], self.m), y[split:], strict=True)]

    def matrix(self) -> Array:
        """Return the transform of the kernel, shape (weights, taps), float64."""
        if self.stride == 1:
            points = _POINTS[self.places]
            rows = [[factor * point**tap for tap in range(self.taps)] for point, factor in points]
            return np.array([*rows, [0.0] * (self.taps - 1) + [1.0]])
        matrix = np.zeros((self.weights, self.taps))
        matrix[:-1, ::2] = Filtering(self.m, 2).matrix()
        matrix[-1, 1] = 1
        return matrix


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


def transform_kernel(kernel: Array, filtering: Filtering) -> Array:
    """Transform kernels, in float64.

    Args:
        kernel: shape (..., taps, taps).
        filtering: of a row.

    Returns:
        Shape (..., weights, weights), of the kernel's dtype.
    """
    g = filtering.matrix()
    return np.asarray(g @ kernel.astype(np.float64) @ g.T).astype(kernel.dtype)


def _inputs(d: Sequence[Any]) -> list[Any]:
    """Return B^T d for a = 3 to 7 values."""
    if len(d) == 3:
        return [d[0] - d[1], d[1], d[2] - d[1]]
    if len(d) == 4:
        return [d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]]
    if len(d) in (5, 7):
        # A point p more multiplies the other points' polynomials by x - p; its own is the product of all others, which
        # was infinity's before.
        point = float(_POINTS[len(d)][-1][0])
        *finite, infinite = _inputs([after - before * point for before, after in itertools.pairwise(d)])
        return [*finite, _inputs(d[:-1])[-1], infinite]
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


def _outputs(y: Sequence[Any], m: int) -> list[Any]:
    """Return A^T y, ``m`` values, for a = 3 to 7 values."""
    if len(y) == 3:
        return [y[0] + y[1], y[1] + y[2]]
    values = _finite_outputs(y, m)
    return [*values[:-1], values[-1] - y[-1] if len(y) in (4, 5) else values[-1] + y[-1]]


def _finite_outputs(y: Sequence[Any], m: int) -> list[Any]:
    """Return ``m`` values of A^T y without what infinity adds to the last."""
    near, near_difference = y[1] + y[2], y[1] - y[2]
    if len(y) in (4, 5):
        values = [y[0] + near, near_difference, near, near_difference][:m]
    else:
        far, far_difference = y[3] + y[4], y[3] - y[4]
        values = [
            (y[0] + near) + far,
            near_difference + far_difference * 2.0,
            near + far * 4.0,
            near_difference + far_difference * 8.0,
            near + far * 16.0,
        ][:m]
    if len(y) in (5, 7):
        point = float(_POINTS[len(y)][-1][0])
        values = [value + y[-2] * point**power for power, value in enumerate(values)]
    return values


def pack_kernel(kernel: Array, filtering: Filtering, block: int) -> Array:
    """Transform and pack weights.

    Args:
        kernel: OIHW with H = W = taps.
        filtering: of a row.
        block: output channels of a block.

    Returns:
        Shape (weights^2, ceil(out_channels / block), in_channels, block), zeros beyond the last channel.
    """
    out_channels, in_channels = kernel.shape[:2]
    places = filtering.weights**2
    blocks = -(-out_channels // block)
    transformed = transform_kernel(kernel, filtering).reshape(out_channels, in_channels, places)
    padded = np.zeros((blocks * block, in_channels, places), kernel.dtype)
    padded[:out_channels] = transformed
    split = padded.reshape(blocks, block, in_channels, places)
    return np.ascontiguousarray(split.transpose(3, 0, 2, 1))


def relative_error(
    kernel: Array, filtering: Filtering, tiles: int = 4, seed: int = 0, *, half_weights: bool = False
) -> float:
    """Measure what the kernel's dtype loses: the largest error of a few tiles, over the largest output.

    The inputs are standard normal; the reference is computed in float64 by the definition.

    Args:
        kernel: OIHW with H = W = taps, float32 or float16; of the latter the first channels are measured.
        filtering: of a row.
        tiles: tiles to try.
        seed: of the inputs.
        half_weights: whether float32 weights are rounded to float16 when they are transformed.
    """
    f, is_half = filtering, kernel.dtype == np.float16
    kernel = kernel[:_MEASURED] if is_half else kernel.astype(np.float32)
    data = np.random.default_rng(seed).standard_normal((tiles, kernel.shape[1], f.rows, f.rows)).astype(kernel.dtype)
    half = np.stack(f.inputs([data[..., i, :] for i in range(f.rows)]), axis=-2)
    values = np.stack(f.inputs([half[..., j] for j in range(f.rows)]), axis=-1)
    place = np.minimum(np.arange(f.places), f.weights - 1)
    stored = transform_kernel(kernel, f)
    stored = stored.astype(np.float16).astype(np.float32) if half_weights else stored
    weights = stored[..., place[:, None], place]
    products = _half_products(values, weights) if is_half else np.einsum("tcij,ocij->toij", values, weights)
    columns = np.stack(f.outputs([products[..., i, :] for i in range(f.places)]), axis=-2)
    outputs = np.stack(f.outputs([columns[..., j] for j in range(f.places)]), axis=-1)
    exact = np.zeros(outputs.shape)
    reach = (f.m - 1) * f.stride + 1
    for i in range(f.taps):
        for j in range(f.taps):
            window = data[..., i : i + reach : f.stride, j : j + reach : f.stride].astype(np.float64)
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
