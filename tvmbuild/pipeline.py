"""build(): the order of the stages and nothing else."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.artifact.embedded import write_manifest_object
from tvmbuild.artifact.manifest import Manifest, file_entry
from tvmbuild.codegen.compile import compile_module
from tvmbuild.codegen.link import export_objects, link_library, write_library_tar
from tvmbuild.codegen.toolchain import Toolchain, find_toolchain
from tvmbuild.codegen.weight_object import compile_weights
from tvmbuild.graph.pipeline import lower, optimize
from tvmbuild.graph.report import GraphReport
from tvmbuild.graph.weights import take_out_weights
from tvmbuild.onnx_model.prepare import PreparedModel, prepare
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.quantization.quantizer import Quantized, quantize_model
from tvmbuild.records.apply import TunedSchedules, tuned_schedules
from tvmbuild.schedules.legalize.storage import Storage
from tvmbuild.support import progress
from tvmbuild.support.atomic.staging import check_writable, staged
from tvmbuild.support.budget import parse_limits
from tvmbuild.support.errors import OptionError, SlowKernelError
from tvmbuild.support.escape import has_control, one_line
from tvmbuild.support.options import BuildOptions, QuantizeOptions
from tvmbuild.support.versions import llvm_version, package_versions
from tvmbuild.target.target import Target, require_precision, require_widening

#: Endings of an artifact's files.
_ENDINGS = (".so", ".tar", ".json")


@dataclass(frozen=True)
class BuildResult:
    """What a build wrote, and what it found out on the way.

    Attributes:
        manifest: of the artifact.
        folder: where it lies.
        graph: what the graph's passes did.
        model: the model that was compiled: the QDQ model in ``folder`` for an int8 build of a float model.
        quantized: how that was made, or None.
        notes: what the user should know: what was assumed, which records were left out.
    """

    manifest: Manifest
    folder: Path
    graph: GraphReport
    model: Path
    quantized: Quantized | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Ready:
    """What a build needs besides the model; found before the work that takes minutes."""

    name: str
    toolchain: Toolchain
    kernels: TunedSchedules
    notes: tuple[str, ...]


def build_int8(model: Path, target: Target, options: BuildOptions, quantization: QuantizeOptions) -> BuildResult:
    """Quantize a float model, then build the artifact of the result.

    Writes the QDQ model (``<model>.int8.onnx``) into ``options.output``, together with the artifact that ``build``
    makes of it: it is what ``verify`` compares the artifact with.

    Raises:
        CalibrationError: the samples or the calibration table cannot be used.
        AccuracyError: the budget cannot be met.
        TvmbuildError: like ``build``.
    """
    path = Path(f"{model.stem}{options.precision.model_ending}.onnx")
    ready = _ready(artifact_name(model, target, options), target, options, path.name)
    quantized = quantize_model(
        model,
        options.calibrate,
        dataclasses.replace(
            quantization,
            shape=options.shape,
            value=options.value,
            compare=options.compare,
            seed=options.seed,
            limit=options.limit,
        ),
        target=target,
    )
    with tempfile.TemporaryDirectory(prefix="tvmbuild-") as scratch:
        quantized.save(scratch / path)
        # Shapes and frozen inputs are in the QDQ model.
        alone = dataclasses.replace(options, shape=(), value=())
        result = _build(scratch / path, target, alone, ready, keep_model=True)
    notes = (*quantized.assumed, *result.notes)
    return dataclasses.replace(result, model=options.output / path, quantized=quantized, notes=notes)


def build(model: Path, target: Target, options: BuildOptions) -> BuildResult:
    """Build the artifact of one model for one target.

    Writes ``<name>.so``, ``<name>.tar`` and ``<name>.json`` into ``options.output``; all of them, or none.

    Raises:
        OptionError: a precision whose arithmetic the target lacks, or a folder or name that cannot be meant.
        SlowKernelError: ``strict``, and a kernel that multiplies has no schedule.
        TvmbuildError: any of the classes in ``errors.py`` up to OutputError, by the stage that failed.
    """
    return _build(model, target, options, _ready(artifact_name(model, target, options), target, options))


def check_build(model: Path, target: Target, options: BuildOptions) -> None:
    """Check all that ``build`` needs besides the model: options, toolchain, tuning records, the output's folder.

    Raises:
        TvmbuildError: as ``build``.
    """
    _ready(artifact_name(model, target, options), target, options)


def artifact_name(model: Path, target: Target, options: BuildOptions) -> str:
    """Return the stem of an artifact's files."""
    return options.name or f"{model.stem}{options.precision.model_ending}-{target.name}"


def _ready(name: str, target: Target, options: BuildOptions, *more: str) -> _Ready:
    _check_names(name, options)
    require_precision(target, options.precision)
    require_widening(target, options.weights)
    check_writable(options.output, *(f"{name}{ending}" for ending in _ENDINGS), *more)
    if options.dump_ir is not None:
        check_writable(options.dump_ir)
    kernels, notes = _kernels(target, options)
    told = (target.stand_in, *notes) if target.stand_in else notes
    return _Ready(name, find_toolchain(target, options.toolchain or None), kernels, told)


