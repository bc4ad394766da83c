"""The bundle: everything that a bare board needs to run one model, in one archive; for one kind of board or several."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.artifact.archive import write_archive
from tvmbuild.artifact.checksums import SIGNATURE_NAME, SUMS_NAME, sums_text
from tvmbuild.artifact.manifest import file_entry
from tvmbuild.artifact.open import Artifact
from tvmbuild.checking.verify import rounding_in, target_of
from tvmbuild.codegen.elf import neighbours, read_elf, version_key
from tvmbuild.codegen.runtime_libs import pinned_versions, runtime_libraries
from tvmbuild.device import open_device
from tvmbuild.device.check_build import CHECK_NAME, check_program
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.device.threads_build import THREADS_NAME, threads_library
from tvmbuild.releases.golden import GoldenOutput, write_golden
from tvmbuild.releases.shared_weights import link_together
from tvmbuild.releases.signing import Signer
from tvmbuild.releases.templates import check_name, fill
from tvmbuild.support import progress
from tvmbuild.support.atomic.staging import check_writable, staged
from tvmbuild.support.errors import OptionError
from tvmbuild.support.place import BESIDE, PACKAGE
from tvmbuild.target.target import Target

#: First line of bundle.conf, whose grammar is in docs/release.md; native/check/bundle_facts.cc reads it.
_CONF_VERSION = "tvmbuild-bundle 1"
_TEMPLATES = ("run.sh", "example.py", "example.c", "tvmbuild_model.h", "README.txt")
_HEADERS = ("tvm/ffi/c_api.h", "dlpack/dlpack.h")
EXECUTABLES = frozenset({"run.sh", "example.py", CHECK_NAME, RUNNER_NAME})


@dataclass(frozen=True)
class BundleOptions:
    """How to make a bundle.

    Attributes:
        name: of the bundle, without the version; "" for the artifact's, or the model's with all targets.
        version: the release's version, part of the archive's name.
        output: folder for the archive.
        seed: seed of the golden inputs.
        model_license: file with the model's licence, or None.
        epoch: time of the files in the archive, in seconds since 1970.
    """

    name: str = ""
    version: str = "0"
    output: Path = Path("dist")
    seed: int = 0
    model_license: Path | None = None
    epoch: int = 0


def write_bundle(artifacts: Sequence[Artifact], options: BundleOptions, signer: Signer | None = None) -> Path:
    """Write ``<name>-<version>.tar.gz`` for a model, whole or not at all.

    Args:
        artifacts: the model, built for each board; on a board the one that suits its core best is run.
        options: name, place and contents.
        signer: signs the bundle's SHA256SUMS; None leaves it unsigned.

    Returns:
        The archive.

    Raises:
        OptionError: the name or version cannot be a file's name, or the artifacts are not one model.
        ToolchainError, FetchError, CompileError: the board's programs cannot be made.
        DeviceError: the model does not run on the golden inputs.
        VerificationError: one board's library of the same model gives other outputs than another's.
        OutputError: the archive cannot be written.
    """
    name = options.name or _default_name(artifacts)
    for artifact in artifacts:
        check_name(artifact.manifest.name, "artifact name")
    check_name(name, "bundle name")
    check_name(options.version, "version")
    _check_one_model(artifacts)
    top = f"{name}-{options.version}"
    archive = options.output / f"{top}.tar.gz"
    check_writable(options.output, archive.name)
    for artifact in artifacts:
        # The golden inputs run at the end: that they can is known now.
        open_device("auto", target_of(artifact))
    with progress.stage(f"bundle {archive.name}"), _collected(artifacts, name, options) as folder:
        files = _files(folder)
        (folder / SUMS_NAME).write_text(sums_text(files), encoding="utf-8")
        if signer is not None:
            (folder / SIGNATURE_NAME).write_bytes(signer.sign((folder / SUMS_NAME).read_bytes()))
        with staged(options.output) as aside:
            write_archive(aside / archive.name, top, _files(folder), EXECUTABLES, options.epoch)
    return archive


def _files(folder: Path) -> dict[str, Path]:
    return {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}


def _default_name(artifacts: Sequence[Artifact]) -> str:
    if len(artifacts) == 1:
        return artifacts[0].manifest.name
    targets = "+".join(str(artifact.manifest.target["name"]) for artifact in artifacts)
    return f"{Path(artifacts[0].manifest.model['file']).stem}-{targets}"


def _check_one_model(artifacts: Sequence[Artifact]) -> None:
    # Boards leave other layers in float where int8 does not pay there: their int8 models have one name, and may differ.
    key = "file" if any(rounding_in(artifact).code_bits for artifact in artifacts) else "sha256"

    def interface(artifact: Artifact) -> tuple[object, ...]:
        manifest = artifact.manifest
        return manifest.model[key], manifest.inputs, manifest.outputs, target_of(artifact).arch

    names = [artifact.manifest.name for artifact in artifacts]
    other = [artifact.manifest.name for artifact in artifacts if interface(artifact) != interface(artifacts[0])]
    if other:
        raise OptionError(
            f"{other[0]} and {names[0]} are not one model with one shape for one architecture.", "Bundle each alone."
        )
    if len(set(names)) < len(names):
        raise OptionError("An artifact is given twice.", "Give one artifact a board.")


@contextmanager
def _collected(artifacts: Sequence[Artifact], name: str, options: BundleOptions) -> Iterator[Path]:
    """Give a temporary folder with everything but the checksums."""
    targets = [target_of(artifact) for artifact in artifacts]
    # The board's programs are for the oldest glibc among the targets.
    oldest = min(targets, key=lambda target: version_key(target.glibc))
    with tempfile.TemporaryDirectory(prefix="tvmbuild-bundle-") as scratch:
        folder = Path(scratch)
        _copy_programs(oldest, folder)
        licence = _copy_licenses(oldest, folder, options.model_license)
        manifests = [artifact.manifest for artifact in artifacts]
        for template in _TEMPLATES:
            text = fill(template, name, manifests, options.version, licence)
            (folder / template).write_text(text, encoding="utf-8")
        packed = _put_libraries(artifacts, targets, folder)
        golden = write_golden(packed, folder, options.seed)
        (folder / "bundle.conf").write_text(_conf(name, packed, targets, golden), encoding="utf-8")
        yield folder


def _put_libraries(artifacts: Sequence[Artifact], targets: Sequence[Target], folder: Path) -> list[Artifact]:
    """Bring libraries and manifests into the bundle; return them as they are there."""
    for artifact in artifacts:
        shutil.copyfile(artifact.library, folder / f"{artifact.manifest.name}.so")
    # A library that came without its .tar cannot be linked anew.
    linkable = [pair for pair in zip(artifacts, targets, strict=True) if pair[0].archive.is_file()]
    if len(linkable) > 1:
        link_together(linkable, folder)
    packed = []
    for artifact in artifacts:
        library = folder / f"{artifact.manifest.name}.so"
        files = tuple(map(file_entry, (library, *neighbours(library))))
        packed.append(Artifact(folder, dataclasses.replace(artifact.manifest, files=files)))
        (folder / f"{artifact.manifest.name}.json").write_text(packed[-1].manifest.to_json(), encoding="utf-8")
    return packed


def _copy_programs(target: Target, folder: Path) -> None:
    runner, runtime = runner_folder(target), runtime_libraries(target)
    shutil.copyfile(runner / RUNNER_NAME, folder / RUNNER_NAME)
    shutil.copyfile(check_program(target), folder / CHECK_NAME)
    shutil.copyfile(threads_library(target), folder / THREADS_NAME)
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
    installed = PACKAGE / "_LICENSE"
    return installed if installed.is_file() else BESIDE / "LICENSE"


def _conf(
    name: str, packed: Sequence[Artifact], targets: Sequence[Target], golden: Sequence[Sequence[GoldenOutput]]
) -> str:
    """Return what the board's check reads: what the bundle needs, and how close its outputs must come."""
    folder = packed[0].folder
    binaries = [folder / RUNNER_NAME, folder / CHECK_NAME, *folder.glob("*.so")]
    # A library that calls nothing versioned asks for no glibc.
    glibc = max(filter(None, (read_elf(path).glibc for path in binaries)), key=version_key)
    ffi = ".".join(pinned_versions()[1].split(".")[:3])
    lines = [_CONF_VERSION, f"name {name}", f"arch {targets[0].arch}", f"glibc {glibc}", f"tvm-ffi {ffi}"]
    # Each value is a word of the grammar: names are checked by check_name, the targets' fields by their own rules.
    for artifact, target, outputs in zip(packed, targets, golden, strict=True):
        lines += [f"library {artifact.manifest.name}", f"cpu {target.cpu}"]
        lines += [f"feature {feature}" for feature in target.features]
        lines += [f"output {output.path} {_decimal(output.tolerance)}" for output in outputs]
    return "\n".join([*lines, ""])


def _decimal(value: float) -> str:
    """Return a number without exponent, as the board's check reads it."""
    return f"{value:.12f}".rstrip("0").rstrip(".")
