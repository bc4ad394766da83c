"""How far an output is from its reference, and what is allowed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tvmbuild.support.precision import Precision
from tvmbuild.support.tensor import TensorSpec

#: Largest difference allowed by default, relative to the largest reference value of the output. Both sides sum in
#: fp32 in different orders: a network of some hundred layers differs by 1e-6 to 1e-5, a wrong kernel by 1e-2 or more.
DEFAULT_TOLERANCE: Mapping[str, float] = {
    "float32": 1e-4,
    "float64": 1e-4,
    "float16": Precision.FP16.tolerance,
    "bfloat16": 2e-2,
}
#: For outputs of integers and booleans: none may differ.
EXACT = 0.0
#: Outputs whose largest reference value is below this say little: sigmoid and exp are approximated to some 1e-7.
NEARLY_ZERO = 1e-4


@dataclass(frozen=True)
class OutputDifference:
    """How far one output is from the reference, the worst over all samples.

    Attributes:
        spec: the output.
        largest: largest absolute difference; infinite where one side is NaN or infinite and the other is not.
        largest_reference: largest absolute finite reference value.
        cosine: cosine of the angle between the two as vectors; 1.0 when both are zero.
        tolerance: allowed ``relative``.
        worst_index: position of the largest difference.
        rms: root mean square of the differences over that of the reference, where that is what is judged; else None.
    """

    spec: TensorSpec
    largest: float
    largest_reference: float
    cosine: float
    tolerance: float
    worst_index: tuple[int, ...]
    rms: float | None = None

    @property
    def relative(self) -> float:
        """What is judged: ``rms``, or the largest difference over the largest reference value (1 when that is 0)."""
        return self.rms if self.rms is not None else self.largest / (self.largest_reference or 1.0)

    @property
    def excess(self) -> float:
        """The difference over the tolerance; above 1 it fails."""
        return self.relative / self.tolerance if self.tolerance else (float("inf") if self.relative else 0.0)

    @property
    def passed(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.relative <= self.tolerance

    def __str__(self) -> str:
        """Return one line for people, with the position of the worst element."""
        judged = f"of the largest value {self.largest_reference:.3g}"
        if self.rms is not None:
            judged = f"root mean square over that of the reference, whose largest value is {self.largest_reference:.3g}"
        return (
            f"{self.spec}: largest difference {self.largest:.2e} at {list(self.worst_index)}, {self.relative:.2e} "
            f"{judged}; allowed {self.tolerance:.0e}; cosine {self.cosine:.8f}"
        )


def difference(spec: TensorSpec, reference: np.ndarray, actual: np.ndarray, tolerance: float) -> OutputDifference:
    """Compare one output of any shape; NaN equals NaN and an infinity equals itself.

    Args:
        spec: the output, for the report.
        reference: expected values.
        actual: values to judge, of the same shape.
        tolerance: allowed relative difference; 0 for the default of the output's dtype.
    """
    allowed = tolerance or DEFAULT_TOLERANCE.get(spec.dtype, EXACT)
    if reference.size == 0:
        return OutputDifference(spec, 0.0, 0.0, 1.0, allowed, ())
    expected = reference.astype(np.float64).reshape(-1)
    given = actual.astype(np.float64).reshape(-1)
    same = (expected == given) | (np.isnan(expected) & np.isnan(given))
    both_finite = np.isfinite(expected) & np.isfinite(given)
    gap = np.full(expected.shape, np.inf)
    gap[both_finite] = np.abs(expected[both_finite] - given[both_finite])
    gap[same] = 0.0
    worst = int(gap.argmax())
    finite = np.abs(expected[np.isfinite(expected)])
    scale = float(finite.max()) if finite.size else 0.0
    return OutputDifference(
        spec,
        largest=float(gap[worst]),
        largest_reference=scale,
        cosine=_cosine(expected[both_finite], given[both_finite]),
        tolerance=allowed,
        worst_index=tuple(int(i) for i in np.unravel_index(worst, reference.shape)),
    )


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    norms = float(np.linalg.norm(a) * np.linalg.norm(b))
    if norms == 0.0:
        return 1.0 if not a.any() and not b.any() else 0.0
    return float(a @ b) / norms


def rms_ratio(reference: np.ndarray, actual: np.ndarray) -> float:
    """Return the root mean square of the differences over that of the reference.

    That of the reference counts as ``NEARLY_ZERO`` at least. Infinite where a value is not finite and differs.
    """
    if reference.size == 0:
        return 0.0
    expected, given = (array.astype(np.float64).reshape(-1) for array in (reference, actual))
    differing = ~((expected == given) | (np.isnan(expected) & np.isnan(given)))
    gap = np.zeros(expected.shape)
    gap[differing] = given[differing] - expected[differing]
    if not np.isfinite(gap).all():
        return float("inf")
    finite = expected[np.isfinite(expected)]
    size = float(np.sqrt(np.mean(finite**2))) if finite.size else 0.0
    return float(np.sqrt(np.mean(gap**2))) / max(size, NEARLY_ZERO)
