"""Tells which layers int8 would make slower on a core, by the cost models that choose schedules."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

import onnx

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import gather_facts
from tvmbuild.quantization.graph_view import view
from tvmbuild.quantization.placement import Layer, find_layers
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.int8.cost import int8_cost
from tvmbuild.schedules.legalize import conv2d_plan
from tvmbuild.target.target import Target

#: int8 stays unless it is slower by more than this: its weights are a quarter, and the prediction errs as much.
_MARGIN = 1.10

#: Cycles to quantize or dequantize one element: four instructions on vectors of four.
_CONVERT_CYCLES = 1.0


@dataclass(frozen=True)
class LayerSpeed:
    """Predicted cycles of a layer.

    Attributes:
        fp32: of the float32 kernel that would be chosen.
        int8: of the int8 kernel, with quantizing its input where that is the model's.
        borders: of the conversions around the layer if it stays in float between layers in int8.
    """

    fp32: float
    int8: float
    borders: float

    @property
    def is_slower(self) -> bool:
        """Whether int8 is slower by more than the margin."""
        return self.int8 > _MARGIN * (self.fp32 + self.borders)


@dataclass(frozen=True)
class ModelSpeed:
    """Predicted cycles of a model's dense convolutions on a core; other layers are not predicted.

    Attributes:
        target: the board.
        layers: by name.
    """

    target: Target
    layers: dict[str, LayerSpeed]

    def reason(self, layer: Layer) -> str:
        """Return why a layer should stay in float, or ""."""
        speed = self.layers.get(layer.name)
        if speed is None or not speed.is_slower:
            return ""
        return (
            f"predicted slower in int8 on {self.target.cpu}: {speed.int8 / 1e6:.2f} Mcycles, in float "
            f"{speed.fp32 / 1e6:.2f} and {speed.borders / 1e6:.2f} to convert"
        )

    def note(self, kept: Collection[str]) -> str:
        """Return a sentence where int8 does not pay for the whole model with some layers in float, else ""."""
        fp32 = sum(speed.fp32 for speed in self.layers.values())
        mixed = sum(speed.fp32 + speed.borders if name in kept else speed.int8 for name, speed in self.layers.items())
        if not self.layers or mixed < fp32:
            return ""
        return (
            f"int8 does not pay on {self.target.cpu}: the convolutions are predicted to take {mixed / 1e6:.1f} "
            f"Mcycles, in float {fp32 / 1e6:.1f}; what is left of it is smaller weights"
        )


def predict_speed(proto: onnx.ModelProto, target: Target) -> ModelSpeed:
    """Predict the dense 2D convolutions of a float model of fixed shapes in float32 and in int8."""
    graph, shapes = view(proto), gather_facts(proto).shapes
    inputs = {value.name for value in proto.graph.input}
    outputs = {value.name for value in proto.graph.output}
    found = {}
    for layer in find_layers(graph):
        geometry = _geometry(graph.nodes[layer.index], shapes)
        cost = int8_cost(geometry, target) if geometry is not None else None
        if geometry is None or cost is None:
            continue
        plan = conv2d_plan.choose(geometry, graph.constants[layer.weight], target)
        read, made = (math.prod(shapes[name]) * _CONVERT_CYCLES for name in (layer.data, layer.output))
        quantized = read if layer.data in inputs else 0.0
        borders = (0.0 if layer.data in inputs else read) + (0.0 if layer.output in outputs else made)
        fp32 = conv2d_plan.cost_of(geometry, plan, target, "float32")
        found[layer.name] = LayerSpeed(fp32, cost + quantized, borders)
    return ModelSpeed(target, found)


def _geometry(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> Conv2dGeometry | None:
    """Return the geometry of a dense 2D convolution, or None for other nodes."""
    data, made, weight = (shapes.get(name) for name in (node.input[0], node.output[0], node.input[1]))
    if node.op_type != "Conv" or data is None or made is None or weight is None or len(data) != 4:
        return None
    found = {name: onnx.helper.get_attribute_value(value) for name, value in walk.attributes(node).items()}
    if found.get("auto_pad", b"NOTSET") != b"NOTSET" or found.get("group", 1) != 1:
        return None
    stride, dilation = (tuple(found.get(name, (1, 1))) for name in ("strides", "dilations"))
    padding = tuple(found.get("pads", (0, 0, 0, 0)))
    return Conv2dGeometry(
        data[0], data[2], data[3], data[1], made[1], (weight[2], weight[3]), stride, dilation, padding
    )
