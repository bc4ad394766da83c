"""One cell of a release: build it and verify it, or take it from the cache."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.artifact.build_store import BuildStore, StoreEntry, files_of
from tvmbuild.artifact.dependencies import quantization_files
from tvmbuild.artifact.digest import sha256_of
from tvmbuild.artifact.manifest import Manifest, read_manifest
from tvmbuild.artifact.open import Artifact
from tvmbuild.checking.samples import load_samples
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.onnx_model.intake.open import open_model
from tvmbuild.onnx_model.prepare import open_fixed
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.releases.plan import Cell
from tvmbuild.schedules.registry import NAIVE
from tvmbuild.support.border import Border, NotNegative
from tvmbuild.support.budget import Budget, parse_limits
from tvmbuild.support.cache import cache_root
from tvmbuild.support.errors import ArtifactError, InputDataError, SlowKernelError, TargetError
from tvmbuild.support.options import BuildOptions, QuantizeOptions, VerifyOptions
from tvmbuild.support.place import PACKAGE
from tvmbuild.support.versions import package_versions
from tvmbuild.target.target import Target

_VERIFICATION = "verification.json"
_PREDICTION = "prediction.json"
#: Options that say where something goes, not what is made.
_PLACES = ("output", "dump_ir", "target", "compare", "seed", "limit", "strict")


@dataclass(frozen=True)
class CellResult:
    """What a cell gave.

    Attributes:
        cell: what was asked for.
        entry: where it lies in the cache.
        files: the library, its .tar, its manifest and, for int8, the quantized model.
        manifest: of the library.
        verification: what ``verify`` reported, as JSON has it.
        prediction: what ``bench --predict`` reports in sum; None if that was not asked for or the core has no model.
        taken: whether ``tvmbuild build`` had made the artifact, and it was only verified now.
    """

    cell: Cell
    entry: StoreEntry
    files: tuple[Path, ...]
    manifest: Manifest
    verification: dict[str, Any]
    prediction: dict[str, Any] | None
    taken: bool = False


def make_cell(cell: Cell, store: BuildStore) -> CellResult:
    """Build and verify one cell, or take what the cache has of it.

    Raises:
        VerificationError: the artifact differs from ONNX Runtime.
        SlowKernelError: a kernel that multiplies has no fast schedule, and the release is strict.
        TvmbuildError: any of the classes in ``errors.py``, by the stage that failed.
    """
    name = cell.options.name
    taken = False

    def make(folder: Path) -> None:
        nonlocal taken
        taken = _build(cell, store, folder)

    built = store.get(name, build_inputs(cell), make)
    files = tuple(path for path in files_of(built) if path.name not in (_VERIFICATION, _PREDICTION))
    verification = _stored(built.folder / _VERIFICATION, _VerificationForm)
    predicted = built.folder / _PREDICTION
    prediction = _stored(predicted, _PredictionForm) if predicted.exists() else None
    manifest = read_manifest(built.folder / f"{name}.json")
    if cell.options.strict:
        # What was taken may have been built without.
        _require_schedules(manifest)
    return CellResult(cell, built, files, manifest, verification, prediction, taken)


def _require_schedules(manifest: Manifest) -> None:
    slow = [each for each in manifest.fusion["kernels"] if each["kind"] == NAIVE and each["mac_share"] > 0]
    if slow:
        raise SlowKernelError(
            f"{manifest.name}: {'+'.join(slow[0]['ops'])} ({slow[0]['workload']}) has no fast schedule, with "
            f"{slow[0]['mac_share']:.1%} of the multiply-accumulates.",
            "Please report it with the model. Set strict = false in [release] to publish it as it is.",
        )


@dataclass(frozen=True)
class _SpecForm:
    """An output's name."""

    name: str


@dataclass(frozen=True)
class _OutputForm:
    """How an output compares."""

    spec: _SpecForm
    relative: float
    tolerance: float
    passed: bool


@dataclass(frozen=True)
class _VerificationForm:
    """What is read of a verification."""

    outputs: tuple[_OutputForm, ...]
    device: str


@dataclass(frozen=True)
class _PredictionForm:
    """What is read of a prediction."""

    milliseconds: NotNegative | None


_BORDER = Border("The cached report", ArtifactError, "Remove it from the cache, and from the remote one.")


def _stored(path: Path, form: type[Any]) -> dict[str, Any]:
    """Return a report of an entry, which another machine may have made."""
    content: dict[str, Any] = _BORDER.json(path)
    _BORDER.checked(content, form, path, closed=False)
    return content


def check_cell(cell: Cell) -> None:
    """Check what can be checked of a cell before any is built: options, files, toolchain, the model's shapes.

    Raises:
        TvmbuildError: any of the classes in ``errors.py``, as the build would.
    """
    from tvmbuild import pipeline
    from tvmbuild.quantization.checks import check_options

    pipeline.check_build(cell.model, cell.target, dataclasses.replace(cell.options, output=cache_root()))
    if cell.quantization:
        check_options(cell.quantization, cell.options.calibrate)
    budget = Budget(cell.model, parse_limits(cell.options.limit))
    open_fixed(cell.model, parse_shapes(cell.options.shape), parse_values(cell.options.value), budget)