def _build(
    model: Path, target: Target, options: BuildOptions, ready: _Ready, *, keep_model: bool = False
) -> BuildResult:
    prepared = prepare(
        model,
        parse_shapes(options.shape),
        values=parse_values(options.value),
        compare=options.compare,
        seed=options.seed,
        limits=parse_limits(options.limit),
    )
    with progress.stage("import into Relax"):
        module = to_relax(prepared)
    module, report = optimize(
        module,
        target,
        kernels=ready.kernels,
        dump_ir=options.dump_ir,
        precision=options.precision,
        strips=options.runs_strips,
    )
    report = dataclasses.replace(report, weights=tuple(ready.kernels.storage.layers))
    if options.strict:
        _require_schedules(report)
    module, weights = take_out_weights(lower(module, target, dump_ir=options.dump_ir))
    with progress.stage("lower kernels"):
        executable = compile_module(module, target, {kernel.name: str(kernel) for kernel in report.kernels})
    name, toolchain = ready.name, ready.toolchain
    with tempfile.TemporaryDirectory(prefix="tvmbuild-") as scratch, staged(options.output, f"{name}.json") as aside:
        with progress.stage("generate machine code"):
            objects = export_objects(executable, Path(scratch))
            objects += compile_weights(weights, Path(scratch), toolchain)
        manifest = _manifest(name, prepared, target, toolchain, report, options)
        objects.append(write_manifest_object(manifest.to_json(), beside=objects[0]))
        with progress.stage(f"link with {toolchain.name}"):
            write_library_tar(objects, aside / f"{name}.tar")
            link_library(objects, aside / f"{name}.so", target, toolchain)
        files = tuple(file_entry(aside / f"{name}{ending}") for ending in (".so", ".tar"))
        manifest = dataclasses.replace(manifest, files=files)
        if keep_model:
            shutil.copyfile(model, aside / model.name)
        (aside / f"{name}.json").write_text(manifest.to_json(), encoding="utf-8")
    return BuildResult(manifest, options.output, report, model, notes=(*prepared.assumed, *ready.notes))


def _check_names(name: str, options: BuildOptions) -> None:
    if has_control(name):
        raise OptionError(f"{one_line(name)} has control characters, so no file can be called so.", "Give a --name.")
    output = options.output
    if output.suffix in _ENDINGS and not output.is_dir():
        raise OptionError(
            f"-o {output} is a folder's name that ends like a file's.",
            f"Give the folder and the name apart: -o {output.parent} --name {output.stem}",
        )
    if options.name and (options.name != Path(options.name).name or options.name == ".."):
        raise OptionError(
            f"--name {options.name} is no file's name.", "Give the folder with -o, and --name without it."
        )


def _require_schedules(report: GraphReport) -> None:
    slow = report.unscheduled(working=True)
    if slow:
        more = f"; and {len(slow) - 1} more" if len(slow) > 1 else ""
        raise SlowKernelError(
            f"{slow[0]}{more}.",
            "Please report it with the model. Without --strict (in a release: strict = false) it is built as it is.",
        )


def _kernels(target: Target, options: BuildOptions) -> tuple[TunedSchedules, tuple[str, ...]]:
    storage = Storage(options.stored_weights, options.prefer)
    if not options.use_records:
        return TunedSchedules((), storage), ()
    return tuned_schedules(options.records, target, options.board, storage)


def _manifest(
    name: str,
    prepared: PreparedModel,
    target: Target,
    toolchain: Toolchain,
    report: GraphReport,
    options: BuildOptions,
) -> Manifest:
    told = {
        "shape": list(options.shape),
        "value": list(options.value),
        "precision": options.precision.value,
        "strips": options.runs_strips,
        "weights": options.stored_weights.value,
        "prefer": options.prefer.value,
    }
    return Manifest(
        name=name,
        model=_describe(prepared),
        inputs=prepared.inputs,
        outputs=prepared.outputs,
        target=dataclasses.asdict(target),
        toolchain={"name": toolchain.name, "version": toolchain.version},
        packages={**package_versions(), "llvm": llvm_version()},
        fusion=report.summary(),
        memory=report.memory(),
        options=told,
    )


def _describe(prepared: PreparedModel) -> dict[str, Any]:
    return {
        "file": prepared.path.name,
        "sha256": prepared.sha256,
        "external": [dataclasses.asdict(file) for file in prepared.external],
        "opset": prepared.opset,
        "rounding": dataclasses.asdict(prepared.rounding),
        "frozen": {
            name: {"dtype": str(value.dtype), "value": value.tolist()} for name, value in prepared.frozen.items()
        },
        "notes": list(prepared.notes),
    }
