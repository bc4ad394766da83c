"""Write operators that compute on integers as QuantizeLinear, DequantizeLinear and the float operator between them.

QLinearConv(x, w) means QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w))), up to rounding; the graph passes
turn that into integer kernels again. ConvInteger and MatMulInteger are the same with scales of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tvmbuild.onnx_model import walk

_STANDARD = ("", "ai.onnx")
_MICROSOFT = "com.microsoft"


def is_qoperator(node: NodeProto) -> bool:
    """Whether a node is an operator on integers that this file rewrites."""
    return (_MICROSOFT if node.domain == _MICROSOFT else "", node.op_type) in _RULES and (
        node.domain in _STANDARD or node.domain == _MICROSOFT
    )


def to_qdq(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Rewrite the integer operators of a model in place; return what was rewritten, for people."""
    counts: dict[str, int] = {}
    for graph in walk.graphs(proto.graph):
        constants = {tensor.name: tensor for tensor in graph.initializer}
        nodes: list[NodeProto] = []
        for node in graph.node:
            if not is_qoperator(node):
                nodes.append(NodeProto.FromString(node.SerializeToString()))
                continue
            counts[node.op_type] = counts.get(node.op_type, 0) + 1
            parts = _Parts(node, constants)
            _RULES[_MICROSOFT if node.domain == _MICROSOFT else "", node.op_type](parts)
            nodes.extend(parts.nodes)
            graph.initializer.extend(parts.constants)
        del graph.node[:]
        graph.node.extend(nodes)
    if counts:
        # Elements declared inside belong to tensors that are gone.
        del proto.graph.value_info[:]
    return tuple(f"{count} {name} rewritten to QDQ" for name, count in sorted(counts.items()))


@dataclass
class _Parts:
    """A node on its way to QDQ: what has been made of it."""

    node: NodeProto
    known: Mapping[str, TensorProto]
    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    @property
    def inputs(self) -> list[str]:
        """The node's inputs, with "" for those left out."""
        return [*self.node.input, *[""] * 10]

    def emit(self, operator: str, inputs: list[str], output: str = "", **attributes: Any) -> str:
        """Append a standard operator and return its output's name."""
        name = output or f"{self.node.output[0]}__{len(self.nodes)}"
        while inputs and not inputs[-1]:
            inputs = inputs[:-1]
        label = f"{walk.label(self.node)}/{operator}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=label, **attributes))
        return name

    def constant(self, array: np.ndarray, word: str) -> str:
        """Add a constant and return its name."""
        name = f"{self.node.output[0]}__{word}"
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def dequantized(self, first: int, axis: int | None = None) -> str:
        """Return the real numbers of the input at ``first``, whose scale and zero point come next."""
        data, scale, zero = self.inputs[first : first + 3]
        known = self.known.get(scale)
        attributes: dict[str, Any] = {}
        if axis is not None and known is not None and int(np.prod(known.dims)) > 1:
            attributes["axis"] = axis
        return self.emit("DequantizeLinear", [data, scale, zero], **attributes)

    def quantized(self, data: str, scale: str, zero: str) -> None:
        """Write the node's own output."""
        self.emit("QuantizeLinear", [data, scale, zero], self.node.output[0])

    def attributes(self, *dropped: str) -> dict[str, Any]:
        """Return the node's attributes by name, but for some."""
        return {
            attribute.name: helper.get_attribute_value(attribute)
            for attribute in self.node.attribute
            if attribute.name not in dropped
        }

    def scale_of_bias(self, data: str, weight: str) -> str:
        """Return the product of two scales."""
        first, second = self.known.get(data), self.known.get(weight)
        if first is None or second is None:
            return self.emit("Mul", [data, weight])
        product = numpy_helper.to_array(first).reshape(-1) * numpy_helper.to_array(second).reshape(-1)
        return self.constant(product.reshape(()) if product.size == 1 else product, "bias_scale")


def _conv(parts: _Parts) -> None:
    inputs = [parts.dequantized(0), parts.dequantized(3, axis=0)]
    if parts.inputs[8]:
        scale = parts.scale_of_bias(parts.inputs[1], parts.inputs[4])
        inputs.append(parts.emit("DequantizeLinear", [parts.inputs[8], scale], axis=0))
    real = parts.emit("Conv", inputs, **parts.attributes())
    parts.quantized(real, parts.inputs[6], parts.inputs[7])


