"""Scales and zero points: a real value is scale * (integer - zero point).

Activations are int8 per tensor; weights are int8 per output channel, symmetric in [-127, 127], so that two products of
an activation and a weight fit into int16.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from tvmbuild.support.errors import OptionError
from tvmbuild.support.suggest import did_you_mean

LOWEST, HIGHEST = -128, 127
#: The largest magnitude of a weight.
WEIGHT_LIMIT = 127
#: Nothing that a network computes is finer; below it products of scales would leave float32.
SMALLEST_SCALE = 2.0**-60
#: Shares of a channel's largest weight that the "mse" rule tries as threshold.
_SHARES = np.linspace(1.0, 0.4, 61)
#: The largest magnitude of a quantized bias: far enough from the end of int32 for the sum of products.
_BIAS_LIMIT = 2.0**29
#: A channel whose weights are all zero has a scale just fine enough for its bias.
_DEAD_BIAS = 2.0**20

WEIGHT_SCALES = ("max", "mse")


@dataclass(frozen=True)
class QuantParams:
    """Scale (as a float32 value) and zero point of a tensor; int8 integers in [-128, 127]."""

    scale: float
    zero_point: int

    @property
    def low(self) -> float:
        """Return the lowest value that can be represented."""
        return self.scale * (LOWEST - self.zero_point)

    @property
    def high(self) -> float:
        """Return the highest value that can be represented."""
        return self.scale * (HIGHEST - self.zero_point)


def activation_params(low: float, high: float, *, symmetric: bool = False, power2: bool = False) -> QuantParams:
    """Return the parameters that represent [low, high], widened to hold zero.

    An empty range (a tensor that is always zero) gets the scale 1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    span = max(-low, high) / HIGHEST if symmetric else (high - low) / (HIGHEST - LOWEST)
    if span == 0.0:
        return QuantParams(1.0, 0)
    scale = float(np.float32(max(_power2(span) if power2 else span, SMALLEST_SCALE)))
    zero_point = 0 if symmetric else min(max(round(LOWEST - low / scale), LOWEST), HIGHEST)
    return QuantParams(scale, zero_point)


def check_weight_scale(rule: str) -> None:
    """Check the name of a rule for the scales of weights.

    Raises:
        OptionError: it is unknown.
    """
    if rule not in WEIGHT_SCALES:
        raise OptionError(f"There is no weight scale '{rule}'.", did_you_mean(rule, WEIGHT_SCALES))


def weight_scales(weights: np.ndarray, rule: str = "max", *, power2: bool = False) -> np.ndarray:
    """Return one scale a channel, float32[C], for weights of shape [C, n]; 0 for a channel of zeros.

    Args:
        weights: one row a channel.
        rule: "max" takes the largest magnitude, "mse" the threshold with the smallest squared error.
        power2: round scales up to powers of two.

    Raises:
        OptionError: the rule is unknown.
    """
    check_weight_scale(rule)
    largest = np.abs(weights.astype(np.float64)).max(axis=1, initial=0.0)
    scales = largest / WEIGHT_LIMIT
    if rule == "mse":
        scales = _least_error(weights.astype(np.float64), scales)
    if power2:
        scales = np.array([_power2(scale) if scale else 0.0 for scale in scales])
    return np.asarray(np.where(scales > 0, np.maximum(scales, SMALLEST_SCALE), 0.0), np.float32)


def quantize_weights(weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
    """Return int8 weights in [-127, 127] for weights [C, n] and scales [C]; channels of scale 0 become zeros."""
    divisors = np.where(scales > 0, scales, 1.0).astype(np.float64)[:, np.newaxis]
    integers = np.rint(weights.astype(np.float64) / divisors)
    return np.clip(integers, -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)


def scales_with_bias(scales: np.ndarray, bias: np.ndarray | None, input_scale: float, power2: bool) -> np.ndarray:
    """Return the weights' scales, raised where the int32 bias (scale ``input_scale * scale``) would not fit.

    Channels of zeros get a scale that represents their bias, or 1 without one. float32[C].
    """
    magnitude = np.zeros(scales.shape) if bias is None else np.abs(bias.astype(np.float64))
    least = magnitude / input_scale / np.where(scales > 0, _BIAS_LIMIT, _DEAD_BIAS)
    raised = np.maximum(scales.astype(np.float64), least)
    raised = np.where(raised > 0, np.maximum(raised, SMALLEST_SCALE), 1.0)
    if power2:
        raised = np.array([_power2(scale) for scale in raised])
    return np.asarray(raised, np.float32)


def _least_error(weights: np.ndarray, scales: np.ndarray) -> np.ndarray:
    best = scales.copy()
    least = np.full(scales.shape, np.inf)
    for share in _SHARES:
        tried = np.where(scales > 0, scales * share, 1.0)[:, np.newaxis]
        restored = np.clip(np.rint(weights / tried), -WEIGHT_LIMIT, WEIGHT_LIMIT) * tried
        error = ((weights - restored) ** 2).sum(axis=1)
        better = error < least
        best, least = np.where(better, scales * share, best), np.minimum(error, least)
    return np.asarray(best)


def _power2(scale: float) -> float:
    """Return the smallest power of two that is not below ``scale``."""
    mantissa, exponent = math.frexp(scale)
    return math.ldexp(1.0, exponent - 1 if mantissa == 0.5 else exponent)
