"""One bundle of a release: packed from its artifacts, or taken from the cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.artifact.build_store import BuildStore, StoreEntry
from tvmbuild.artifact.open import open_artifact
from tvmbuild.releases.bundle import BundleOptions, write_bundle
from tvmbuild.releases.cell import CellResult, tree_digest
from tvmbuild.releases.signing import Signer


@dataclass(frozen=True)
class Packed:
    """A bundle.

    Attributes:
        archive: the file, in the cache.
        made: the artifacts in it.
        entry: where it lies in the cache.
    """

    archive: Path
    made: tuple[CellResult, ...]
    entry: StoreEntry


def pack(
    name: str, made: Sequence[CellResult], store: BuildStore, version: str, signer: Signer | None, epoch: int
) -> Packed:
    """Bundle a model, built for one board or several, or take what the cache has of it.

    Args:
        name: of the bundle, without the version.
        made: its artifacts.
        store: the cache.
        version: the release's.
        signer: signs the bundle's SHA256SUMS; None leaves it unsigned.
        epoch: time of the files in the archive, in seconds since 1970.

    Raises:
        VerificationError: one board's library gives other outputs than another's.
        TvmbuildError: as ``write_bundle``.
    """
    model_license = made[0].cell.model_license
    inputs = {
        **{f"the artifact {one.manifest.name}": one.entry.folder.name for one in made},
        "the version": version,
        "the key": signer.public_digest() if signer else "",
        "the model's licence": tree_digest(model_license) if model_license else "",
        "SOURCE_DATE_EPOCH": str(epoch),
    }

    def make(folder: Path) -> None:
        artifacts = [open_artifact(one.entry.folder / f"{one.manifest.name}.so") for one in made]
        options = BundleOptions(name=name, version=version, output=folder, model_license=model_license, epoch=epoch)
        write_bundle(artifacts, options, signer)

    entry = store.get(f"{name}.bundle", inputs, make)
    return Packed(entry.folder / f"{name}-{version}.tar.gz", tuple(made), entry)
