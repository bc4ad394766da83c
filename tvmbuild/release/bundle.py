"""The bundle: everything that a bare board needs to run one model, in one archive."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tvmbuild import progress
from tvmbuild.artifact.archive import write_archive
from tvmbuild.artifact.checksums import SIGNATURE_NAME, SUMS_NAME, sums_text
from tvmbuild.artifact.manifest import Manifest
from tvmbuild.artifact.open import Artifact
from tvmbuild.artifact.staging import staged
from tvmbuild.device import open_device
from tvmbuild.device.check_build import CHECK_NAME, check_program
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.elf import read_elf, version_key
from tvmbuild.release.golden import write_golden
from tvmbuild.release.signing import Signer
from tvmbuild.release.templates import check_name, fill
from tvmbuild.runtime_libs import pinned_versions, runtime_libraries
from tvmbuild.target import Target
from tvmbuild.verify import target_of

#: First line of bundle.conf; native/check/bundle_facts.cc has the same.
_CONF_VERSION = "tvmbuild-bundle 1"
_TEMPLATES = ("run.sh", "example.py", "example.c", "tvmbuild_model.h", "README.txt")
_HEADERS = ("tvm/ffi/c_api.h", "dlpack/dlpack.h")
EXECUTABLES = frozenset({"run.sh", "example.py", CHECK_NAME, RUNNER_NAME})


@dataclass(frozen=True)
class BundleOptions:
    """How to make a bundle.

    Attributes:
        version: the release's version, part of the name.
        output: folder for the archive.
        seed: seed of the golden inputs.
        model_license: file with the model's licence, or None.
        epoch: time of the files in the archive, in seconds since 1970.
    """

    version: str = "0"
    output: Path = Path("dist")
    seed: int = 0
    model_license: Path | None = None
    epoch: int = 0


def write_bundle(artifact: Artifact, options: BundleOptions, signer: Signer | None = None) -> Path:
    """Write ``<name>-<version>.tar.gz`` for an artifact, whole or not at all.

    Args:
        artifact: what was built.
        options: name, place and contents.
        signer: signs the bundle's SHA256SUMS; None leaves it unsigned.

    Returns:
        The archive.

    Raises:
        OptionError: the name or version cannot be a file's name.
        ToolchainError, FetchError, CompileError: the board's programs cannot be made.
        DeviceError: the model does not run on the golden inputs.
        OutputError: the archive cannot be written.
    """
    manifest = artifact.manifest
    check_name(manifest.name, "artifact name")
    check_name(options.version, "version")
    top = f"{manifest.name}-{options.version}"
    archive = options.output / f"{top}.tar.gz"
    with progress.stage(f"bundle {archive.name}"), _collected(artifact, options) as folder:
        files = _files(folder)
        (folder / SUMS_NAME).write_text(sums_text(files), encoding="utf-8")
        if signer is not None:
            (folder / SIGNATURE_NAME).write_bytes(signer.sign((folder / SUMS_NAME).read_bytes()))
        with staged(options.output) as aside:
            write_archive(aside / archive.name, top, _files(folder), EXECUTABLES, options.epoch)
    return archive


def _files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


@contextmanager
def _collected(artifact: Artifact, options: BundleOptions) -> Iterator[Path]:
    """Give a temporary folder with everything but the checksums."""
    manifest, target = artifact.manifest, target_of(artifact)
    with tempfile.TemporaryDirectory(prefix="tvmbuild-bundle-") as scratch:
        folder = Path(scratch)
        library = folder / f"{manifest.name}.so"
        shutil.copyfile(artifact.library, library)
        _copy_programs(target, folder)
        licence = _copy_licenses(target, folder, options.model_license)
        for name in _TEMPLATES:
            (folder / name).write_text(fill(name, manifest, options.version, licence), encoding="utf-8")
        own = tuple(entry for entry in manifest.files if entry.name == library.name)
        text = dataclasses.replace(manifest, files=own).to_json()
        (folder / f"{manifest.name}.json").write_text(text, encoding="utf-8")
        (folder / "golden").mkdir()
        tolerances = write_golden(artifact, open_device("auto", target), folder / "golden", options.seed)
        (folder / "bundle.conf").write_text(_conf(manifest, target, folder, tolerances), encoding="utf-8")
        yield folder


def _copy_programs(target: Target, folder: Path) -> None:
    runner, runtime = runner_folder(target), runtime_libraries(target)
    shutil.copyfile(runner / RUNNER_NAME, folder / RUNNER_NAME)
    shutil.copyfile(check_program(target), folder / CHECK_NAME)
    for library in runtime.libraries:
        shutil.copyfile(library, folder / library.name)
    for header in _HEADERS:
        (folder / "include" / header).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(runtime.include / header, folder / "include" / header)


def _copy_licenses(target: Target, folder: Path, model_license: Path | None) -> str:
    licenses = folder / "licenses"
    shutil.copytree(runtime_libraries(target).folder / "licenses", licenses, copy_function=shutil.copyfile)
    (licenses / "tvmbuild").mkdir()
    shutil.copyfile(_own_license(), licenses / "tvmbuild" / "LICENSE")
    if model_license is None:
        return ""
    (licenses / "model").mkdir()
    shutil.copyfile(model_license, licenses / "model" / "LICENSE")
    return "licenses/model/LICENSE"


def _own_license() -> Path:
    """Return the licence of the runner and the check, in a checkout or an installed package."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "_LICENSE"
    return installed if installed.is_file() else package.parent / "LICENSE"


def _conf(manifest: Manifest, target: Target, folder: Path, tolerances: list[float]) -> str:
    """Return what the board's check reads: what the bundle needs, and how close its outputs must come."""
    binaries = [folder / RUNNER_NAME, folder / CHECK_NAME, *folder.glob("*.so")]
    # A library that calls nothing versioned asks for no glibc.
    glibc = max(filter(None, (read_elf(path).glibc for path in binaries)), key=version_key)
    ffi = ".".join(pinned_versions()[1].split(".")[:3])
    lines = [
        _CONF_VERSION,
        f"name {manifest.name}",
        f"arch {target.arch}",
        f"cpu {target.cpu}",
        *(f"feature {feature}" for feature in target.features),
        f"glibc {glibc}",
        f"tvm-ffi {ffi}",
        *(f"output golden/output_{index}.npy {_decimal(value)}" for index, value in enumerate(tolerances)),
    ]
    return "\n".join([*lines, ""])


def _decimal(value: float) -> str:
    """Return a number without exponent, as the board's check reads it."""
    return f"{value:.12f}".rstrip("0").rstrip(".")
