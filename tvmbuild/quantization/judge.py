"""Measure a quantized model on the held-out samples."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import onnx

from tvmbuild.quantization.accuracy import Similarity, compare
from tvmbuild.quantization.budget import BudgetResult, parse_budget, search
from tvmbuild.quantization.calibration.sample_set import SampleRef, SampleSet
from tvmbuild.quantization.float_model import FloatModel
from tvmbuild.quantization.metric import load_metric, measure
from tvmbuild.quantization.placement import Placement
from tvmbuild.support import progress
from tvmbuild.support.errors import OptionError
from tvmbuild.support.options import QuantizeOptions

#: Samples with which the sensitivity of each layer is measured, and each step of the search.
_SENSITIVITY_SAMPLES = 2
_SEARCH_SAMPLES = 16

Write = Callable[[Collection[str]], tuple[onnx.ModelProto, Placement, tuple[str, ...]]]


@dataclass(frozen=True)
class Accuracy:
    """How close a quantized model is to the float one.

    Attributes:
        outputs: of the model, in its order.
        tensors: those held in int8, the least alike first.
        samples: number of samples.
        held_out: whether they were held out from calibration.
        metric: the user's measure of the float and of the quantized model, or None.
    """

    outputs: tuple[Similarity, ...]
    tensors: tuple[Similarity, ...]
    samples: int
    held_out: bool
    metric: tuple[float, float] | None = None


class Judge:
    """Compares quantized models with the float model."""

    def __init__(self, model: FloatModel, samples: SampleSet, write: Write, options: QuantizeOptions) -> None:
        """Take what every comparison shares.

        Args:
            model: the float model.
            samples: of which the held-out ones judge.
            write: makes a quantized model of a set of layers that stay in float.
            options: budget and metric.
        """
        self._model = model
        self._samples = samples
        self._write = write
        self._budget = parse_budget(options.budget) if options.budget else None
        self._metric = load_metric(options.metric) if options.metric else None
        self._outputs = [value.name for value in model.proto.graph.output]
        self._float_metric: float | None = None

    def accuracy(self, proto: onnx.ModelProto, placement: Placement) -> Accuracy:
        """Return how close a model is, with every tensor that it holds in int8."""
        inside = [name for name in placement.tensors if name in self._model.sizes and not self._is_input(name)]
        pairs = {name: f"{name}_DequantizeLinear" for name in inside if name not in self._outputs}
        found = self._compare(proto, pairs | {name: name for name in self._outputs}, self._samples.held_out)
        by_name = {each.name: each for each in found}
        worst = sorted((by_name[name] for name in pairs), key=lambda each: (each.sqnr, each.name))
        metric = None
        if self._metric is not None:
            metric = self._measured_float(), measure(proto, self._samples.held_out, self._metric)
        outputs = tuple(by_name[name] for name in self._outputs)
        return Accuracy(outputs, tuple(worst), len(self._samples.held_out), not self._samples.overlap, metric)

    def search(self, kept: Iterable[str]) -> BudgetResult:
        """Find the fewest layers, besides ``kept``, to leave in float to meet the budget."""
        assert self._budget is not None
        already = set(kept)
        layers = [layer.name for layer in self._model.placement.layers if layer.name not in already]
        with progress.stage(f"search layers for {self._budget}", total=len(layers)) as step:

            def sensitivity(name: str) -> float:
                proto, _, _ = self._write([layer for layer in (*layers, *already) if layer != name])
                worst = min(each.sqnr for each in self._compare_outputs(proto, _SENSITIVITY_SAMPLES))
                step.advance(detail=f"{name}: {worst:.1f} dB")
                return worst

            found = search(self._budget, layers, sensitivity, lambda keep: self._value({*keep, *already}))
            step.detail = f"{len(found.keep)} of {len(layers)} layers stay in float"
        return found

    def _is_input(self, name: str) -> bool:
        return any(value.name == name for value in self._model.proto.graph.input)

    def _value(self, keep: Collection[str]) -> float:
        """Return the budget's measure of the model with some layers in float."""
        assert self._budget is not None
        proto, _, _ = self._write(keep)
        if self._budget.measure.startswith("metric"):
            return self._metric_value(proto, loss=self._budget.measure == "metric-loss")
        found = self._compare_outputs(proto, _SEARCH_SAMPLES)
        values = [getattr(each, self._budget.measure) for each in found]
        known = [value for value in values if value is not None]
        if not known:
            raise OptionError(
                "No output of the model has classes to compare.",
                "Give --metric module:function, or another --budget.",
            )
        return float(min(known))

    def _metric_value(self, proto: onnx.ModelProto, *, loss: bool) -> float:
        assert self._metric is not None
        value = measure(proto, self._samples.held_out, self._metric)
        return self._measured_float() - value if loss else value

    def _measured_float(self) -> float:
        if self._float_metric is None:
            assert self._metric is not None
            self._float_metric = measure(self._model.proto, self._samples.held_out, self._metric)
        return self._float_metric

    def _compare_outputs(self, proto: onnx.ModelProto, most: int) -> Sequence[Similarity]:
        return self._compare(proto, {name: name for name in self._outputs}, self._samples.held_out[:most], quiet=True)

    def _compare(
        self, proto: onnx.ModelProto, pairs: dict[str, str], samples: Sequence[SampleRef], *, quiet: bool = False
    ) -> list[Similarity]:
        return compare(self._model.proto, proto, pairs, self._model.sizes, samples, quiet=quiet)
