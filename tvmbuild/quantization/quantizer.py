"""quantize(): the order of the steps, from a float model and samples to a QDQ model."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import onnx

from tvmbuild.quantization.bias_correction import correct_biases
from tvmbuild.quantization.calibration.calibrate import calibrate_table
from tvmbuild.quantization.calibration.image import load_recipe
from tvmbuild.quantization.calibration.sample_set import SampleSet, split_samples
from tvmbuild.quantization.calibration.sources import find_samples, spool_folder, spool_samples
from tvmbuild.quantization.calibration.table import CalibrationTable, read_table
from tvmbuild.quantization.checks import check_options
from tvmbuild.quantization.float_model import FloatModel, open_float_model
from tvmbuild.quantization.judge import Judge
from tvmbuild.quantization.parameters import tensor_params
from tvmbuild.quantization.placement import Layer, Placement, place
from tvmbuild.quantization.qdq import WeightRule, write_qdq
from tvmbuild.quantization.report import QuantizationReport
from tvmbuild.quantization.speed import ModelSpeed, predict_speed
from tvmbuild.support import progress
from tvmbuild.support.atomic.staging import staged, write_whole
from tvmbuild.support.errors import OptionError
from tvmbuild.support.options import QuantizeOptions
from tvmbuild.support.paths import is_file
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.target.target import Target

#: Tells of a layer why it should stay in float on the target, or "" to quantize it.
Decision = Callable[[Layer], str]


@dataclass(frozen=True)
class Quantized:
    """A quantized model.

    Attributes:
        proto: the QDQ model.
        table: the ranges that were used.
        report: what was quantized and how close it is to the float model.
        assumed: what was chosen of the model's shapes since nobody said it, for people.
    """

    proto: onnx.ModelProto
    table: CalibrationTable
    report: QuantizationReport
    assumed: tuple[str, ...] = ()

    def save(self, path: Path | str) -> None:
        """Write the model, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        path = Path(path)
        with staged(path.parent) as aside:
            (aside / path.name).write_bytes(self.proto.SerializeToString(deterministic=True))


def quantize_model(
    model: Path | str,
    calibrate: Path | str | Iterable[Any] | None = None,
    options: QuantizeOptions | None = None,
    *,
    target: Target | None = None,
    decide: Decision | None = None,
    **changes: Any,
) -> Quantized:
    """Quantize a float ONNX model to int8.

    Args:
        model: the ONNX file.
        calibrate: a folder or file of samples, or an iterable of arrays (of dictionaries of arrays by input's name for
            a model with several inputs); None when ``table`` names a calibration table.
        options: see ``QuantizeOptions``.
        target: leave the layers in float that int8 is predicted to make slower on this board, unless ``force_int8``;
            None for a model of any core.
        decide: tells for each layer why it should stay in float, or ""; asked instead of the prediction.
        changes: single options by name (``calibrate_mode="kl_divergence"``, ``weight_scale="max"``).

    Raises:
        CalibrationError: samples or table cannot be used.
        AccuracyError: the budget cannot be met.
        OptionError: an option is unknown or wrong.
        TvmbuildError: the model cannot be read or prepared.
    """
    options = _with(options or QuantizeOptions(), changes)
    check_options(options, calibrate)
    recipe = load_recipe(options.images)
    float_model = open_float_model(Path(model), options)
    specs = float_model.prepared.inputs
    with contextlib.ExitStack() as stack:
        refs = []
        if isinstance(calibrate, str | Path):
            refs = find_samples(Path(calibrate), specs, recipe)
        elif calibrate is not None:
            refs = spool_samples(calibrate, specs, Path(stack.enter_context(spool_folder())))
        samples = _split(refs, options) if refs else None
        asked = _asked(float_model, options.keep_fp32)
        table = _table(float_model, samples, options)
        speed = predict_speed(float_model.proto, target) if target is not None else None
        return _quantize(float_model, table, samples, options, asked, decide, speed)


