"""Write a quantized model in the standard form: QuantizeLinear and DequantizeLinear around float operators.

What it means is defined by ONNX alone, so that ONNX Runtime runs it and any compiler may read it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tvmbuild.quantization.graph_view import GraphView, view
from tvmbuild.quantization.layer_shape import by_channel, channel_axis
from tvmbuild.quantization.placement import Layer, Placement
from tvmbuild.quantization.scales import QuantParams, quantize_weights, scales_with_bias, weight_scales


@dataclass(frozen=True)
class WeightRule:
    """How weights are quantized.

    Attributes:
        scale: "max" or "mse", see ``scales.weight_scales``.
        power2: scales are powers of two.
    """

    scale: str = "max"
    power2: bool = False


def write_qdq(
    proto: onnx.ModelProto, placement: Placement, params: Mapping[str, QuantParams], rule: WeightRule
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return the model with Q and DQ where ``placement`` has them, and what is odd about its weights, for people.

    Args:
        proto: the folded float model, opset 13 or newer.
        placement: where the pairs go.
        params: scale and zero point of every tensor of ``placement.tensors``.
        rule: for the weights.
    """
    written = onnx.ModelProto()
    written.CopyFrom(proto)
    writer = _Writer(view(written), params, rule)
    for layer in placement.layers:
        writer.quantize_layer(layer)
    names = set(placement.tensors)
    nodes: list[NodeProto] = list(writer.front)
    for value in written.graph.input:
        nodes += writer.pair(value.name) if value.name in names else []
    for node in writer.graph.nodes:
        replaced = [f"{name}_DequantizeLinear" if name in names else name for name in node.input]
        del node.input[:]
        node.input.extend(replaced)
        nodes.append(NodeProto.FromString(node.SerializeToString()))
        for name in node.output:
            nodes += writer.pair(name) if name in names else []
    del written.graph.node[:]
    written.graph.node.extend(nodes)
    _replace_constants(written, writer.constants)
    return written, tuple(writer.notes)


def _replace_constants(proto: onnx.ModelProto, constants: Mapping[str, TensorProto]) -> None:
    """Add the new constants and drop those that nothing reads any more."""
    read = {name for node in proto.graph.node for name in node.input} | {v.name for v in proto.graph.output}
    inner = {name for node in proto.graph.node for a in node.attribute if a.HasField("g") for name in _reads(a.g)}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in read | inner]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend([*kept, *constants.values()])
    del proto.graph.value_info[:]


def _reads(graph: onnx.GraphProto) -> set[str]:
    from tvmbuild.onnx_model import walk

    return {name for node in walk.nodes(graph) for name in node.input}


class _Writer:
    """Collects the nodes and constants that are new."""

    def __init__(self, graph: GraphView, params: Mapping[str, QuantParams], rule: WeightRule) -> None:
        self.graph = graph
        self.params = params
        self.rule = rule
        self.front: list[NodeProto] = []
        self.constants: dict[str, TensorProto] = {}
        self.notes: list[str] = []

    def pair(self, name: str) -> list[NodeProto]:
        """Return the Q and DQ of an activation."""
        params = self.params[name]
        given = [
            self._constant(f"{name}_scale", np.float32(params.scale)),
            self._constant(f"{name}_zero_point", np.int8(params.zero_point)),
        ]
        middle = f"{name}_QuantizeLinear"
        return [
            _node("QuantizeLinear", [name, *given], middle),
            _node("DequantizeLinear", [middle, *given], f"{name}_DequantizeLinear"),
        ]

    def quantize_layer(self, layer: Layer) -> None:
        """Replace a layer's weights and bias by DQ of integers."""
        node, constants = self.graph.nodes[layer.index], self.graph.constants
        axis = channel_axis(node)
        rows = by_channel(constants[layer.weight], axis)
        scales = weight_scales(rows, self.rule.scale, power2=self.rule.power2)
        dead = int(np.count_nonzero(scales == 0))
        if dead:
            self.notes.append(f"layer '{layer.name}': the weights of {dead} of {len(scales)} channels are all zero")
        bias = self._bias(layer, len(rows))
        input_scale = self.params[layer.data].scale
        per_row = None if bias is None else np.abs(bias.reshape(-1, len(rows))).max(axis=0)
        scales = scales_with_bias(scales, per_row, input_scale, self.rule.power2)
        self._replace_weight(layer, axis, rows, scales)
        if bias is not None:
            repeated = np.tile(scales, bias.size // len(scales))
            self._replace_bias(layer, bias, np.float32(input_scale) * repeated)

    def _bias(self, layer: Layer, rows: int) -> np.ndarray | None:
        """Return a layer's bias, one value an output channel."""
        if not layer.bias:
            return None
        bias = self.graph.constants[layer.bias].reshape(-1)
        return np.broadcast_to(bias, (rows,)) if bias.size == 1 else bias

    def _replace_weight(self, layer: Layer, axis: int, rows: np.ndarray, scales: np.ndarray) -> None:
        weight = self.graph.constants[layer.weight]
        integers = quantize_weights(rows, scales).reshape(np.moveaxis(weight, axis, 0).shape)
        # The layer's own name: two layers may share weights and differ in what their bias asks of the scales.
        shared = len(self.graph.readers[layer.weight]) > 1
        name = f"{layer.weight}_{layer.index}" if shared else layer.weight
        self._dequantize(name, np.moveaxis(integers, 0, axis), scales, axis)
        self.graph.nodes[layer.index].input[1] = f"{name}_DequantizeLinear"

    def _replace_bias(self, layer: Layer, bias: np.ndarray, scales: np.ndarray) -> None:
        integers = np.clip(np.rint(bias.astype(np.float64) / scales), -(2**31) + 1, 2**31 - 1).astype(np.int32)
        name = f"{layer.output}__bias"
        self._dequantize(name, integers, scales, 0)
        if layer.operator == "MatMul":
            reader = self.graph.nodes[self.graph.readers[layer.bias][0]]
            reader.input[list(reader.input).index(layer.bias)] = f"{name}_DequantizeLinear"
        else:
            self.graph.nodes[layer.index].input[2] = f"{name}_DequantizeLinear"

    def _dequantize(self, name: str, integers: np.ndarray, scales: np.ndarray, axis: int) -> None:
        given = [
            self._constant(f"{name}_quantized", integers),
            self._constant(f"{name}_scale", scales.astype(np.float32)),
            self._constant(f"{name}_zero_point", np.zeros(scales.shape, integers.dtype)),
        ]
        self.front.append(_node("DequantizeLinear", given, f"{name}_DequantizeLinear", axis=axis))

    def _constant(self, name: str, value: np.ndarray | np.generic) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value).reshape(np.shape(value)), name)
        return name


def _node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, inputs, [output], name=output, **attributes)
