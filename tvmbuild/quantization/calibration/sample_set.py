"""Samples that are read one at a time, and how those for calibration are told from those held out.

Every sample has a digest of its content. The split goes by digest and seed, so that neither the names nor the order of
the files matter.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from tvmbuild.checking import samples
from tvmbuild.support.errors import CalibrationError, InputDataError
from tvmbuild.support.tensor import TensorSpec

Sample = samples.Sample
#: With fewer samples than this the tails of the activations are guesswork.
FEWEST = 8


@dataclass(frozen=True)
class SampleRef:
    """One sample.

    Attributes:
        name: for messages: a file, or the position in an iterable.
        digest: of its content, 64 hex digits.
        load: reads it; raises CalibrationError when it does not fit.
    """

    name: str
    digest: str
    load: Callable[[], Sample]


@dataclass(frozen=True)
class SampleSet:
    """Samples for calibration, and those held out from it to judge the result.

    Attributes:
        calibration: at least one.
        held_out: may be the same when there are too few to hold any out.
        overlap: whether they are the same.
    """

    calibration: tuple[SampleRef, ...]
    held_out: tuple[SampleRef, ...]
    overlap: bool

    def digest(self) -> str:
        """Return a digest of the calibration samples that does not depend on their order."""
        return hashlib.sha256("".join(sorted(ref.digest for ref in self.calibration)).encode()).hexdigest()


def split_samples(
    refs: list[SampleRef], *, held_out: float = 0.2, most_held_out: int = 50, seed: int = 0, fewest: int = FEWEST
) -> SampleSet:
    """Divide samples by a hash of their content and the seed.

    Args:
        refs: in any order; copies of one sample count once.
        held_out: share to hold out, 0 to 1.
        most_held_out: the most to hold out.
        seed: another seed divides otherwise.
        fewest: the least number of samples to calibrate with.

    Raises:
        CalibrationError: fewer samples than ``fewest``.
    """
    unique = {ref.digest: ref for ref in sorted(refs, key=lambda ref: ref.name, reverse=True)}
    ordered = sorted(unique.values(), key=lambda ref: hashlib.sha256(f"{seed}:{ref.digest}".encode()).digest())
    if len(ordered) < max(fewest, 1):
        same = f" ({len(refs) - len(ordered)} of them twice)" if len(refs) > len(ordered) else ""
        raise CalibrationError(
            f"There are {len(refs)} samples{same}; calibration needs at least {fewest}.",
            "Add samples of what the model will see, or accept fewer: --min-samples of 'tvmbuild quantize', or "
            f"min_samples = {max(len(ordered), 1)} under [quantize] in tvmbuild.toml.",
        )
    count = min(round(len(ordered) * held_out), most_held_out, len(ordered) - max(fewest, 1))
    if count < 1:
        return SampleSet(tuple(ordered), tuple(ordered[:most_held_out]), overlap=True)
    return SampleSet(tuple(ordered[count:]), tuple(ordered[:count]), overlap=False)


def fitted(name: str, sample: Sample, specs: tuple[TensorSpec, ...]) -> Sample:
    """Return a sample in the model's dtypes, checked.

    Raises:
        CalibrationError: a missing input, a wrong shape or dtype, NaN or infinity.
    """
    result: Sample = {}
    for spec in specs:
        if spec.name not in sample:
            raise CalibrationError(
                f"{name} lacks the input '{spec.name}'; it has {', '.join(sorted(sample)) or 'nothing'}.",
                "Name each array after the model's input.",
            )
        with as_calibration():
            result[spec.name] = samples.fitted(name, sample[spec.name], spec)
        if result[spec.name].dtype.kind == "f" and not np.isfinite(result[spec.name]).all():
            raise CalibrationError(f"{name}: '{spec.name}' holds NaN or infinity.", "Remove this sample.")
    return result


@contextmanager
def as_calibration() -> Iterator[None]:
    """Turn what the readers of samples raise into the error of calibration."""
    try:
        yield
    except InputDataError as error:
        raise CalibrationError(error.message, error.hint) from error