def build_inputs(cell: Cell) -> dict[str, str]:
    """Return everything that a cell depends on, by names for people."""
    inputs = artifact_inputs(cell.model, cell.target, cell.options, cell.quantization)
    return {**inputs, "the tolerance": str(cell.tolerance), "the prediction": str(cell.predict)}


def artifact_inputs(
    path: Path, target: Target, build_options: BuildOptions, quantization: QuantizeOptions | None
) -> dict[str, str]:
    """Return everything that an artifact depends on, by names for people.

    Args:
        path: the ONNX file.
        target: the board.
        build_options: how it is built; ``name`` is set.
        quantization: how a float model becomes an int8 one, or None.

    Raises:
        TvmbuildError: the model, the toolchain or a file cannot be read.
    """
    model = open_model(path, Budget(path, parse_limits(build_options.limit)))
    options = {key: value for key, value in dataclasses.asdict(build_options).items() if key not in _PLACES}
    told = {key: value for key, value in options.items() if not isinstance(value, Path)}
    quantized, read = _quantization_inputs(quantization) if quantization else ({}, {})
    inputs = {
        "the model": model.sha256,
        "the model's name": path.name,
        "the model's external data": " ".join(file.sha256 for file in model.external),
        "the options": json.dumps([told, quantized], sort_keys=True, default=str),
        "the target": json.dumps(dataclasses.asdict(target), sort_keys=True),
        "the toolchain": find_toolchain(target, build_options.toolchain or None).version,
        "the packages": json.dumps(package_versions(), sort_keys=True),
        "tvmbuild's code": sources_digest(),
        **read,
    }
    # Folders of samples and of tuning records.
    for key, value in options.items():
        if isinstance(value, Path) and value.exists():
            inputs[f"the files of {key}"] = tree_digest(value)
    return inputs


def _quantization_inputs(options: QuantizeOptions) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the options themselves and digests of the files that they name: where those lie does not matter."""
    told = {key: value for key, value in dataclasses.asdict(options).items() if not isinstance(value, Path)}
    if options.images.endswith(".toml"):
        told["images"] = ""
    files = quantization_files(options)
    return told, {"the files of [quantize]": " ".join(map(sha256_of, files))} if files else {}


def sources_digest() -> str:
    """Return a digest of tvmbuild's own code: a change there may change what is built."""
    return tree_digest(PACKAGE)


def tree_digest(top: Path) -> str:
    """Return a digest of a file, or of all files of a folder and their places.

    Raises:
        InputDataError: one cannot be read.
    """
    files = [top] if top.is_file() else sorted(path for path in top.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in files:
        if "__pycache__" in path.parts:
            continue
        try:
            digest.update(f"{path.relative_to(top)}\0{sha256_of(path)}\0".encode(errors="surrogateescape"))
        except OSError as error:
            raise InputDataError(f"{path} cannot be read: {error.strerror}.", "Change its permissions.") from error
    return digest.hexdigest()


def _build(cell: Cell, store: BuildStore, folder: Path) -> bool:
    """Make and verify a cell; return whether the artifact was there already."""
    from tvmbuild import pipeline
    from tvmbuild.artifact.open import open_artifact
    from tvmbuild.checking.verify import require_passed, verify
    from tvmbuild.device import open_device
    from tvmbuild.releases.built import take_build

    options = dataclasses.replace(cell.options, output=folder)
    device = open_device("auto", cell.target)
    predictable = _predictable(cell)
    model = folder / f"{cell.model.stem}{cell.precision.model_ending}.onnx" if cell.quantization else cell.model
    taken = take_build(artifact_inputs(cell.model, cell.target, cell.options, cell.quantization), store, folder)
    if cell.quantization and not taken:
        pipeline.build_int8(cell.model, cell.target, options, cell.quantization)
    elif not taken:
        pipeline.build(cell.model, cell.target, options)
    artifact = open_artifact(folder / f"{options.name}.so")
    outcome = verify(artifact, model, device, VerifyOptions(tolerance=cell.tolerance))
    require_passed(outcome, details=outcome.to_json())
    report = outcome.to_json()
    # What a run took differs each time, and from machine to machine.
    kept = {key: report[key] for key in ("passed", "outputs", "samples", "device") if key in report}
    (folder / _VERIFICATION).write_text(json.dumps(kept, default=_plain), encoding="utf-8")
    if predictable:
        _predict(artifact, cell, folder)
    return taken


def _predictable(cell: Cell) -> bool:
    """Whether a cell's time is to be predicted and can be; that the tools are there is checked before it is built."""
    from tvmbuild.predict.llvm import find_llvm
    from tvmbuild.target.target import predicted_core

    if not cell.predict:
        return False
    try:
        predicted_core(cell.target)
    except TargetError:
        # LLVM has no model of this core.
        return False
    find_llvm()
    return True


def _predict(artifact: Artifact, cell: Cell, folder: Path) -> None:
    from tvmbuild.predict.predictor import predict

    sample = load_samples(artifact.manifest.inputs, None)[0]
    found = predict(artifact.library, cell.target, [sample[spec.name] for spec in artifact.manifest.inputs])
    kept = {"core": found.core, "cycles": found.estimated_cycles, "milliseconds": found.milliseconds}
    (folder / _PREDICTION).write_text(json.dumps(kept), encoding="utf-8")


def _plain(value: Any) -> Any:
    return dataclasses.asdict(value) if dataclasses.is_dataclass(value) and not isinstance(value, type) else str(value)
