"""Sample inputs: seeded random ones, .npy and .npz files, pictures, or a folder of any of these."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvmbuild.onnx_model.reference import random_inputs
from tvmbuild.support.arrays import ARRAY_ENDINGS, read_npy, read_npz
from tvmbuild.support.errors import InputDataError
from tvmbuild.support.paths import missing
from tvmbuild.support.pictures import PICTURE_ENDINGS, picture_input, read_pixels
from tvmbuild.support.tensor import TensorSpec

Sample = dict[str, np.ndarray]


def load_samples(specs: Sequence[TensorSpec], source: Path | None, *, count: int = 1, seed: int = 0) -> list[Sample]:
    """Return samples, each with every input of ``specs`` in its dtype and shape.

    Args:
        specs: the model's inputs.
        source: None for seeded random inputs; else a file or a folder, of which the first ``count`` files (by name)
            are taken, all when ``count`` is 1 and ``source`` is a folder of one file or a file.
        count: number of random samples, or the most files to take.
        seed: seed of the random inputs; sample ``k`` uses ``seed + k``.

    Raises:
        InputDataError: nothing to read, an unreadable file, or data that does not fit the inputs.
    """
    if source is None:
        return [random_inputs(specs, seed + k) for k in range(max(1, count))]
    why = missing(source)
    if why:
        raise InputDataError(f"The input {source} {why}.", _ACCEPTED)
    if not source.is_dir():
        return [read_sample(specs, source)]
    try:
        files = sorted(path for path in source.iterdir() if path.suffix.lower() in SAMPLE_ENDINGS)
    except OSError as error:
        raise InputDataError(f"The folder {source} cannot be read: {error.strerror}.", _ACCEPTED) from error
    if not files:
        raise InputDataError(f"The folder {source} has no sample inputs.", _ACCEPTED)
    return [read_sample(specs, path) for path in files[: max(1, count)]]


SAMPLE_ENDINGS = ARRAY_ENDINGS + PICTURE_ENDINGS
_ACCEPTED = f"Give a {', '.join(SAMPLE_ENDINGS)} file, or a folder of them."


def read_sample(specs: Sequence[TensorSpec], path: Path) -> Sample:
    """Read one sample from a file: .npz by input name, .npy or an image for a model with one input.

    Raises:
        InputDataError: the file cannot be read, or does not fit the inputs.
    """
    ending = path.suffix.lower()
    if ending == ".npz":
        return read_archive(specs, path)
    if ending not in SAMPLE_ENDINGS:
        raise InputDataError(f"{path} is no sample input.", _ACCEPTED)
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise InputDataError(
            f"{path} holds one array; the model has {len(specs)} inputs ({names}).",
            "Put them into one .npz, one array an input, under these names.",
        )
    spec = specs[0]
    return {spec.name: fitted(str(path), read_npy(path) if ending == ".npy" else _picture(spec, path), spec)}


def read_archive(specs: Sequence[TensorSpec], path: Path) -> Sample:
    """Read one sample from a .npz file, by input name.

    Raises:
        InputDataError: as ``read_sample``.
    """
    largest = max((math.prod(spec.shape) for spec in specs), default=0)
    arrays = read_npz(path, [spec.name for spec in specs], largest)
    return {spec.name: fitted(str(path), arrays[spec.name], spec) for spec in specs}


def _picture(spec: TensorSpec, path: Path) -> np.ndarray:
    """Read a picture as RGB or luminance in [0, 1], resized to the input's height and width, in its layout."""
    wanted = picture_input(path, spec)
    return wanted.arrange(read_pixels(path, wanted) / np.float32(255.0))


def fitted(name: str, array: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """Return a copy of an array in an input's dtype.

    Args:
        name: of the file or sample, for errors.
        array: as it was read.
        spec: the input.

    Raises:
        InputDataError: another shape, or a dtype that cannot become the input's.
    """
    if tuple(array.shape) != spec.shape:
        raise InputDataError(
            f"{name}: '{spec.name}' has shape {list(array.shape)}; the model takes {list(spec.shape)}.",
            "Give an array of that shape, or build the model with another --shape.",
        )
    wanted = np.dtype(spec.dtype)
    if array.dtype != wanted and not (
        array.dtype.kind in "biuf" and np.can_cast(array.dtype, wanted, casting="same_kind")
    ):
        raise InputDataError(
            f"{name}: '{spec.name}' is {array.dtype}; the model takes {spec.dtype}.",
            f"Convert it with array.astype('{spec.dtype}').",
        )
    with np.errstate(over="ignore"):
        return np.array(array, dtype=wanted, order="C")
