"""Histograms of known distributions, exact but for rounding: counts from the distribution function, no sampling."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from tvmbuild.quantization.calibration.histogram import SIDE, Histogram

COUNT = 10**8
_Cdf = Callable[[np.ndarray], np.ndarray]


def _gaussian(x: np.ndarray) -> np.ndarray:
    return 0.5 * (1.0 + np.vectorize(math.erf)(x / math.sqrt(2.0)))


def _laplace(x: np.ndarray) -> np.ndarray:
    return np.where(x < 0, 0.5 * np.exp(np.minimum(x, 0)), 1.0 - 0.5 * np.exp(-np.maximum(x, 0)))


def _histogram(cdf: _Cdf, limit: float, low: float = -math.inf) -> Histogram:
    exponent = math.frexp(limit)[1] - (SIDE.bit_length() - 1)
    edges = np.ldexp(np.arange(-SIDE, SIDE + 1, dtype=np.float64), exponent)
    counts = np.rint(np.diff(cdf(np.clip(edges, max(low, -limit), limit))) * COUNT).astype(np.int64)
    used = np.flatnonzero(counts)
    return Histogram(exponent, counts, 0, min(float(edges[used[0]]), 0.0), float(edges[used[-1] + 1]))


def histogram(name: str) -> Histogram:
    """Return the histogram of a distribution of unit scale."""
    if name == "gaussian":
        return _histogram(_gaussian, 5.0)
    if name == "laplace":
        return _histogram(_laplace, 12.0)
    if name == "bimodal":
        return _histogram(lambda x: 0.5 * (_gaussian(x - 4.0) + _gaussian(x + 4.0)), 9.0)
    if name == "relu":
        made = _histogram(_gaussian, 5.0, low=0.0)
        made.zeros = COUNT // 2
        return made
    assert name == "outliers"
    made = _histogram(_gaussian, 16.0)
    for sign in (-1, 1):
        made.counts[SIDE + sign * int(15.0 / made.width)] += COUNT // 10**5
    made.low, made.high = -15.0, 15.0
    return made
