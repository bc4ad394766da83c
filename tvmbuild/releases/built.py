"""What ``tvmbuild build`` made, kept in the cache: a release verifies and packs it, and does not compile it again."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Mapping
from pathlib import Path

from tvmbuild.artifact.build_store import BuildStore, files_of
from tvmbuild.artifact.manifest import file_entry
from tvmbuild.pipeline import BuildResult
from tvmbuild.support.errors import ArtifactError, TvmbuildError

#: Sets these entries apart from those of a release, which are verified.
_KIND = {"the kind": "an artifact of 'tvmbuild build'"}


def keep_build(inputs: Mapping[str, str], result: BuildResult) -> None:
    """Keep a build in this machine's cache; where that is not possible nothing is kept.

    Args:
        inputs: everything that it depends on, gathered before it was built.
        result: what was built.
    """
    manifest = result.manifest
    names = [*(entry.name for entry in manifest.files), f"{manifest.name}.json"]
    names += [result.model.name] if result.quantized else []

    def make(folder: Path) -> None:
        for name in names:
            shutil.copyfile(result.folder / name, folder / name)
        if any(file_entry(folder / entry.name) != entry for entry in manifest.files):
            raise ArtifactError(f"{result.folder} was changed meanwhile.")

    # A full disk, say, is no reason for a build to fail that is done.
    with contextlib.suppress(TvmbuildError, OSError), BuildStore() as store:
        store.get(f"{manifest.name}.build", {**inputs, **_KIND}, make)


def take_build(inputs: Mapping[str, str], store: BuildStore, folder: Path) -> bool:
    """Copy a kept build into a folder; False if there is none."""
    entry = store.find({**inputs, **_KIND})
    for path in files_of(entry) if entry else ():
        shutil.copyfile(path, folder / path.name)
    return entry is not None