def _matmul(parts: _Parts) -> None:
    real = parts.emit("MatMul", [parts.dequantized(0), parts.dequantized(3, axis=-1)])
    parts.quantized(real, parts.inputs[6], parts.inputs[7])


def _integer(operator: str, axis: int) -> Callable[[_Parts], None]:
    """ConvInteger and MatMulInteger give int32; float32 holds their sums exactly up to 2**24."""

    def rule(parts: _Parts) -> None:
        left, right, left_zero, right_zero = parts.inputs[:4]
        one = parts.constant(np.array(1.0, np.float32), "one")
        ones, known = one, parts.known.get(right_zero)
        attributes: dict[str, Any] = {}
        if known is not None and int(np.prod(known.dims)) > 1:
            ones, attributes = parts.constant(np.ones(int(np.prod(known.dims)), np.float32), "ones"), {"axis": axis}
        first = parts.emit("DequantizeLinear", [left, one, left_zero])
        second = parts.emit("DequantizeLinear", [right, ones, right_zero], **attributes)
        real = parts.emit(operator, [first, second], **parts.attributes())
        parts.emit("Cast", [real], parts.node.output[0], to=TensorProto.INT32)

    return rule


def _binary(operator: str) -> Callable[[_Parts], None]:
    def rule(parts: _Parts) -> None:
        real = parts.emit(operator, [parts.dequantized(0), parts.dequantized(3)])
        parts.quantized(real, parts.inputs[6], parts.inputs[7])

    return rule


def _unary(operator: str, *dropped: str) -> Callable[[_Parts], None]:
    def rule(parts: _Parts) -> None:
        real = parts.emit(operator, [parts.dequantized(0)], **parts.attributes(*dropped))
        parts.quantized(real, parts.inputs[3], parts.inputs[4])

    return rule


def _concat(parts: _Parts) -> None:
    parts_of = [parts.dequantized(first) for first in range(2, len(parts.node.input), 3)]
    parts.quantized(parts.emit("Concat", parts_of, **parts.attributes()), parts.inputs[0], parts.inputs[1])


def _gemm(parts: _Parts) -> None:
    transposed = bool(parts.attributes().get("transB", 0))
    inputs = [parts.dequantized(0), parts.dequantized(3, axis=0 if transposed else 1)]
    if parts.inputs[6]:
        scale = parts.scale_of_bias(parts.inputs[1], parts.inputs[4])
        inputs.append(parts.emit("DequantizeLinear", [parts.inputs[6], scale], axis=0))
    if not parts.inputs[7]:
        parts.emit("Gemm", inputs, parts.node.output[0], **parts.attributes())
        return
    parts.quantized(parts.emit("Gemm", inputs, **parts.attributes()), parts.inputs[7], parts.inputs[8])


def _same(parts: _Parts) -> None:
    """Microsoft's QuantizeLinear and DequantizeLinear, which the standard has since taken over."""
    parts.emit(parts.node.op_type, list(parts.node.input), parts.node.output[0], **parts.attributes())


#: By domain and operator.
_RULES: Mapping[tuple[str, str], Callable[[_Parts], None]] = {
    ("", "QLinearConv"): _conv,
    ("", "QLinearMatMul"): _matmul,
    ("", "ConvInteger"): _integer("Conv", 0),
    ("", "MatMulInteger"): _integer("MatMul", -1),
    (_MICROSOFT, "QLinearAdd"): _binary("Add"),
    (_MICROSOFT, "QLinearMul"): _binary("Mul"),
    (_MICROSOFT, "QLinearSigmoid"): _unary("Sigmoid"),
    (_MICROSOFT, "QLinearLeakyRelu"): _unary("LeakyRelu"),
    (_MICROSOFT, "QLinearSoftmax"): _unary("Softmax", "opset"),
    (_MICROSOFT, "QLinearAveragePool"): _unary("AveragePool", "channels_last"),
    (_MICROSOFT, "QLinearGlobalAveragePool"): _unary("GlobalAveragePool", "channels_last"),
    (_MICROSOFT, "QLinearConcat"): _concat,
    (_MICROSOFT, "QGemm"): _gemm,
    (_MICROSOFT, "QuantizeLinear"): _same,
    (_MICROSOFT, "DequantizeLinear"): _same,
}
