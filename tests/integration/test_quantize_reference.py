"""Our thresholds against ONNX Runtime's entropy calibrator, which takes seconds for each: no unit test."""

from __future__ import annotations

import numpy as np
import pytest
from distributions import histogram

from tvmbuild.quantization.calibration.histogram import SIDE, Histogram
from tvmbuild.quantization.calibration.thresholds import SYMMETRIC_STEPS, RangeRule, find_range

#: Bins that are merged into one for ONNX Runtime, whose time grows with the square of their number.
_MERGED = 4
_LEVELS = SYMMETRIC_STEPS + 1


def onnxruntime_threshold(seen: Histogram) -> tuple[float, float]:
    """Return the threshold of ONNX Runtime's entropy calibrator, and the distance of those that it can choose well.

    It divides n bins among the levels by n // levels; what is left over goes to the last level, where Q has nothing.
    Thresholds at which something is left over lose by that, so that it chooses among multiples of the levels.
    """
    from onnxruntime.quantization.calibrate import HistogramCollector

    counts = seen.counts.reshape(-1, _MERGED).sum(axis=1)
    used = np.flatnonzero(counts)
    half = SIDE // _MERGED
    side = int(max(half - used[0], used[-1] + 1 - half))
    # It wants an odd number of bins, the middle one around zero.
    counts = np.concatenate([counts[half - side : half], [seen.zeros], counts[half : half + side]])
    width = seen.width * _MERGED
    edges = (np.arange(counts.size + 1) - counts.size / 2) * width
    collector = HistogramCollector("entropy", False, counts.size, _LEVELS, 99.99, None)
    found = collector.get_entropy_threshold((counts, edges, edges[0], edges[-1], edges[-1]), _LEVELS)
    return max(abs(float(np.asarray(each))) for each in found[:2]), _LEVELS / 2 * width


@pytest.mark.parametrize("name", ["gaussian", "laplace", "outliers", "bimodal"])
def test_kl_agrees_with_onnxruntime(name: str) -> None:
    """To two of the steps between the thresholds that ONNX Runtime can choose."""
    seen = histogram(name)
    low, high = find_range(seen, RangeRule(symmetric=True))
    expected, step = onnxruntime_threshold(seen)
    assert max(-low, high) == pytest.approx(expected, abs=2.1 * step)


def test_zeros_are_why_one_sided_ranges_differ() -> None:
    """Half of what leaves a ReLU is zero.

    ONNX Runtime counts zeros like other values: the wider the lowest level, the farther its Q spreads them, so that it
    clips at one standard deviation. A quantizer represents zero exactly, whatever the range; they are left out here.
    """
    seen = histogram("relu")
    _, high = find_range(seen, RangeRule(symmetric=True))
    clipped, step = onnxruntime_threshold(seen)
    assert clipped < 1.5
    seen.zeros = 0
    expected, _ = onnxruntime_threshold(seen)
    assert high == pytest.approx(expected, abs=2.1 * step)
