"""What to release: the ``[release]`` table of the project file as cells (model, target, precision) and bundles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from tvmbuild.releases.templates import check_name
from tvmbuild.support.border import Border, NotNegative
from tvmbuild.support.errors import OptionError
from tvmbuild.support.options import BuildOptions, QuantizeOptions
from tvmbuild.support.paths import is_file
from tvmbuild.support.precision import Precision
from tvmbuild.support.resolve import PROJECT_FILE, read_project_file, resolve
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.support.weights import Prefer, Weights
from tvmbuild.target.target import Target, load_target

#: A bundle for each board, or one for all of a model's boards.
PER_TARGET, COMBINED = "per-target", "combined"


@dataclass(frozen=True)
class Cell:
    """One artifact of a release.

    Attributes:
        model: the ONNX file.
        target: the board.
        precision: what it is computed in.
        options: how to build it; ``name`` is set, ``output`` is not.
        quantization: how a float model becomes an int8 one; None where the precision does not quantize.
        model_license: file with the model's licence, or None.
        tolerance: allowed difference from ONNX Runtime; 0 for the default.
        predict: whether to predict its time on the board's core.
    """

    model: Path
    target: Target
    precision: Precision
    options: BuildOptions
    quantization: QuantizeOptions | None
    model_license: Path | None
    tolerance: float
    predict: bool


@dataclass(frozen=True)
class PlannedBundle:
    """One bundle of a release.

    Attributes:
        name: of the bundle, without the version.
        cells: the artifacts in it: one model in one precision, for one board or several.
    """

    name: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class Plan:
    """A whole release: its version, its cells and its bundles, in the order of the project file."""

    version: str
    cells: tuple[Cell, ...]
    bundles: tuple[PlannedBundle, ...]


Names = Annotated[tuple[str, ...], Meta(min_length=1)]


@dataclass(frozen=True)
class _ModelTable:
    """A [[release.models]] table; None where that of the release holds."""

    path: str
    name: str = ""
    shape: tuple[str, ...] = ()
    value: tuple[str, ...] = ()
    limit: tuple[str, ...] = ()
    targets: Names | None = None
    precision: Names | None = None
    bundles: str | None = None
    license: str | None = None
    tolerance: NotNegative = 0.0
    calibrate: str | None = None
    weights: Weights | None = None
    prefer: Prefer | None = None


@dataclass(frozen=True)
class _ReleaseTable:
    """The [release] table."""

    models: tuple[_ModelTable, ...] = ()
    version: str = "0"
    targets: Names = ("rpi4",)
    precision: Names = ("fp32",)
    bundles: str = PER_TARGET
    toolchain: str = ""
    predict: bool = False
    strict: bool = True
    weights: Weights | None = None
    prefer: Prefer = Prefer.SPEED


_BORDER = Border("The project file", OptionError, "Mend the file.")


def read_plan(folder: Path, version: str | None = None, targets: Sequence[str] = ()) -> Plan:
    """Read the project file of a folder.

    Args:
        folder: paths in the file are relative to it.
        version: replaces the file's.
        targets: replace the file's, and each model goes into one bundle for all of them; empty to leave both.

    Raises:
        OptionError: there is no [release] table, it has an unknown key or a value of the wrong type, a name cannot be a
            file's name, or two cells have the same.
        TargetError: a target is unknown.
    """
    table = read_project_file("release", folder)
    if not table:
        raise OptionError(
            f"{folder / PROJECT_FILE} has no [release] table.", "'tvmbuild init' writes one to start from."
        )
    told = _BORDER.checked(table, _ReleaseTable, f"{folder / PROJECT_FILE}, [release]")
    version = version or told.version
    check_name(version, "version")
    if not told.models:
        raise OptionError("[release] lists no models.", "Add a [[release.models]] table with its path.")
    if targets:
        models = [dataclasses.replace(model, targets=tuple(targets), bundles=COMBINED) for model in told.models]
        told = dataclasses.replace(told, models=tuple(models))
    bundles = tuple(bundle for model in told.models for bundle in _bundles(folder, told, model))
    cells = tuple(cell for bundle in bundles for cell in bundle.cells)
    _check_distinct("cells", (cell.options.name for cell in cells))
    _check_distinct("bundles", (bundle.name for bundle in bundles))
    return Plan(version, cells, bundles)


def _check_distinct(what: str, names: Iterable[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise OptionError(f"Two {what} of the release are called {name}.", "Give the models different names.")
        seen.add(name)


def _bundles(folder: Path, table: _ReleaseTable, model: _ModelTable) -> list[PlannedBundle]:
    cells = _cells(folder, table, model)
    how = table.bundles if model.bundles is None else model.bundles
    if how not in (PER_TARGET, COMBINED):
        raise OptionError(f"There are no bundles '{how}'.", did_you_mean(how, (PER_TARGET, COMBINED)))
    if how == PER_TARGET:
        return [PlannedBundle(cell.options.name, (cell,)) for cell in cells]
    stem = _stem(model)
    together: dict[str, list[Cell]] = {}
    for cell in cells:
        together.setdefault(stem + cell.precision.ending, []).append(cell)
    return [PlannedBundle(name, tuple(members)) for name, members in together.items()]


def _stem(model: _ModelTable) -> str:
    return model.name or Path(model.path).stem


def _cells(folder: Path, table: _ReleaseTable, model: _ModelTable) -> list[Cell]:
    stem = _stem(model)
    check_name(stem, "model name")
    license_file = _license(folder, model)
    cells = []
    for target in model.targets or table.targets:
        board = load_target(str(folder / target) if target.endswith(".toml") else target)
        for precision in map(_precision, model.precision or table.precision):
            options = BuildOptions(
                target=target,
                shape=model.shape,
                value=model.value,
                limit=model.limit,
                name=f"{stem}-{board.name}{precision.ending}",
                toolchain=table.toolchain,
                strict=table.strict,
                precision=precision,
                weights=model.weights or table.weights,
                prefer=model.prefer or table.prefer,
                records=folder / "tuning_logs",
            )
            options, quantization = _with_samples(options, model, folder)
            check_name(options.name, "artifact name")
            path = folder / model.path
            cells.append(
                Cell(path, board, precision, options, quantization, license_file, model.tolerance, table.predict)
            )
    return cells


def _license(folder: Path, model: _ModelTable) -> Path | None:
    if model.license is None:
        return None
    path = folder / model.license
    if not is_file(path):
        raise OptionError(f"The model's licence {path} is no file.", f"Mend 'license' in {PROJECT_FILE}.")
    return path


def _precision(name: str) -> Precision:
    names = [each.value for each in Precision]
    if name not in names:
        raise OptionError(f"There is no precision '{name}'.", did_you_mean(name, names))
    return Precision(name)


def _with_samples(
    options: BuildOptions, model: _ModelTable, folder: Path
) -> tuple[BuildOptions, QuantizeOptions | None]:
    if not options.precision.quantizes:
        return options, None
    if model.calibrate is None:
        codes = options.precision.codes
        raise OptionError(f"{model.path} has no samples to find its {codes} scales from.", 'Add calibrate = "DIR".')
    quantization = resolve(QuantizeOptions, {}, project=read_project_file("quantize", folder), environ={}).options
    if quantization.table:
        quantization = dataclasses.replace(quantization, table=folder / quantization.table)
    if quantization.images.endswith(".toml"):
        quantization = dataclasses.replace(quantization, images=str(folder / quantization.images))
    return dataclasses.replace(options, calibrate=folder / model.calibrate), quantization
