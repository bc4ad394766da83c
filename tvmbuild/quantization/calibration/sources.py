"""Where samples come from: pictures, arrays, ONNX test data, or a Python iterable."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.checking.samples import SAMPLE_ENDINGS, read_archive
from tvmbuild.quantization.calibration.image import ImageRecipe, read_image
from tvmbuild.quantization.calibration.sample_set import Sample, SampleRef, as_calibration, fitted
from tvmbuild.support.arrays import read_npy
from tvmbuild.support.errors import CalibrationError
from tvmbuild.support.paths import missing
from tvmbuild.support.tensor import TensorSpec

_ACCEPTED = "Give a folder of pictures, .npy or .npz files, of test_data_set_* folders, or one .npy or .npz file."

Specs = tuple[TensorSpec, ...]


def find_samples(source: Path, specs: Specs, recipe: ImageRecipe) -> list[SampleRef]:
    """Return the samples in a folder (and the folders in it) or a file.

    A .npy file whose first size is a multiple of the input's batch holds several samples.

    Raises:
        CalibrationError: there is nothing to read.
    """
    require_source(source)
    if not source.is_dir():
        return _from_file(source, specs, recipe)
    sets = sorted(path for path in source.rglob("test_data_set_*") if path.is_dir())
    if source.name.startswith("test_data_set_"):
        sets = [source]
    if sets:
        return [_test_data(path, specs) for path in sets]
    files = sorted(p for p in source.rglob("*") if p.suffix.lower() in SAMPLE_ENDINGS and p.is_file())
    if not files:
        raise CalibrationError(f"The calibration folder {source} holds no samples.", _ACCEPTED)
    return [ref for path in files for ref in _from_file(path, specs, recipe)]


def require_source(source: Path) -> None:
    """Check that a folder or file of samples is there.

    Raises:
        CalibrationError: it is not.
    """
    why = missing(source)
    if why:
        raise CalibrationError(f"The calibration data {source} {why}.", _ACCEPTED)


def spool_samples(samples: Iterable[Any], specs: Specs, folder: Path) -> list[SampleRef]:
    """Write the samples of an iterable into a folder, one file each, so that they can be read more than once.

    Args:
        samples: dictionaries of arrays by input's name, or arrays for a model with one input.
        specs: the model's inputs.
        folder: receives the files.

    Raises:
        CalibrationError: a sample does not fit the model.
    """
    refs = []
    for number, given in enumerate(samples):
        name = f"sample {number}"
        arrays = given if isinstance(given, Mapping) else {specs[0].name: given}
        sample = fitted(name, {key: np.asarray(value) for key, value in arrays.items()}, specs)
        path = folder / f"{number:08}.npz"
        # Inputs may have names that are no file names: they are stored by position.
        np.savez(path, *(sample[spec.name] for spec in specs))
        refs.append(SampleRef(name, _digest(path, ""), _Spooled(path, specs).load))
    if not refs:
        raise CalibrationError("The calibration data is empty: the iterable gave no sample.", _ACCEPTED)
    return refs


def spool_folder() -> tempfile.TemporaryDirectory[str]:
    """Return a folder for ``spool_samples`` that vanishes when it is closed."""
    return tempfile.TemporaryDirectory(prefix="tvmbuild-samples-")


class _Spooled:
    def __init__(self, path: Path, specs: Specs) -> None:
        self.path, self.specs = path, specs

    def load(self) -> Sample:
        with np.load(self.path, allow_pickle=False) as archive:
            return {spec.name: archive[f"arr_{index}"] for index, spec in enumerate(self.specs)}


def _digest(path: Path, extra: str) -> str:
    try:
        content = sha256_of(path)
    except OSError as error:
        raise CalibrationError(f"{path} cannot be read: {error.strerror}.", "Check its permissions.") from error
    return hashlib.sha256(f"{content}{extra}".encode()).hexdigest() if extra else content


def _from_file(path: Path, specs: Specs, recipe: ImageRecipe) -> list[SampleRef]:
    ending = path.suffix.lower()
    if not path.is_file():
        raise CalibrationError(f"{path} is neither a file nor a folder.", _ACCEPTED)
    if ending == ".npz":
        return [SampleRef(str(path), _digest(path, ""), lambda: _archive(path, specs))]
    if ending not in SAMPLE_ENDINGS:
        raise CalibrationError(f"{path} is no sample.", _ACCEPTED)
    if len(specs) != 1:
        names = ", ".join(spec.name for spec in specs)
        raise CalibrationError(
            f"{path} holds one array; the model has {len(specs)} inputs ({names}).",
            "Put them into one .npz a sample, one array an input, under these names.",
        )
    if ending == ".npy":
        return _from_array(path, specs[0])
    digest = _digest(path, repr(recipe))
    return [SampleRef(str(path), digest, lambda: {specs[0].name: read_image(path, specs[0], recipe)})]


def _from_array(path: Path, spec: TensorSpec) -> list[SampleRef]:
    array = _array(path)
    batch = spec.shape[0] if spec.shape else 1
    several = array.ndim == len(spec.shape) and array.shape[1:] == spec.shape[1:] and array.shape[0] % batch == 0
    count = array.shape[0] // batch if several and array.ndim else 1
    digest = _digest(path, "")

    def load(index: int) -> Sample:
        whole = _array(path)
        part = whole[index * batch : (index + 1) * batch] if count > 1 else whole
        return fitted(f"{path}[{index}]" if count > 1 else str(path), {spec.name: np.asarray(part)}, (spec,))

    return [
        SampleRef(f"{path}[{index}]", hashlib.sha256(f"{digest}{index}".encode()).hexdigest(), lambda i=index: load(i))  # type: ignore[misc]
        for index in range(count)
    ]


def _array(path: Path) -> np.ndarray:
    with as_calibration():
        return read_npy(path)


def _archive(path: Path, specs: Specs) -> Sample:
    with as_calibration():
        arrays = read_archive(specs, path)
    return fitted(str(path), arrays, specs)


def _test_data(folder: Path, specs: Specs) -> SampleRef:
    """Return the sample in a folder of ONNX test data: input_0.pb, input_1.pb, ... in the model's order."""
    files = [folder / f"input_{index}.pb" for index in range(len(specs))]
    absent = [path for path in files if not path.is_file()]
    if absent:
        raise CalibrationError(f"{absent[0]} does not exist; the model has {len(specs)} inputs.", _ACCEPTED)

    def load() -> Sample:
        arrays = {spec.name: _tensor(path) for spec, path in zip(specs, files, strict=True)}
        return fitted(str(folder), arrays, specs)

    return SampleRef(str(folder), hashlib.sha256("".join(_digest(p, "") for p in files).encode()).hexdigest(), load)


def _tensor(path: Path) -> np.ndarray:
    import onnx

    try:
        tensor = onnx.TensorProto.FromString(path.read_bytes())
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ValueError("its values are in another file")
        return np.asarray(onnx.numpy_helper.to_array(tensor))
    # onnx lets KeyError, AttributeError and others out for a type or a size that cannot be.
    except Exception as error:
        raise CalibrationError(f"{path} cannot be read: {error}.", "It must hold one ONNX TensorProto.") from error
