"""A library from a .tar that came alone: its objects are linked here as they would be on the board."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.artifact.members import Archive, members
from tvmbuild.artifact.open import Artifact
from tvmbuild.codegen.link import link_library
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.support.cache import cached_folder
from tvmbuild.target.target import Target


def with_library(artifact: Artifact, target: Target) -> Artifact:
    """Return an artifact whose library is there: itself, or one whose library is linked from the .tar into the cache.

    Raises:
        ArtifactError: the .tar is damaged, or holds something that is no object.
        ToolchainError: no linker for the target is installed.
        CompileError: the linker refused the objects.
    """
    if artifact.library.exists() or not artifact.archive.is_file():
        return artifact
    toolchain = find_toolchain(target)
    stem = artifact.stem or artifact.manifest.name

    def make(folder: Path) -> None:
        objects = extract_objects(artifact.archive, folder)
        link_library(objects, folder / f"{stem}.so", target, toolchain)

    key = f"{sha256_of(artifact.archive)[:16]}-{toolchain.name}"
    return replace(artifact, folder=cached_folder(f"linked-{key}", make), stem=stem)


def extract_objects(archive: Path, folder: Path) -> list[Path]:
    """Copy the objects of a .tar into a folder, and return them.

    Raises:
        ArtifactError: the .tar is damaged, or has a member that is no plain file with a plain name.
    """
    paths = []
    packed = Archive(archive, "archive of objects", "Copy it again, or build it again.")
    for member in members(packed):
        if "/" in member.name or not member.name.endswith(".o"):
            raise packed.refused(f"{member.name!r} is no object")
        paths.append(folder / member.name)
        member.write(paths[-1])
    return paths
