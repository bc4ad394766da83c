"""What every way of measuring candidates offers, and the checks that they share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from tvmbuild.records.fingerprint import BoardIdentity
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.tuning.task import Variant

#: Largest difference from the default's output, relative to its largest value, by dtype. The choices sum in different
#: orders, and Winograd's tiles lose up to 2e-5 in float32 and 8e-3 in float16 (see ``schedules.winograd_plan``).
TOLERANCE = {"float32": 1e-4, "float16": 2e-2}

#: Bytes of the integers that are codes of a quantized tensor.
_CODE_BYTES = 2


@dataclass(frozen=True)
class Run:
    """One candidate that waits to be measured.

    Attributes:
        library: its code.
        inputs: its inputs.
        reference: the default of its task, which a measurer that is not ``batched`` times on the same board if it
            did not do so lately; None where times do not drift.
        max_age: how many seconds ago that may have been.
    """

    library: Path
    inputs: tuple[NDArray[Any], ...]
    reference: Run | None = None
    max_age: float = 0.0


class Measurer(Protocol):
    """A way to measure.

    Attributes:
        board: what it measures on.
        slots: how many measurements may go on at the same time.
        batched: whether the default has to be measured along with each batch, and nothing else may run meanwhile; then
            ``measure`` gets a whole batch, with the default first.
    """

    board: BoardIdentity
    slots: int
    batched: bool

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        """Measure candidates, in turn with each other, and return one outcome for each.

        Called from up to ``slots`` threads.
        """

    def close(self) -> None:
        """Give back what it holds."""


def arguments_of(variant: Variant, seed: int) -> tuple[NDArray[Any], ...]:
    """Return inputs for a variant: the model's own weights, and seeded activations, the same for each variant.

    Floats are non-negative like those behind a ReLU, small enough that float16 does not overflow. Integers of up to 16
    bits are codes, of which a model may have any; wider ones may be indices, and stay small.
    """
    from tvmbuild.tuning.candidate import parameters

    *inputs, _ = parameters(variant.func)
    generator = np.random.default_rng(seed)
    arrays = []
    for position, (shape, dtype) in enumerate(inputs):
        constant = variant.constants.get(position)
        arrays.append(constant if constant is not None else _activation(generator, shape, dtype))
    return tuple(arrays)


def _activation(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
    if np.dtype(dtype).kind == "f":
        return np.abs(generator.standard_normal(shape)).astype(dtype)
    if np.dtype(dtype).kind == "b":
        return generator.integers(0, 2, shape).astype(dtype)
    if np.dtype(dtype).itemsize <= _CODE_BYTES:
        limits = np.iinfo(dtype)
        return generator.integers(limits.min, limits.max, shape, dtype=dtype, endpoint=True)
    return generator.integers(0, 64, shape).astype(dtype)


def no_measure(output: NDArray[Any]) -> str:
    """Return why nothing can be compared with a default's output, or "".

    A NaN says that the kernel does not compute with these inputs what it does in the model, and it hides what went into
    it; so does an output without a finite value.
    """
    if output is None or output.size == 0 or output.dtype.kind != "f":
        return ""
    if np.isnan(output).any():
        return "the default's own output has NaN, so there is nothing to compare with"
    return (
        "" if np.isfinite(output).any() else "the default's own output is infinite, so there is nothing to compare with"
    )


def wrong_result(output: NDArray[Any], expected: NDArray[Any]) -> str:
    """Return how an output differs from the default's by more than the tolerance, or "".

    Infinite values have to be the same ones; the finite are measured by the largest of them.
    """
    if output.shape != expected.shape or output.dtype != expected.dtype:
        return f"the output is {output.dtype}{list(output.shape)} and not {expected.dtype}{list(expected.shape)}"
    if expected.size == 0:
        return ""
    if expected.dtype.kind != "f":
        differing = int(np.count_nonzero(output != expected))
        return f"{differing} of {expected.size} values differ from the default's" if differing else ""
    if np.isnan(output).any():
        return "it has NaN"
    infinite = ~np.isfinite(expected)
    if not np.array_equal(output[infinite], expected[infinite]) or not np.isfinite(output[~infinite]).all():
        return "it is infinite where the default is not, or the other way about"
    tolerance = TOLERANCE.get(str(expected.dtype), 1e-4)
    finite = expected[~infinite].astype("float64")
    largest = float(np.max(np.abs(finite), initial=0.0)) or 1.0
    difference = float(np.max(np.abs(output[~infinite].astype("float64") - finite), initial=0.0))
    if not difference <= tolerance * largest:
        return f"it differs from the default's output by {difference / largest:.1e} of its largest value"
    return ""
