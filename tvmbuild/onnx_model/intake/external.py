"""Weights in files of their own: allowed only inside the model's folder, whole, and nowhere else."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from onnx import TensorProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.intake.names import unsafe_reason
from tvmbuild.onnx_model.skeleton import is_external, tensor_bytes
from tvmbuild.support.errors import ModelError


@dataclass(frozen=True)
class ExternalFile:
    """A file of weights beside the model.

    Attributes:
        name: path relative to the model's folder, with forward slashes.
        size: bytes.
        sha256: checksum, 64 hex digits.
    """

    name: str
    size: int
    sha256: str


def check_external_data(path: Path, proto: onnx.ModelProto) -> tuple[ExternalFile, ...]:
    """Check every external tensor's file; return the files, in order of name.

    Raises:
        ModelError: a file outside the model's folder, missing, or too short for its tensor.
    """
    files: dict[str, Path] = {}
    missing: set[str] = set()
    for tensor in walk.tensors(proto.graph):
        if is_external(tensor):
            location = _entries(tensor).get("location", "")
            files[location] = _safe_file(path, tensor, location)
            if files[location].is_file():
                _check_extent(path, tensor, files[location])
            else:
                missing.add(location)
    if missing:
        raise ModelError(
            f"{path} keeps its weights in files that are missing: {', '.join(sorted(missing))}.",
            f"Put them beside the model, in {path.resolve().parent}.",
        )
    return tuple(ExternalFile(name, file.stat().st_size, _sha256(path, file)) for name, file in sorted(files.items()))


def shared_bytes(proto: onnx.ModelProto, files: tuple[ExternalFile, ...]) -> int:
    """Return how many bytes more the external tensors take in memory than their files have: they may share them."""
    wanted = sum(tensor_bytes(tensor) for tensor in walk.tensors(proto.graph) if is_external(tensor))
    return max(0, wanted - sum(file.size for file in files))


def _entries(tensor: TensorProto) -> dict[str, str]:
    return {entry.key: entry.value for entry in tensor.external_data}


def _safe_file(path: Path, tensor: TensorProto, location: str) -> Path:
    """Return the file that a tensor's location names, if it lies inside the model's folder."""
    folder = path.resolve().parent
    posix = PurePosixPath(location.replace("\\", "/"))
    outside = not location or posix.is_absolute() or ":" in location[:2] or bool(unsafe_reason(location))
    file = folder / posix
    # resolve() follows links, so a link that leads out of the folder is caught too.
    if outside or "\0" in location or not file.resolve().is_relative_to(folder):
        raise ModelError(
            f"{path}: the tensor '{tensor.name}' wants its data from {location!a}, outside the model's folder.",
            "External data is read only from the model's own folder; do not trust this file unless you made it.",
        )
    return file


def _check_extent(path: Path, tensor: TensorProto, file: Path) -> None:
    """Check that the bytes that a tensor claims are in the file."""
    entries = _entries(tensor)
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", 0)) or tensor_bytes(tensor)
    except ValueError as error:
        raise ModelError(f"{path}: the tensor '{tensor.name}' has an external offset that is no number.") from error
    size = file.stat().st_size
    if offset < 0 or length < 0 or offset + length > size:
        raise ModelError(
            f"{path}: the tensor '{tensor.name}' needs bytes {offset} to {offset + length} of {file.name}, which has"
            f" {size} bytes.",
            "The data file is truncated or belongs to another model; get both from their source again.",
        )


def _sha256(path: Path, file: Path) -> str:
    digest = hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise ModelError(f"{path} keeps weights in {file}, which cannot be read: {error}.") from error
    return digest.hexdigest()
