"""What to release: the ``[release]`` table of the project file as cells (model, target, precision) and bundles."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.errors import OptionError
from tvmbuild.options import BuildOptions, QuantizeOptions
from tvmbuild.release.templates import check_name
from tvmbuild.resolve import PROJECT_FILE, read_project_file, resolve
from tvmbuild.suggest import did_you_mean
from tvmbuild.target import Target, load_target

PRECISIONS = ("fp32", "fp16", "int8")
#: A bundle for each board, or one for all of a model's boards.
PER_TARGET, COMBINED = "per-target", "combined"


@dataclass(frozen=True)
class Cell:
    """One artifact of a release.

    Attributes:
        model: the ONNX file.
        target: the board.
        precision: "fp32", "fp16" or "int8".
        options: how to build it; ``name`` is set, ``output`` is not.
        quantization: how a float model becomes an int8 one; None for the other precisions.
        model_license: file with the model's licence, or None.
        tolerance: allowed difference from ONNX Runtime; 0 for the default.
        predict: whether to predict its time on the board's core.
    """

    model: Path
    target: Target
    precision: str
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


_RELEASE = {
    "version": str,
    "targets": list,
    "precision": list,
    "bundles": str,
    "models": list,
    "toolchain": str,
    "predict": bool,
}
_MODEL = {
    "path": str,
    "name": str,
    "shape": list,
    "value": list,
    "targets": list,
    "precision": list,
    "bundles": str,
    "license": str,
    "tolerance": float,
    "calibrate": str,
}

#: Keys of lists that hold names and choose the cells.
_NAMES = ("targets", "precision")


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
    _check(table, _RELEASE, "[release]")
    version = version or table.get("version", "0")
    check_name(version, "version")
    models = table.get("models", [])
    if not models:
        raise OptionError("[release] lists no models.", "Add a [[release.models]] table with its path.")
    for model in models:
        _check(model, _MODEL, "[[release.models]]")
    if targets:
        own = {"targets": list(targets), "bundles": COMBINED}
        table, models = {**table, **own}, [{**model, **own} for model in models]
    bundles = tuple(bundle for model in models for bundle in _bundles(folder, table, model))
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


def _bundles(folder: Path, table: Mapping[str, Any], model: Mapping[str, Any]) -> list[PlannedBundle]:
    cells = _cells(folder, table, model)
    how = model.get("bundles", table.get("bundles", PER_TARGET))
    if how not in (PER_TARGET, COMBINED):
        raise OptionError(f"There are no bundles '{how}'.", did_you_mean(how, (PER_TARGET, COMBINED)))
    if how == PER_TARGET:
        return [PlannedBundle(cell.options.name, (cell,)) for cell in cells]
    stem = _stem(folder, model)
    together: dict[str, list[Cell]] = {}
    for cell in cells:
        together.setdefault(stem + _ending(cell.precision), []).append(cell)
    return [PlannedBundle(name, tuple(members)) for name, members in together.items()]


def _stem(folder: Path, model: Mapping[str, Any]) -> str:
    return str(model.get("name", (folder / model["path"]).stem))


def _ending(precision: str) -> str:
    return "" if precision == "fp32" else f"-{precision}"


def _cells(folder: Path, table: Mapping[str, Any], model: Mapping[str, Any]) -> list[Cell]:
    if "path" not in model:
        raise OptionError("A [[release.models]] has no path.", 'Add path = "model.onnx".')
    path = folder / model["path"]
    stem = _stem(folder, model)
    check_name(stem, "model name")
    license_file = _license(folder, model)
    tolerance = float(model.get("tolerance", 0.0))
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise OptionError(f"{PROJECT_FILE}: a tolerance of {tolerance:g} means nothing.", "Give 0.001, say.")
    cells = []
    for target in model.get("targets", table.get("targets", ["rpi4"])):
        board = load_target(str(folder / target) if target.endswith(".toml") else target)
        for precision in model.get("precision", table.get("precision", ["fp32"])):
            options = BuildOptions(
                target=target,
                shape=tuple(map(str, model.get("shape", ()))),
                value=tuple(map(str, model.get("value", ()))),
                name=f"{stem}-{board.name}{_ending(precision)}",
                toolchain=table.get("toolchain", ""),
                records=folder / "tuning_logs",
            )
            options, quantization = _with_precision(options, precision, model, folder)
            check_name(options.name, "artifact name")
            predict = bool(table.get("predict", False))
            cells.append(Cell(path, board, precision, options, quantization, license_file, tolerance, predict))
    return cells


def _license(folder: Path, model: Mapping[str, Any]) -> Path | None:
    if "license" not in model:
        return None
    path: Path = folder / model["license"]
    if not path.is_file():
        raise OptionError(f"The model's licence {path} is no file.", f"Mend 'license' in {PROJECT_FILE}.")
    return path


def _with_precision(
    options: BuildOptions, precision: str, model: Mapping[str, Any], folder: Path
) -> tuple[BuildOptions, QuantizeOptions | None]:
    if precision not in PRECISIONS:
        raise OptionError(f"There is no precision '{precision}'.", did_you_mean(precision, PRECISIONS))
    if precision != "int8":
        return dataclasses.replace(options, fp16=precision == "fp16"), None
    if "calibrate" not in model:
        raise OptionError(f"{model['path']} has no samples to find its int8 scales from.", 'Add calibrate = "DIR".')
    quantization = resolve(QuantizeOptions, {}, project=read_project_file("quantize", folder), environ={}).options
    if quantization.table:
        quantization = dataclasses.replace(quantization, table=folder / quantization.table)
    if quantization.images.endswith(".toml"):
        quantization = dataclasses.replace(quantization, images=str(folder / quantization.images))
    return dataclasses.replace(options, int8=True, calibrate=folder / model["calibrate"]), quantization


def _check(table: Any, known: Mapping[str, type], where: str) -> None:
    if not isinstance(table, dict):
        raise OptionError(f"{PROJECT_FILE}: {where} must be a table.", "Write its name on a line of its own.")
    for key, value in table.items():
        if key not in known:
            raise OptionError(f"{PROJECT_FILE}: {where} has an unknown key '{key}'.", did_you_mean(key, known))
        kinds = (int, float) if known[key] is float else (known[key],)
        if not isinstance(value, kinds) or (isinstance(value, bool) and known[key] is not bool):
            wanted = {str: "a text", list: "a list", float: "a number", bool: "true or false"}[known[key]]
            raise OptionError(f"{PROJECT_FILE}: {key} in {where} must be {wanted}, not {value!r}.", "Mend the file.")
    for key in _NAMES:
        if key in table:
            _check_names(key, table[key], where)


def _check_names(key: str, names: list[Any], where: str) -> None:
    if not names:
        raise OptionError(f"{PROJECT_FILE}: {key} in {where} is empty.", "Leave it out for the default.")
    if not all(isinstance(name, str) for name in names):
        raise OptionError(f"{PROJECT_FILE}: {key} in {where} must be a list of texts.", "Mend the file.")
