"""What a model's own numbers are rounded to on the way: codes of so many bits, half precision, or neither.

It decides how closely two runs of the model can agree. Both are read off the model, never off the kernels that it gets:
a value that QuantizeLinear rounds is a step off wherever float sums of another order cross a border between two codes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import onnx
from onnx import AttributeProto, GraphProto, NodeProto, TensorProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.rewrites.qoperators import is_qoperator

_HALF = (TensorProto.FLOAT16, TensorProto.BFLOAT16)
#: Where QuantizeLinear has its zero point, whose type is that of the codes.
_ZERO = 2
#: Bits of a code when nothing says how many.
_BITS = 8
_CODE_BITS: Mapping[int, int] = {TensorProto.INT16: 16, TensorProto.UINT16: 16}


@dataclass(frozen=True)
class Rounding:
    """What limits how closely two runs of a model agree.

    Attributes:
        code_bits: bits of the narrowest codes that the model rounds values to as it runs; 0 when it does not.
        half: whether it computes in float16 or bfloat16; weights that are only kept so and cast at once do not count.
    """

    code_bits: int = 0
    half: bool = False

    @property
    def step(self) -> float:
        """One step of the narrowest codes in steps of 8 bits: 1 for 8 bits, 1/256 for 16; 0 without codes."""
        return 2.0 ** (_BITS - self.code_bits) if self.code_bits else 0.0


def rounding_of(model: onnx.ModelProto) -> Rounding:
    """Look through a model, the graphs inside its nodes and its functions."""
    bodies = [model.graph, *(GraphProto(node=function.node) for function in model.functions)]
    bits = [each for body in bodies for each in _code_bits(body)]
    return Rounding(min(bits, default=0), any(_has_half(body) for body in bodies))


def _code_bits(body: GraphProto) -> Iterator[int]:
    types = {tensor.name: tensor.data_type for graph in walk.graphs(body) for tensor in graph.initializer}
    for node in walk.nodes(body):
        for attribute in node.attribute:
            if node.op_type == "Constant" and attribute.type == AttributeProto.TENSOR:
                types[node.output[0]] = attribute.t.data_type
    for node in walk.nodes(body):
        if node.input and node.input[0] in types:
            continue  # What is rounded is constant: the same in every run.
        if node.op_type == "QuantizeLinear":
            yield _CODE_BITS.get(_quantized_type(node, types), _BITS)
        elif node.op_type == "DynamicQuantizeLinear" or (is_qoperator(node) and node.op_type != "DequantizeLinear"):
            yield _BITS


def _quantized_type(node: NodeProto, types: dict[str, int]) -> int:
    if len(node.input) > _ZERO and node.input[_ZERO]:
        return types.get(node.input[_ZERO], TensorProto.UINT8)
    given = walk.attributes(node).get("output_dtype")
    return int(given.i) if given is not None and given.i else TensorProto.UINT8


def _has_half(body: GraphProto) -> bool:
    """Whether a tensor that is not constant is half, or an operator other than Cast reads a constant that is."""
    constants = {tensor.name for graph in walk.graphs(body) for tensor in graph.initializer}
    constants |= {name for node in walk.nodes(body) if node.op_type == "Constant" for name in node.output}
    half = set(_half_constants(body))
    for graph in walk.graphs(body):
        for value in (*graph.input, *graph.output, *graph.value_info):
            if value.type.tensor_type.elem_type in _HALF and value.name not in constants:
                return True
    for node in walk.nodes(body):
        to = walk.attributes(node).get("to")
        if (to is not None and to.i in _HALF) or (node.op_type != "Cast" and half.intersection(node.input)):
            return True
    return False


def _half_constants(body: GraphProto) -> Iterator[str]:
    for graph in walk.graphs(body):
        yield from (tensor.name for tensor in graph.initializer if tensor.data_type in _HALF)
    for node in walk.nodes(body):
        if node.op_type == "Constant" and any(attribute.t.data_type in _HALF for attribute in node.attribute):
            yield node.output[0]
