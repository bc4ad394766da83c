"""Choose the range of an activation from its histogram.

Every method but ``max`` tries thresholds T and looks at the interval [max(low, -T), min(high, T)], which is the range
of a symmetric quantizer clipped to the data, or that of an asymmetric one. Zero always lies in the range, so that
padding and dead values are exact.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from tvmbuild.quantization.calibration.histogram import SIDE, Histogram
from tvmbuild.support.errors import OptionError
from tvmbuild.support.suggest import did_you_mean

#: Steps of an int8 quantizer: -128..127 for asymmetric activations, -127..127 for symmetric ones.
ASYMMETRIC_STEPS = 255
SYMMETRIC_STEPS = 254
#: Distance of two candidate thresholds, in bins: the longer side has over 2048, hence at least 240 candidates.
_STRIDE = 8
#: The smallest candidate, in bins: below it a level would hold less than one.
_FIRST = 128
#: Share of the elements that "kl_divergence" may leave outside.
MOST_CLIPPED = 1e-4
#: What an empty bin gets instead of nothing when two distributions are compared.
_SMOOTHING = 1e-4


@dataclass(frozen=True)
class RangeRule:
    """How a range is chosen.

    Attributes:
        mode: "kl_divergence", "percentile", "mse" or "max".
        symmetric: the quantizer's zero point is 0.
        percentile: share of the elements inside the range, in percent; for "percentile".
    """

    mode: str = "kl_divergence"
    symmetric: bool = False
    percentile: float = 99.99

    def check(self) -> None:
        """Check the rule before any work.

        Raises:
            OptionError: the mode is unknown or the percentile is no share.
        """
        if self.mode not in MODES:
            raise OptionError(f"There is no calibration mode '{self.mode}'.", did_you_mean(self.mode, MODES))
        if not 50.0 < self.percentile <= 100.0:
            raise OptionError(f"The percentile is {self.percentile:g}.", "Give over 50 up to 100, such as 99.99.")


@dataclass(frozen=True)
class _Candidate:
    """An interval of bins, ``first`` up to but not including ``last``, and the quantizer's step in bins."""

    first: int
    last: int
    step: float


def find_range(histogram: Histogram, rule: RangeRule) -> tuple[float, float]:
    """Return the lowest and highest value to represent; zero lies between them.

    Raises:
        OptionError: the rule is wrong.
    """
    rule.check()
    if histogram.total == 0:
        return 0.0, 0.0
    low, high = MODES[rule.mode](histogram, rule)
    return max(min(low, 0.0), min(histogram.low, 0.0)), min(max(high, 0.0), max(histogram.high, 0.0))


def _max(histogram: Histogram, _rule: RangeRule) -> tuple[float, float]:
    return histogram.low, histogram.high


def _percentile(histogram: Histogram, rule: RangeRule) -> tuple[float, float]:
    """Leave ``100 - percentile`` percent outside: of the magnitudes if symmetric, else half on either side."""
    outside = histogram.total * (1.0 - rule.percentile / 100.0)
    counts = histogram.counts
    if rule.symmetric:
        magnitudes = counts[SIDE:] + counts[:SIDE][::-1]
        # The sums from the far end: how many elements lie at or beyond a bin.
        beyond = np.cumsum(magnitudes[::-1])[::-1]
        threshold = float(np.count_nonzero(beyond > outside)) * histogram.width
        return -threshold, threshold
    above = np.cumsum(counts[SIDE:][::-1])[::-1]
    below = np.cumsum(counts[:SIDE])[::-1]
    high = np.count_nonzero(above > outside / 2) * histogram.width
    low = -np.count_nonzero(below > outside / 2) * histogram.width
    return float(low), float(high)


def _kl_divergence(histogram: Histogram, rule: RangeRule) -> tuple[float, float]:
    """Take the interval whose quantized distribution tells most about the original.

    After S. Migacz, "8-bit Inference with TensorRT", GTC 2017: the reference P is the histogram with what lies outside
    added to its outermost bins; Q has each level's count spread evenly over the level's non-empty bins; the interval
    with the smallest KL(P || Q) wins.

    Two things differ from the talk. Zeros are left out on both sides, since every candidate represents them exactly.
    And at most ``MOST_CLIPPED`` of the elements may lie outside: where a constant background puts much into single
    bins, spreading these costs so much that the divergence alone would clip a whole mode (see docs/int8.md).
    """
    return _best(histogram, rule, _divergence, MOST_CLIPPED)


