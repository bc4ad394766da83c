from __future__ import annotations

import numpy as np
import pytest
from distributions import histogram
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvmbuild.quantization.calibration.histogram import Histogram
from tvmbuild.quantization.calibration.thresholds import MODES, RangeRule, find_range
from tvmbuild.support.errors import OptionError

VALUES = hnp.arrays(np.float32, st.integers(1, 60), elements=st.floats(-(2.0**100), 2.0**100, width=32))


def error(seen: Histogram, low: float, high: float) -> float:
    """Return the mean squared error of quantizing the middles of the bins to 256 levels over a range."""
    step, values = (high - low) / 255, seen.centres()
    restored = np.clip(np.rint(values / step) * step, low, high)
    return float(seen.counts @ (values - restored) ** 2 / seen.total)


@settings(max_examples=80)
@given(VALUES, st.sampled_from(sorted(MODES)), st.booleans())
def test_a_range_holds_zero_and_stays_within_the_data(values: np.ndarray, mode: str, symmetric: bool) -> None:
    seen = Histogram()
    seen.add(values)
    low, high = find_range(seen, RangeRule(mode, symmetric))
    assert min(float(values.min()), 0.0) <= low <= 0.0 <= high <= max(float(values.max()), 0.0)
    if values.any():
        assert low < high


@pytest.mark.parametrize("name", ["gaussian", "laplace", "relu", "outliers", "bimodal"])
def test_mse_is_no_worse_than_max(name: str) -> None:
    seen = histogram(name)
    by_mse, by_max = (find_range(seen, RangeRule(mode)) for mode in ("mse", "max"))
    assert error(seen, *by_mse) <= error(seen, *by_max)


def test_max_is_what_was_seen() -> None:
    seen = histogram("laplace")
    assert find_range(seen, RangeRule("max")) == (seen.low, seen.high)


def test_percentile_leaves_out_what_it_says() -> None:
    seen = histogram("laplace")
    low, high = find_range(seen, RangeRule("percentile", percentile=99.0))
    # Half a percent on either side: 0.5 exp(-x) = 0.005.
    assert (low, high) == pytest.approx((-np.log(100), np.log(100)), rel=0.01)
    one_sided = find_range(histogram("relu"), RangeRule("percentile", percentile=99.0))
    assert one_sided == pytest.approx((0.0, 2.576), rel=0.01)


def test_outliers_do_not_stretch_a_kl_range() -> None:
    low, high = find_range(histogram("outliers"), RangeRule())
    assert 3.5 < high < 6.0
    assert -6.0 < low < -3.5


def test_what_was_never_seen_has_an_empty_range() -> None:
    assert find_range(Histogram(), RangeRule()) == (0.0, 0.0)


@pytest.mark.parametrize("mode", sorted(MODES))
def test_constants_and_zeros(mode: str) -> None:
    for value in (0.0, 3.0, -3.0):
        seen = Histogram()
        seen.add(np.full(100, value, np.float32))
        low, high = find_range(seen, RangeRule(mode))
        assert (low, high) == pytest.approx((min(value, 0.0), max(value, 0.0)), rel=1e-3)


def test_unknown_modes_and_wrong_percentiles_are_named() -> None:
    with pytest.raises(OptionError) as caught:
        RangeRule("kl_divergance").check()
    assert "kl_divergence" in caught.value.hint
    with pytest.raises(OptionError, match="percentile"):
        RangeRule("percentile", percentile=100.5).check()
