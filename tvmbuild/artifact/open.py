"""Find and check the files of an artifact from any one of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.artifact.manifest import Manifest, read_manifest
from tvmbuild.errors import ArtifactError

#: The files of an artifact, by their ending.
ENDINGS = (".json", ".so", ".tar")


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk whose files have the checksums that its manifest says."""

    folder: Path
    manifest: Manifest

    @property
    def library(self) -> Path:
        """The shared library."""
        return self.folder / f"{self.manifest.name}.so"

    @property
    def archive(self) -> Path:
        """The .tar that ``tvm.runtime.load_module`` links on the board."""
        return self.folder / f"{self.manifest.name}.tar"


def looks_like_artifact(path: Path) -> bool:
    """Whether a path names a file of an artifact by its ending."""
    return path.suffix in ENDINGS


def open_artifact(path: Path) -> Artifact:
    """Open an artifact by its .json, .so or .tar, or by the stem of the three.

    Raises:
        ArtifactError: a file is missing, or its bytes are not those that the manifest names.
    """
    stem = path.with_suffix("") if looks_like_artifact(path) else path
    manifest_path = stem.parent / f"{stem.name}.json"
    manifest = read_manifest(manifest_path)
    for entry in manifest.files:
        if Path(entry.name).name != entry.name:
            raise ArtifactError(f"{manifest_path} names a file outside its folder ({entry.name!r}).", _AGAIN)
        file = manifest_path.parent / entry.name
        if not file.is_file():
            raise ArtifactError(f"{file} is missing; {manifest_path.name} lists it.", _AGAIN)
        if sha256_of(file) != entry.sha256:
            raise ArtifactError(f"{file} is damaged: its SHA-256 is not the one in {manifest_path.name}.", _AGAIN)
    return Artifact(manifest_path.parent, manifest)


_AGAIN = "Copy the artifact again, or build it again with 'tvmbuild build'."
