"""The public Python functions: what the commands of the same names do, for programs and notebooks (docs/api.md).

Options are those of the commands, as keywords ("fp16=True", "shape=['x=1,3,224,224']"); ``tvmbuild.toml`` and the
environment are not read. Nothing is printed. What goes wrong is raised as one of the classes of ``tvmbuild.errors``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tvmbuild.support.errors import OptionError
from tvmbuild.support.resolve import resolve
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.target.target import Target, known_targets, load_target

if TYPE_CHECKING:
    from tvmbuild.checking.bench import Benchmark
    from tvmbuild.checking.verify import Verification
    from tvmbuild.inspection import Inspection
    from tvmbuild.pipeline import BuildResult
    from tvmbuild.quantization.quantizer import Quantized
    from tvmbuild.releases.run import Released
    from tvmbuild.tuning.tune import TuneResult

OptionsT = TypeVar("OptionsT")
File = str | Path


def targets() -> list[Target]:
    """Return the boards that can be built for, by name."""
    return [load_target(name) for name in known_targets()]


def build(
    model: File, target: str | Target = "rpi4", *, quantization: Mapping[str, Any] | None = None, **options: Any
) -> BuildResult:
    """Compile a model for a board and write ``<name>.so``, ``.tar`` and ``.json``, all of them or none.

    Args:
        model: the ONNX file.
        target: a board's name, a TOML file, or a ``Target``.
        quantization: options of ``quantize``, for ``int8=True``.
        options: of ``tvmbuild build``: ``output="dist"``, ``shape=[...]``, ``fp16=True``, ``int8=True`` with
            ``calibrate=...``, ``strict=True`` and so on (``support.options.BuildOptions``).

    Raises:
        TvmbuildError: any of its classes, by the stage that failed.
    """
    from tvmbuild import pipeline
    from tvmbuild.support.options import BuildOptions, QuantizeOptions

    resolved = _options(BuildOptions, options)
    if options.get("int8"):
        return pipeline.build_int8(
            Path(model), _target(target), resolved, _options(QuantizeOptions, dict(quantization or {}))
        )
    if quantization is not None:
        raise OptionError("quantization is for int8=True.", "Add int8=True and calibrate=....")
    return pipeline.build(Path(model), _target(target), resolved)


def inspect(model: File, target: str | Target = "rpi4", **options: Any) -> Inspection:
    """Return what a model needs and what building it would fuse, without compiling.

    Args:
        model: the ONNX file.
        target: a board's name, a TOML file, or a ``Target``.
        options: ``shape``, ``value``, ``limit`` and ``strips`` as of ``build``.

    Raises:
        ModelError: the file is damaged or unsafe. Why a model that can be read cannot be built is in the result.
    """
    from tvmbuild.inspection import inspect_model
    from tvmbuild.support.budget import parse_limits
    from tvmbuild.support.options import InspectOptions

    given = _options(InspectOptions, options)
    return inspect_model(
        Path(model), given.shape, given.value, _target(target), parse_limits(given.limit), strips=given.strips
    )


def quantize(
    model: File,
    samples: File | Iterable[Any] | None = None,
    *,
    target: str | Target | None = None,
    output: File | None = None,
    **options: Any,
) -> Quantized:
    """Turn a float model into an int8 one in the QDQ form.

    Args:
        model: the ONNX file.
        samples: a folder or file, or an iterable of arrays (of dictionaries of arrays by input's name for a model with
            several inputs); None with ``table=...``.
        target: leave layers in float that int8 is predicted to slow down on this board; None for any board.
        output: where to save the model; None leaves it in memory (``result.save(path)``).
        options: of ``tvmbuild quantize`` (``support.options.QuantizeOptions``).

    Raises:
        CalibrationError: samples or table cannot be used.
        AccuracyError: ``budget`` cannot be met.
        TvmbuildError: any other of its classes, by the stage that failed.
    """
    from tvmbuild.quantization.quantizer import quantize_model
    from tvmbuild.support.options import QuantizeOptions

    board = _target(target) if target is not None else None
    result = quantize_model(model, samples, _options(QuantizeOptions, options), target=board)
    if output is not None:
        result.save(Path(output))
    return result


def verify(artifact: File, model: File, **options: Any) -> Verification:
    """Run an artifact and ONNX Runtime on the same inputs; ``result.passed`` says whether they agree.

    Args:
        artifact: any file of an artifact, or a bundle for one board.
        model: the ONNX file that it was built from.
        options: of ``tvmbuild verify``: ``on="emulated"``, ``inputs="photos/"`` and so on
            (``support.options.VerifyOptions``).

    Raises:
        ArtifactError: it was built from another model, or is damaged.
        DeviceError: the run failed.
        TvmbuildError: any other of its classes.
    """
    from tvmbuild.artifact.open import open_artifact
    from tvmbuild.artifact.relink import with_library
    from tvmbuild.checking.verify import check_same_model, target_of
    from tvmbuild.checking.verify import verify as run
    from tvmbuild.device import open_device
    from tvmbuild.support.options import VerifyOptions

    given = _options(VerifyOptions, options)
    opened = open_artifact(Path(artifact))
    check_same_model(opened, Path(model))
    board = target_of(opened)
    device = open_device(given.on, board, tracker=given.tracker, key=given.key)
    return run(with_library(opened, board), Path(model), device, given)


def bench(artifact: File, *, against: File | None = None, **options: Any) -> Benchmark:
    """Time an artifact, in turn with ONNX Runtime where its model is given.

    Args:
        artifact: any file of an artifact, or a bundle for one board.
        against: the ONNX file, to time ONNX Runtime too (on this machine only).
        options: of ``tvmbuild bench`` (``support.options.BenchOptions``).

    Raises:
        DeviceError: a run failed.
        TvmbuildError: any other of its classes.
    """
    from tvmbuild.artifact.open import open_artifact
    from tvmbuild.artifact.relink import with_library
    from tvmbuild.checking.bench import bench as run
    from tvmbuild.checking.verify import target_of
    from tvmbuild.device import open_device
    from tvmbuild.support.options import BenchOptions

    given = _options(BenchOptions, options)
    opened = open_artifact(Path(artifact))
    board = target_of(opened)
    device = open_device(given.on, board, tracker=given.tracker, key=given.key)
    return run(with_library(opened, board), device, given, Path(against) if against is not None else None)


def tune(model: File, target: str | Target = "rpi4", **options: Any) -> TuneResult:
    """Search faster schedules for a model's kernels and keep them as records, which ``build`` then uses.

    Args:
        model: the ONNX file.
        target: a board's name, a TOML file, or a ``Target``.
        options: of ``tvmbuild tune``: ``emulate=True``, ``trials=200``, ``time="30m"`` and so on
            (``support.options.TuneOptions``).

    Raises:
        TuningError: tuning cannot go on.
        TvmbuildError: any other of its classes.
    """
    from tvmbuild.support.options import TuneOptions
    from tvmbuild.tuning.tune import tune as run

    return run(Path(model), _target(target), _options(TuneOptions, options))


def release(
    project: File = ".",
    *,
    version: str | None = None,
    targets: Sequence[str] = (),
    output: File = "dist",
    key: File | None = None,
) -> Released:
    """Build, verify and bundle every model of a ``tvmbuild.toml`` for every board, and publish them as a whole.

    Args:
        project: the folder with the ``tvmbuild.toml``.
        version: None for that in the file.
        targets: boards, for one bundle a model for all of them; those of the file by default.
        output: folder of releases.
        key: private key to sign with, or None.

    Raises:
        TvmbuildError: any of its classes, by the step that failed.
    """
    from tvmbuild.artifact.epoch import source_date_epoch
    from tvmbuild.releases.plan import read_plan
    from tvmbuild.releases.run import release as run
    from tvmbuild.releases.signing import load_signer

    plan = read_plan(Path(project), version, targets)
    signer = load_signer(Path(key)) if key is not None else None
    return run(plan, Path(output), signer=signer, epoch=source_date_epoch())


def _target(target: str | Target) -> Target:
    return target if isinstance(target, Target) else load_target(target)


def _options(kind: type[OptionsT], given: Mapping[str, Any]) -> OptionsT:
    """Return a command's options from keywords.

    Raises:
        OptionError: there is none of that name, or a value does not fit.
    """
    fields = dataclasses.fields(kind)  # type: ignore[arg-type]
    switches = {name for field in fields for name in field.metadata.get("switches", ())}
    # Which board is an argument of its own.
    known = ({field.name for field in fields} | switches) - {"target"}
    for name in given:
        if name not in known:
            raise OptionError(f"There is no option '{name}'.", did_you_mean(name, known))
    return resolve(kind, {name: str(v) if isinstance(v, Path) else v for name, v in given.items()}, environ={}).options
