from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvmbuild.quantization.calibration.histogram import SIDE, Histogram

FLOATS = hnp.arrays(np.float32, st.integers(1, 40), elements=st.floats(allow_nan=False, allow_infinity=False, width=32))


def filled(*arrays: np.ndarray) -> Histogram:
    histogram = Histogram()
    assert all(histogram.add(array) for array in arrays)
    return histogram


def same(first: Histogram, second: Histogram) -> bool:
    head = (first.exponent, first.zeros, first.low, first.high)
    return head == (second.exponent, second.zeros, second.low, second.high) and np.array_equal(
        first.counts, second.counts
    )


@settings(max_examples=60)
@given(st.lists(FLOATS, min_size=2, max_size=4))
def test_the_order_and_the_division_of_the_samples_do_not_matter(arrays: list[np.ndarray]) -> None:
    whole = filled(np.concatenate(arrays))
    for order in itertools.permutations(arrays):
        assert same(filled(*order), whole)


@settings(max_examples=60)
@given(FLOATS)
def test_every_element_is_in_its_bin(array: np.ndarray) -> None:
    histogram = filled(array)
    assert histogram.total == array.size
    expected = np.zeros(2 * SIDE, np.int64)
    for value in array[array != 0].astype(np.float64):
        expected[SIDE + int(np.floor(np.ldexp(value, -histogram.exponent)))] += 1
    assert np.array_equal(histogram.counts, expected)


def test_the_longer_side_uses_more_than_2048_bins() -> None:
    for largest in (1e-30, 0.9, 1.0, 1.0001, 3e38):
        used = np.flatnonzero(filled(np.array([largest, -largest / 100], np.float32)).counts)
        assert 2048 <= used[-1] - SIDE < SIDE


def test_threads_do_not_matter() -> None:
    arrays = [np.random.default_rng(k).standard_normal(5000).astype(np.float32) * 2.0 ** (k % 7) for k in range(40)]
    shared = Histogram()
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(shared.add, arrays))
    assert same(shared, filled(*reversed(arrays)))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused_and_not_counted(bad: float) -> None:
    histogram = filled(np.ones(3, np.float32))
    assert not histogram.add(np.array([1.0, bad], np.float32))
    assert histogram.total == 3
