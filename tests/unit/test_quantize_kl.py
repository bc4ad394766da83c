"""The range by divergence, against the words of ``_kl_divergence`` written out plainly."""

from __future__ import annotations

import numpy as np
import pytest
from distributions import histogram

from tvmbuild.quantization.calibration.histogram import SIDE, Histogram
from tvmbuild.quantization.calibration.thresholds import RangeRule, find_range

#: The promise on the spacing and the start of the thresholds, in bins.
SPACING, NARROWEST = 8, 128


def divergence(counts: np.ndarray, first: int, last: int, step: float) -> float:
    """Return KL(P || Q) of an interval of bins, level by level."""
    inside = counts[first:last].astype(float)
    p, q = inside.copy(), np.zeros_like(inside)
    p[0] += counts[:first].sum()
    p[-1] += counts[last:].sum()
    levels = np.rint((np.arange(first, last) + 0.5 - SIDE) / step)
    for level in np.unique(levels):
        here = (levels == level) & (inside > 0)
        q[here] = inside[levels == level].sum() / max(1, here.sum())

    def smooth(values: np.ndarray) -> np.ndarray:
        return (1 - 1e-4) * values / values.sum() + 1e-4 / values.size

    p, q = smooth(p), smooth(q)
    return float(np.sum(p * np.log(p / q)))


def expected(seen: Histogram, symmetric: bool) -> tuple[float, float]:
    """Return the range of the threshold with the least divergence, the widest of equals."""
    counts = seen.counts
    used = np.flatnonzero(counts)
    lowest, highest = min(used[0], SIDE), max(used[-1] + 1, SIDE)
    longest = max(SIDE - lowest, highest - SIDE)
    found = []
    for threshold in (*range(min(NARROWEST, longest), longest, SPACING), longest):
        first, last = max(lowest, SIDE - threshold), min(highest, SIDE + threshold)
        if counts[first:last].sum() < counts.sum() - 1e-4 * seen.total:
            continue
        step = 2 * threshold / 254 if symmetric else (last - first) / 255
        found.append((divergence(counts, first, last, step), -threshold, first, last))
    _, _, first, last = min(found)
    # The ends of the outermost bins may lie beyond the data.
    return max((first - SIDE) * seen.width, seen.low), min((last - SIDE) * seen.width, seen.high)


def spiked(seed: int) -> Histogram:
    """Return a bell with a few far elements in bins of their own, all within what may be left outside."""
    rng = np.random.default_rng(seed)
    seen = Histogram()
    seen.add(rng.normal(0, 1, 200_000).astype(np.float32))
    seen.add(rng.uniform(4, 9, 15).astype(np.float32) * np.sign(rng.normal(size=15)).astype(np.float32))
    return seen


SEEN = {
    **{name: lambda name=name: histogram(name) for name in ("gaussian", "laplace", "relu", "outliers", "bimodal")},
    **{f"spiked {seed}": lambda seed=seed: spiked(seed) for seed in range(3)},
}


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("name", SEEN)
def test_the_range_has_the_least_divergence_with_the_clipped_tails_in_its_ends(name: str, symmetric: bool) -> None:
    seen = SEEN[name]()
    assert find_range(seen, RangeRule(symmetric=symmetric)) == pytest.approx(expected(seen, symmetric))
