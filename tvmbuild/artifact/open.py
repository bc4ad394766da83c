"""Open an artifact by any one of its files, or a bundle: each library carries the manifest."""

from __future__ import annotations

import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.artifact.archive import extract_archive
from tvmbuild.artifact.checksums import SUMS_NAME, check_sums
from tvmbuild.artifact.digest import sha256_of
from tvmbuild.artifact.embedded import LARGEST, OBJECT_NAME, read_embedded
from tvmbuild.artifact.manifest import Manifest, parse_manifest, read_manifest
from tvmbuild.artifact.members import Archive, members
from tvmbuild.support.atomic.moves import finish_moves
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.errors import ArtifactError
from tvmbuild.support.paths import is_file

#: The files of an artifact, by their ending.
ENDINGS = (".json", ".so", ".tar")
BUNDLE_ENDING = ".tar.gz"


@dataclass(frozen=True)
class Artifact:
    """An artifact on disk whose files have the checksums that its manifest says.

    Attributes:
        folder: where its files lie.
        manifest: what it says of itself.
        stem: stem of its files; "" for the manifest's name.
    """

    folder: Path
    manifest: Manifest
    stem: str = ""

    @property
    def library(self) -> Path:
        """The shared library; without the .json it may be missing."""
        return self.folder / f"{self.stem or self.manifest.name}.so"

    @property
    def archive(self) -> Path:
        """The .tar that ``tvm.runtime.load_module`` links on the board; without the .json it may be missing."""
        return self.folder / f"{self.stem or self.manifest.name}.tar"


def looks_like_artifact(path: Path) -> bool:
    """Whether a path names a file of an artifact by its ending, a bundle or the folder of an unpacked one."""
    return path.suffix in ENDINGS or path.name.endswith(BUNDLE_ENDING) or is_file(path / SUMS_NAME)


def is_bundle(path: Path) -> bool:
    """Whether a path names a bundle, packed or unpacked."""
    return path.name.endswith(BUNDLE_ENDING) or (path / SUMS_NAME).is_file()


def open_artifact(path: Path, target: str = "") -> Artifact:
    """Open an artifact by its .json, .so or .tar, by the stem of the three, or by its bundle.

    With the .json beside it each file's checksum is compared. A .so or .tar on its own tells what it is by the manifest
    inside.

    Args:
        path: a file of it, or a bundle, packed or unpacked.
        target: name of the board, where a bundle is for several; "" for the only one.

    Raises:
        ArtifactError: a file is missing, its bytes are not those that the manifest names, or it carries no manifest; or
            there is none, or more than one, for the target.
    """
    found = open_artifacts(path)
    fitting = [each for each in found if target in ("", each.manifest.target["name"])]
    if len(fitting) != 1:
        names = ", ".join(str(each.manifest.target["name"]) for each in found)
        wanted = f"not for {target}" if target else "and you named none"
        raise ArtifactError(f"{path} is for {names}, {wanted}.", f"Name one of them: -t {names.split(',')[0]}")
    return fitting[0]


def open_artifacts(path: Path) -> list[Artifact]:
    """Open an artifact, or all those of a bundle, in the order of their names.

    Raises:
        ArtifactError: as ``open_artifact``.
    """
    if path.name.endswith(BUNDLE_ENDING):
        return _open_bundle(unpacked_bundle(path))
    if is_file(path / SUMS_NAME):
        return _open_bundle(path)
    return [_open_files(path)]


def _open_files(path: Path) -> Artifact:
    _end_moves(path.parent)
    try:
        return _opened(path)
    except ArtifactError:
        if not _end_moves(path.parent):
            raise
        return _opened(path)


def _end_moves(folder: Path) -> bool:
    """Wait for a build that moves its files, or end the moves of a killed one; the checksums judge what cannot be."""
    with suppress(OSError):
        return finish_moves(folder)
    return False


def _opened(path: Path) -> Artifact:
    stem = path.with_suffix("") if path.suffix in ENDINGS else path
    side = stem.parent / f"{stem.name}.json"
    if path.suffix in (".so", ".tar") and not is_file(side):
        manifest = parse_manifest(_embedded(path), f"inside {path}")
        return Artifact(path.parent, manifest, stem.name)
    manifest = read_manifest(side)
    for entry in manifest.files:
        if Path(entry.name).name != entry.name:
            raise ArtifactError(f"{side} names a file outside its folder ({entry.name!r}).", _AGAIN)
        file = side.parent / entry.name
        if not is_file(file):
            raise ArtifactError(f"{file} is missing; {side.name} lists it.", _AGAIN)
        if _digest(file) != entry.sha256:
            raise ArtifactError(f"{file} is damaged: its SHA-256 is not the one in {side.name}.", _AGAIN)
    return Artifact(side.parent, manifest)


def _digest(file: Path) -> str:
    try:
        return sha256_of(file)
    except OSError as error:
        raise ArtifactError(f"{file} cannot be read: {error.strerror}.", "Change its permissions.") from error


_AGAIN = "Copy the artifact again, or build it again with 'tvmbuild build'."


def unpacked_bundle(archive: Path) -> Path:
    """Return the folder of a bundle's files, in the cache by the archive's checksum."""
    if not archive.is_file():
        # A pipe would be waited for without end.
        what = "is no file" if archive.exists() else "does not exist"
        raise ArtifactError(f"The bundle {archive} {what}.", "Check the path.")
    try:
        digest = sha256_of(archive)
    except OSError as error:
        raise ArtifactError(f"The bundle {archive} cannot be read: {error.strerror}.", "Check the path.") from error
    folder = cached_folder(f"bundle-{digest[:16]}", lambda made: check_sums(made / extract_archive(archive, made)))
    return next(path for path in folder.iterdir() if path.is_dir())


def _open_bundle(folder: Path) -> list[Artifact]:
    check_sums(folder)
    manifests = sorted(folder.glob("*.json"))
    if not manifests:
        raise ArtifactError(f"The bundle {folder} holds no manifest.", _AGAIN)
    return [_open_files(path) for path in manifests]


def _embedded(path: Path) -> str:
    """Return the text of the manifest inside a .so or .tar."""
    if path.suffix == ".tar":
        return _embedded_in_archive(path)
    try:
        with path.open("rb") as stream:
            return read_embedded(stream, str(path))
    except OSError as error:
        raise ArtifactError(f"{path} cannot be read: {error.strerror}.", _AGAIN) from error


def _embedded_in_archive(path: Path) -> str:
    archive = Archive(path, "archive of objects", _AGAIN)
    for member in members(archive):
        if member.name == OBJECT_NAME:
            if not 0 < member.header.size <= LARGEST:
                raise archive.refused(f"its {OBJECT_NAME} is no file of a possible size")
            return read_embedded(io.BytesIO(member.read()), f"{OBJECT_NAME} in {path}")
    raise ArtifactError(f"{path} carries no manifest of tvmbuild.", "Build it with 'tvmbuild build'.")