def _with(options: QuantizeOptions, changes: dict[str, Any]) -> QuantizeOptions:
    known = {item.name for item in dataclasses.fields(QuantizeOptions)}
    for name in changes:
        if name not in known:
            raise OptionError(f"There is no option '{name}'.", did_you_mean(name, known))
    return dataclasses.replace(options, **changes)


def _split(refs: list[Any], options: QuantizeOptions) -> SampleSet:
    return split_samples(refs, held_out=options.held_out, seed=options.seed, fewest=options.min_samples)


def _table(float_model: FloatModel, samples: SampleSet | None, options: QuantizeOptions) -> CalibrationTable:
    """Read the table where there is one; else calibrate, and write it where one is asked for."""
    if options.table is not None and is_file(options.table):
        return read_table(options.table)
    assert samples is not None
    table = calibrate_table(float_model, samples, options)
    if options.table is not None:
        write_whole(options.table, table.to_json())
    return table


@dataclass(frozen=True)
class _Writer:
    """Writes the QDQ model for any choice of layers."""

    model: FloatModel
    table: CalibrationTable
    options: QuantizeOptions

    def write(self, keep: Collection[str]) -> tuple[onnx.ModelProto, Placement, tuple[str, ...]]:
        placement = place(self.model.proto, keep)
        params = tensor_params(self.table, placement, symmetric=self.options.symmetric, power2=self.options.power2)
        rule = WeightRule(self.options.weight_scale, self.options.power2)
        proto, notes = write_qdq(self.model.proto, placement, params, rule)
        return proto, placement, notes


def _quantize(
    model: FloatModel,
    table: CalibrationTable,
    samples: SampleSet | None,
    options: QuantizeOptions,
    asked: Mapping[str, str],
    decide: Decision | None,
    speed: ModelSpeed | None,
) -> Quantized:
    writer = _Writer(model, table, options)
    if decide is None and speed is not None and not options.force_int8:
        decide = speed.reason
    kept = _kept(model, asked, decide)
    judge = Judge(model, samples, writer.write, options) if samples is not None else None
    found = None
    if options.budget:
        assert judge is not None
        found = judge.search(kept)
        kept |= dict.fromkeys(found.keep, f"left in float to reach {options.budget}")
    with progress.stage("write QDQ model") as step:
        proto, placement, notes = writer.write(kept)
        onnx.checker.check_model(proto, full_check=True)
        step.detail = f"{len(placement.layers)} of {len(model.placement.layers)} layers in int8"
    if options.bias_correction:
        assert samples is not None
        proto = correct_biases(model.proto, proto, placement.layers, samples.calibration)
    report = QuantizationReport(
        model=model.prepared.path.name,
        layers=tuple(layer.name for layer in placement.layers),
        kept=kept,
        notes=(*table.notes, *notes),
        mode=table.mode,
        samples=table.samples,
        accuracy=judge.accuracy(proto, placement) if judge is not None else None,
        search=found,
        speed=speed.note(kept) if speed is not None else "",
    )
    return Quantized(proto, table, report, model.prepared.assumed)


def _asked(model: FloatModel, patterns: Iterable[str]) -> dict[str, str]:
    """Return the layers that are to stay in float, with the pattern that says so."""
    asked: dict[str, str] = {}
    layers = model.placement.layers
    for pattern in patterns:
        matched = [layer.name for layer in layers if _matches(layer, pattern)]
        if not matched:
            raise OptionError(
                f"No layer matches --keep-fp32 '{pattern}'.", did_you_mean(pattern, (layer.name for layer in layers))
            )
        asked |= dict.fromkeys(matched, f"asked for by --keep-fp32 {pattern}")
    return asked


def _kept(model: FloatModel, asked: Mapping[str, str], decide: Decision | None) -> dict[str, str]:
    """Return the layers that stay in float before any search, with the reason of each."""
    kept = dict(asked)
    for layer in model.placement.layers:
        reason = decide(layer) if decide is not None and layer.name not in kept else ""
        if reason:
            kept[layer.name] = reason
    return kept


def _matches(layer: Layer, pattern: str) -> bool:
    return any(fnmatchcase(name, pattern) for name in (layer.name, layer.output, layer.operator))
