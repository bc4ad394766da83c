"""The manifest: what an artifact says of itself.

A JSON file beside the libraries, and the same without checksums inside each of them. It holds nothing of when, where or
by whom it was built, so that the same inputs give the same bytes.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.errors import ArtifactError
from tvmbuild.tensor import TensorSpec

FORMAT = "tvmbuild-manifest"
#: Raised when a reader of the older version would misunderstand a newer manifest.
VERSION = 1


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
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ArtifactError(f"The manifest {path} does not exist.", "Check the path, or build the artifact.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"The manifest {path} cannot be read: {error}.", _AGAIN) from error
    return parse_manifest(text, str(path))


def parse_manifest(text: str, path: str) -> Manifest:
    """Return the manifest of which this is the text; ``path`` says in errors where it is from.

    Raises:
        ArtifactError: not ours, damaged, or made by a newer tvmbuild.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ArtifactError(f"The manifest {path} cannot be read: {error}.", _AGAIN) from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f"{path} is not a manifest of tvmbuild.", "Give the .json, .so or .tar that 'build' wrote.")
    if content.get("version") != VERSION:
        raise ArtifactError(
            f"{path} has manifest version {content.get('version')}; this tvmbuild reads version {VERSION}.",
            "Use the tvmbuild that built it, or build it again with this one.",
        )
    try:
        return _from_json(content)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ArtifactError(f"The manifest {path} is damaged ({type(error).__name__}: {error}).", _AGAIN) from error


_AGAIN = "Build the artifact again with 'tvmbuild build'."


def _from_json(content: dict[str, Any]) -> Manifest:
    def specs(items: list[dict[str, Any]]) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(str(item["name"]), str(item["dtype"]), tuple(int(size) for size in item["shape"]))
            for item in items
        )

    return Manifest(
        name=str(content["name"]),
        model=dict(content["model"]),
        inputs=specs(content["inputs"]),
        outputs=specs(content["outputs"]),
        target=dict(content["target"]),
        toolchain=dict(content["toolchain"]),
        packages=dict(content["packages"]),
        files=tuple(FileEntry(str(e["name"]), int(e["bytes"]), str(e["sha256"])) for e in content["files"]),
        fusion=dict(content["fusion"]),
        memory=dict(content["memory"]),
        options=dict(content["options"]),
    )
