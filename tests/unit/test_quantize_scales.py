from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from tvmbuild.quantization.scales import activation_params, quantize_weights, scales_with_bias, weight_scales
from tvmbuild.support.errors import OptionError

BOUNDS = st.floats(0.0, 2.0**100, width=32)
WEIGHTS = hnp.arrays(np.float32, (3, 5), elements=st.floats(-(2.0**30), 2.0**30, width=32))


@given(BOUNDS, BOUNDS, st.booleans(), st.booleans())
def test_activations(below: float, above: float, symmetric: bool, power2: bool) -> None:
    params = activation_params(-below, above, symmetric=symmetric, power2=power2)
    assert math.isfinite(params.scale)
    assert params.scale > 0
    assert -128 <= params.zero_point <= 127
    assert np.float32(params.scale) == params.scale
    # Zero is exact, and the ends are off by half a step: the zero point is rounded.
    slack = 0.51 * params.scale
    assert params.low - slack <= -below
    assert above <= params.high + slack
    if symmetric:
        assert params.zero_point == 0
    if power2:
        assert math.frexp(params.scale)[0] == 0.5


def test_a_one_sided_range_uses_all_levels() -> None:
    assert activation_params(0.0, 255.0) == activation_params(0.0, 255.0, symmetric=False)
    assert activation_params(0.0, 255.0).zero_point == -128
    assert activation_params(0.0, 255.0).scale == 1.0
    assert activation_params(-255.0, 0.0).zero_point == 127


def test_an_empty_range_has_a_finite_scale() -> None:
    assert activation_params(0.0, 0.0).scale == 1.0


@given(WEIGHTS, st.sampled_from(["max", "mse"]), st.booleans())
def test_weights(weights: np.ndarray, rule: str, power2: bool) -> None:
    scales = weight_scales(weights, rule, power2=power2)
    integers = quantize_weights(weights, scales)
    assert np.isfinite(scales).all()
    assert ((scales > 0) == weights.any(axis=1)).all()
    assert integers.dtype == np.int8
    assert integers.min() >= -127
    if rule == "max":
        assert (np.abs(integers * scales[:, None] - weights) <= 0.501 * scales[:, None]).all()


def test_mse_is_no_worse_than_max_for_weights() -> None:
    weights = np.random.default_rng(0).standard_t(3, (16, 400)).astype(np.float32)
    errors = []
    for rule in ("mse", "max"):
        scales = weight_scales(weights, rule)
        errors.append(((quantize_weights(weights, scales) * scales[:, None] - weights) ** 2).sum(axis=1))
    assert (errors[0] <= errors[1] * 1.0001).all()
    assert errors[0].sum() < errors[1].sum()


@given(hnp.arrays(np.float32, 3, elements=st.floats(-(2.0**60), 2.0**60, width=32)), st.floats(2.0**-30, 2.0**30))
def test_a_bias_always_fits_int32(bias: np.ndarray, input_scale: float) -> None:
    scales = scales_with_bias(np.array([0.0, 1e-6, 1.0], np.float32), bias, input_scale, power2=False)
    assert np.isfinite(scales).all()
    assert (scales > 0).all()
    assert (np.abs(bias / (scales.astype(np.float64) * input_scale)) < 2**30).all()


def test_an_unknown_weight_scale_is_named() -> None:
    with pytest.raises(OptionError, match="min"):
        weight_scales(np.ones((1, 1), np.float32), "min")