def _mse(histogram: Histogram, rule: RangeRule) -> tuple[float, float]:
    """Take the interval with the smallest mean squared error of the quantized values."""
    return _best(histogram, rule, _squared_error)


#: By the name that the command line and the Python API take.
MODES: dict[str, Callable[[Histogram, RangeRule], tuple[float, float]]] = {
    "kl_divergence": _kl_divergence,
    "percentile": _percentile,
    "mse": _mse,
    "max": _max,
}


def _best(
    histogram: Histogram, rule: RangeRule, loss: Callable[[np.ndarray, _Candidate], float], most_clipped: float = 1.0
) -> tuple[float, float]:
    best, found = np.inf, None
    within = np.concatenate([[0], np.cumsum(histogram.counts)])
    fewest = within[-1] - most_clipped * histogram.total
    for candidate in _candidates(histogram.counts, rule.symmetric):
        if within[candidate.last] - within[candidate.first] < fewest:
            continue
        value = loss(histogram.counts, candidate)
        # Of equals the widest wins: nothing is clipped without a gain.
        if value <= best:
            best, found = value, candidate
    if found is None:
        return histogram.low, histogram.high
    return (found.first - SIDE) * histogram.width, (found.last - SIDE) * histogram.width


def _candidates(counts: np.ndarray, symmetric: bool) -> Iterator[_Candidate]:
    """Yield intervals from the narrowest to the widest, which holds every element."""
    used = np.flatnonzero(counts)
    if not used.size:
        return
    lowest, highest = min(int(used[0]), SIDE), max(int(used[-1]) + 1, SIDE)
    longest = max(SIDE - lowest, highest - SIDE)
    for threshold in [*range(min(_FIRST, longest), longest, _STRIDE), longest]:
        first, last = max(lowest, SIDE - threshold), min(highest, SIDE + threshold)
        step = 2.0 * threshold / SYMMETRIC_STEPS if symmetric else (last - first) / ASYMMETRIC_STEPS
        yield _Candidate(first, last, step)


def _levels(candidate: _Candidate) -> np.ndarray:
    """Return the level of each bin of an interval, from 0 on; levels are centred on multiples of the step."""
    centres = np.arange(candidate.first, candidate.last) + (0.5 - SIDE)
    levels = np.rint(centres / candidate.step).astype(np.int64)
    return np.asarray(levels - levels[0])


def _divergence(counts: np.ndarray, candidate: _Candidate) -> float:
    inside = counts[candidate.first : candidate.last].astype(np.float64)
    levels = _levels(candidate)
    occupied = inside > 0
    sums = np.bincount(levels, inside)
    bins = np.bincount(levels, occupied)
    quantized = np.where(occupied, (sums / np.maximum(bins, 1))[levels], 0.0)
    reference = inside.copy()
    reference[0] += counts[: candidate.first].sum()
    reference[-1] += counts[candidate.last :].sum()
    return _kl(_smoothed(reference), _smoothed(quantized))


def _smoothed(distribution: np.ndarray) -> np.ndarray:
    """Return a distribution that adds up to 1 and is nowhere zero.

    Empty bins get a little, which the others give, so that an outlier in a bin that Q has empty costs much but not
    infinitely much.
    """
    total = distribution.sum()
    if total <= 0:
        return np.full(distribution.shape, 1.0 / distribution.size)
    return np.asarray((1.0 - _SMOOTHING) * distribution / total + _SMOOTHING / distribution.size)


def _kl(reference: np.ndarray, other: np.ndarray) -> float:
    return float(np.sum(reference * np.log(reference / other)))


def _squared_error(counts: np.ndarray, candidate: _Candidate) -> float:
    used = np.flatnonzero(counts)
    values = used + (0.5 - SIDE)
    low, high = candidate.first - SIDE, candidate.last - SIDE
    quantized = np.rint(np.clip(values, low, high) / candidate.step) * candidate.step
    return float(np.sum(counts[used] * (values - quantized) ** 2))
