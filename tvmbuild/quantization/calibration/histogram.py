"""Histograms whose bins grow: one pass over the samples, the same counts in whatever order they come.

The width of a bin is a power of two, and bin k holds the values in [k w, (k + 1) w). When a value lies outside, the
width doubles and neighbours merge in pairs, which is exact since the bins nest. The final width depends on the largest
magnitude alone and the counts are integers, so neither the order of the samples nor the number of threads shows.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field

import numpy as np

#: Bins on each side of zero. More than half of those of the longer side are in use: over 2048.
SIDE = 4096
#: Elements that are binned at a time, so that the intermediate arrays stay in the cache.
_BLOCK = 1 << 16
#: The smallest exponent of a bin's width; float32 has nothing finer.
_LOWEST_EXPONENT = -149


@dataclass
class Histogram:
    """Counts of one tensor's values.

    Attributes:
        exponent: a bin is 2**exponent wide.
        counts: int64[2 * SIDE]; bin k at SIDE + k. Zeros are not in it.
        zeros: number of elements that are exactly zero.
        low: smallest value, inf when nothing was added.
        high: largest value, -inf likewise.
    """

    exponent: int = _LOWEST_EXPONENT
    counts: np.ndarray = field(default_factory=lambda: np.zeros(2 * SIDE, np.int64))
    zeros: int = 0
    low: float = math.inf
    high: float = -math.inf
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False, compare=False)

    @property
    def width(self) -> float:
        """Return the width of a bin."""
        return math.ldexp(1.0, self.exponent)

    @property
    def total(self) -> int:
        """Return the number of elements, zeros among them."""
        return int(self.counts.sum()) + self.zeros

    def centres(self) -> np.ndarray:
        """Return the middle of every bin, float64[2 * SIDE]."""
        return (np.arange(-SIDE, SIDE) + 0.5) * self.width

    def add(self, array: np.ndarray) -> bool:
        """Count the elements of a float array; safe to call from several threads.

        Returns:
            False, and nothing is counted, when one is NaN or infinite.
        """
        values = np.ascontiguousarray(array, dtype=np.float32).reshape(-1)
        if not values.size:
            return True
        low, high = float(values.min()), float(values.max())
        if not (math.isfinite(low) and math.isfinite(high)):
            return False
        exponent = _exponent(max(-low, high))
        with self._lock:
            exponent = max(exponent, self.exponent)
        counts, zeros = _count(values, exponent)
        with self._lock:
            self._merge(exponent, counts, zeros)
            self.low, self.high = min(self.low, low), max(self.high, high)
        return True

    def _merge(self, exponent: int, counts: np.ndarray, zeros: int) -> None:
        common = max(exponent, self.exponent)
        self.counts = _widened(self.counts, common - self.exponent) + _widened(counts, common - exponent)
        self.exponent = common
        self.zeros += zeros


def _exponent(largest: float) -> int:
    """Return the smallest exponent whose bins reach beyond ``largest`` on both sides."""
    if largest <= 0.0:
        return _LOWEST_EXPONENT
    # frexp: largest = m 2**e with m < 1, so that largest < 2**e = SIDE * 2**(e - log2(SIDE)).
    return max(math.frexp(largest)[1] - (SIDE.bit_length() - 1), _LOWEST_EXPONENT)


def _count(values: np.ndarray, exponent: int) -> tuple[np.ndarray, int]:
    """Count values into bins; multiplying by a power of two and flooring are exact in float32."""
    counts = np.zeros(2 * SIDE, np.int64)
    for start in range(0, values.size, _BLOCK):
        # In float64 2**149 is finite and no product leaves the range.
        block = np.floor(np.ldexp(values[start : start + _BLOCK].astype(np.float64), -exponent))
        block += SIDE
        counts += np.bincount(block.astype(np.intp), minlength=2 * SIDE)
    zeros = int(values.size - np.count_nonzero(values))
    counts[SIDE] -= zeros
    return counts, zeros


def _widened(counts: np.ndarray, doublings: int) -> np.ndarray:
    """Merge neighbouring bins in pairs, ``doublings`` times."""
    for _ in range(min(doublings, SIDE.bit_length())):
        half = counts[0::2] + counts[1::2]
        counts = np.zeros_like(counts)
        counts[SIDE // 2 : SIDE // 2 + SIDE] = half
    return counts
