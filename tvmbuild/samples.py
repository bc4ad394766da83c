"""Sample inputs: seeded random ones, .npy and .npz files, images, or a folder of any of these."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tvmbuild.errors import InputDataError
from tvmbuild.reference import random_inputs
from tvmbuild.tensor import TensorSpec

#: Endings read as pictures, by Pillow.
IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
ARRAY_ENDINGS = (".npy", ".npz")

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
    if not source.exists():
        raise InputDataError(f"The input {source} does not exist.", _ACCEPTED)
    if source.is_file():
        return [read_sample(specs, source)]
    files = sorted(path for path in source.iterdir() if path.suffix.lower() in IMAGE_ENDINGS + ARRAY_ENDINGS)
    if not files:
        raise InputDataError(f"The folder {source} has no sample inputs.", _ACCEPTED)
    return [read_sample(specs, path) for path in files[: max(1, count)]]


_ACCEPTED = f"Give a {', '.join(ARRAY_ENDINGS + IMAGE_ENDINGS)} file, or a folder of them."


def read_sample(specs: Sequence[TensorSpec], path: Path) -> Sample:
    """Read one sample from a file: .npz by input name, .npy or an image for a model with one input.

    Raises:
        InputDataError: the file cannot be read, or does not fit the inputs.
    """
    ending = path.suffix.lower()
    if ending == ".npz":
        return _from_archive(specs, path)
    if ending not in IMAGE_ENDINGS + ARRAY_ENDINGS:
        raise InputDataError(f"{path} is no sample input.", _ACCEPTED)
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise InputDataError(
            f"{path} holds one array; the model has {len(specs)} inputs ({names}).",
            "Put them into one .npz, one array an input, under these names.",
        )
    spec = specs[0]
    array = _load_array(path) if ending == ".npy" else _load_image(path, spec)
    return {spec.name: _fitted(spec, array, path)}


def _load_array(path: Path) -> np.ndarray:
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise InputDataError(f"{path} cannot be read: {error}.", "Write it with numpy.save.") from error


def _from_archive(specs: Sequence[TensorSpec], path: Path) -> Sample:
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
        raise InputDataError(f"{path} cannot be read: {error}.", "Write it with numpy.savez.") from error
    missing = [spec.name for spec in specs if spec.name not in arrays]
    if missing:
        raise InputDataError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(arrays)) or 'nothing'}.",
            "Name each array after the model's input: numpy.savez(file, **{'input name': array}).",
        )
    return {spec.name: _fitted(spec, arrays[spec.name], path) for spec in specs}


def _load_image(path: Path, spec: TensorSpec) -> np.ndarray:
    """Read a picture as RGB in [0, 1], resized to the input's height and width, in its layout (NCHW or NHWC)."""
    from PIL import Image, UnidentifiedImageError

    channels_first = len(spec.shape) == 4 and spec.shape[1] in (1, 3)
    channels_last = len(spec.shape) == 4 and spec.shape[3] in (1, 3)
    if not (channels_first or channels_last) or spec.shape[0] != 1:
        raise InputDataError(
            f"{path} is a picture; the input {spec} does not take one.", "Give a .npy or .npz file of that shape."
        )
    height, width = spec.shape[2:] if channels_first else spec.shape[1:3]
    depth = spec.shape[1] if channels_first else spec.shape[3]
    try:
        with Image.open(path) as image:
            resized = image.convert("RGB" if depth == 3 else "L").resize((width, height), Image.Resampling.BILINEAR)
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError) as error:
        raise InputDataError(f"The picture {path} cannot be read: {error}.", "Remove it, or save it again.") from error
    pixels = np.asarray(resized, dtype=np.float32).reshape(height, width, depth) / 255.0
    return (pixels.transpose(2, 0, 1) if channels_first else pixels)[np.newaxis]


def _fitted(spec: TensorSpec, array: np.ndarray, path: Path) -> np.ndarray:
    if tuple(array.shape) != spec.shape:
        raise InputDataError(
            f"{path}: '{spec.name}' has shape {list(array.shape)}; the model takes {list(spec.shape)}.",
            "Give an array of that shape, or build the model with another --shape.",
        )
    wanted = np.dtype(spec.dtype)
    if array.dtype != wanted and not np.can_cast(array.dtype, wanted, casting="same_kind"):
        raise InputDataError(
            f"{path}: '{spec.name}' is {array.dtype}; the model takes {spec.dtype}.",
            f"Convert it with array.astype('{spec.dtype}').",
        )
    return np.ascontiguousarray(array, dtype=wanted).reshape(spec.shape)
