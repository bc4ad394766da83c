"""The manifest: what an artifact says of itself.

A JSON file beside the libraries, and the same without checksums inside each of them. It holds nothing of when, where or
by whom it was built, so that the same inputs give the same bytes.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.artifact.manifest_form import ManifestForm
from tvmbuild.support.border import Border, shown
from tvmbuild.support.errors import ArtifactError
from tvmbuild.support.paths import missing
from tvmbuild.support.precision import Precision
from tvmbuild.support.tensor import LARGEST_ELEMENTS, TensorSpec

FORMAT = "tvmbuild-manifest"
#: Raised when a reader of the older version would misunderstand a newer manifest.
VERSION = 2
#: In this one options had a flag "fp16", and the model's rounding was called its precision.
_WITH_FLAGS = 1


@dataclass(frozen=True)
class FileEntry:
    """One file of the artifact: name without folder, size in bytes, SHA-256 in hexadecimal."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What an artifact says of itself.

    Attributes:
        name: stem of its files.
        model: file name, sha256, opset and what preparation did to it.
        inputs: in the order of the library's ``main``, with the ONNX names.
        outputs: likewise.
        target: the target's description, whole.
        toolchain: name and version of what linked it.
        packages: versions of the packages that shaped it.
        files: the libraries; empty in the manifest inside a library, which cannot hold its own checksum.
        fusion: counts of each graph pass, kernels with their fused operators, what stayed alone and why.
        memory: planned and naive bytes of intermediate tensors.
        options: what the build was told.
    """

    name: str
    model: dict[str, Any]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    target: dict[str, Any]
    toolchain: dict[str, str]
    packages: dict[str, str]
    files: tuple[FileEntry, ...] = ()
    fusion: dict[str, Any] = field(default_factory=dict)
    memory: dict[str, int] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the file's text: keys in a fixed order, one value a line."""
        return json.dumps({"format": FORMAT, "version": VERSION, **asdict(self)}, indent=1, ensure_ascii=False) + "\n"


def file_entry(path: Path) -> FileEntry:
    """Describe a file that exists."""
    return FileEntry(path.name, path.stat().st_size, sha256_of(path))


def read_manifest(path: Path) -> Manifest:
    """Read a manifest.

    Raises:
        ArtifactError: missing, not ours, damaged, or made by a newer tvmbuild.
    """
    if missing(path) == "does not exist":
        raise ArtifactError(f"The manifest {path} does not exist.", "Check the path, or build the artifact.")
    return parse_manifest(_BORDER.text(path), str(path))


def parse_manifest(text: str, path: str) -> Manifest:
    """Return the manifest of which this is the text; ``path`` says in errors where it is from.

    Raises:
        ArtifactError: not ours, damaged, or made by a newer tvmbuild.
    """
    content = _BORDER.parse_json(text, path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f"{path} is not a manifest of tvmbuild.", "Give the .json, .so or .tar that 'build' wrote.")
    if content.get("version") == _WITH_FLAGS:
        content = _from_flags(content)
    if content.get("version") != VERSION:
        raise ArtifactError(
            f"{path} has manifest version {shown(content.get('version'))}; this tvmbuild reads "
            f"versions {_WITH_FLAGS} to {VERSION}.",
            "Use the tvmbuild that built it, or build it again with this one.",
        )
    form = _BORDER.checked(content, ManifestForm, path, closed=False)
    try:
        _check_values(form)
    except (ValueError, TypeError, OverflowError) as error:
        raise _BORDER.unreadable(path, error) from error
    return Manifest(
        name=form.name,
        model=content["model"],
        inputs=tuple(TensorSpec(each.name, each.dtype, each.shape) for each in form.inputs),
        outputs=tuple(TensorSpec(each.name, each.dtype, each.shape) for each in form.outputs),
        target=content["target"],
        toolchain=content["toolchain"],
        packages=content["packages"],
        files=tuple(FileEntry(each.name, each.bytes, each.sha256) for each in form.files),
        fusion=content["fusion"],
        memory=content["memory"],
        options=content["options"],
    )


def _from_flags(content: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest of the older version as one of today; what is wrong in it stays so."""
    told, model = content.get("options"), content.get("model")
    if isinstance(told, dict):
        half = told.get("fp16", False)
        precision = (Precision.FP16 if half else Precision.FP32).value if isinstance(half, bool) else half
        told = {**{name: value for name, value in told.items() if name != "fp16"}, "precision": precision}
    if isinstance(model, dict):
        model = {"rounding" if name == "precision" else name: value for name, value in model.items()}
    return {**content, "version": VERSION, "options": told, "model": model}


def _check_values(form: ManifestForm) -> None:
    """Check what types cannot say.

    Raises:
        ValueError, TypeError, OverflowError: a name that is none, a tensor of an impossible size, frozen values that
            are no array of their dtype.
    """
    for name in (form.name, *(each.name for each in form.files)):
        if "\0" in name or len(name.encode()) > _LONGEST_NAME:
            raise ValueError(f"{shown(name)} is no file's name")
    for tensor in (*form.inputs, *form.outputs):
        if math.prod(tensor.shape) > LARGEST_ELEMENTS:
            raise ValueError(f"'{tensor.name}' is larger than any kernel can index")
    for each in form.model.frozen.values():
        np.array(each.value, dtype="float32" if each.dtype == "bfloat16" else each.dtype)


_AGAIN = "Build the artifact again with 'tvmbuild build'."
_BORDER = Border("The manifest", ArtifactError, _AGAIN)
#: Bytes, on Linux, less the ending of a library.
_LONGEST_NAME = 250
