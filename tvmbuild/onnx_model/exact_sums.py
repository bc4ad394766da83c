"""Write integer products so that ONNX Runtime sums them exactly on every CPU.

On x86 without VNNI (Zen 2 and 3, Intel before Ice Lake) its kernels for uint8 times int8 add pairs of products in 16
bits, with saturation (``vpmaddubsw``). Its kernels for uint8 times uint8 widen first and are exact on every CPU. So
int8 operands become uint8 with a zero point 128 higher, which is the same number, and int8 results are brought back.
On a CPU whose kernels are exact nothing changes, to the bit.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, inliner, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.skeleton import without_weights

_MICROSOFT = "com.microsoft"
#: What an int8 code is moved by.
_SHIFT = 128
#: The standard opset of a model that imports none: one that has the operators inserted here.
_OPSET = 13


@dataclass(frozen=True)
class _Places:
    """Where an operator has its codes: (data, zero point) of each operand, and the zero point of a result in codes."""

    operands: tuple[tuple[int, int], ...]
    result_zero: int | None = None


_QLINEAR = _Places(((0, 2), (3, 5)), 7)
_INTEGER = _Places(((0, 2), (1, 3)))
#: Operators that multiply codes, by domain and name.
_PLACES: Mapping[tuple[str, str], _Places] = {
    ("", "QLinearConv"): _QLINEAR,
    ("", "QLinearMatMul"): _QLINEAR,
    ("", "ConvInteger"): _INTEGER,
    ("", "MatMulInteger"): _INTEGER,
    (_MICROSOFT, "QLinearConv"): _QLINEAR,
    (_MICROSOFT, "QGemm"): _Places(((0, 2), (3, 5)), 8),
    (_MICROSOFT, "MatMulIntegerToFloat"): _Places(((0, 4), (1, 5))),
    (_MICROSOFT, "DynamicQuantizeMatMul"): _Places(((1, 3),)),
}


def with_exact_sums(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with its int8 products written as uint8 ones; the one given where there are none.

    The model given is never changed. Weights may be anywhere: constants, external files or computed by the model.
    """
    bodies = [model.graph, *(_body(function) for function in model.functions)]
    if not any(_places(node) for body in bodies for node in walk.nodes(body)):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    if changed.functions:
        # Types are known only where a function is called.
        changed = inliner.inline_local_functions(changed)
    if not any(each.domain in ("", "ai.onnx") for each in changed.opset_import):
        changed.opset_import.append(helper.make_opsetid("", _OPSET))
    _rewrite(changed.graph, _with_types(changed), {}, itertools.count())
    return changed


def _with_types(model: onnx.ModelProto) -> GraphProto:
    """Return the model's graph with the types that ONNX infers; where it finds a mistake, those that are declared."""
    skeleton = without_weights(model)
    try:
        return onnx.shape_inference.infer_shapes(skeleton).graph
    except onnx.shape_inference.InferenceError:
        return skeleton.graph


def _body(function: onnx.FunctionProto) -> GraphProto:
    return GraphProto(node=function.node)


def _places(node: NodeProto) -> _Places | None:
    return _PLACES.get(("" if node.domain == "ai.onnx" else node.domain, node.op_type))


def _rewrite(graph: GraphProto, inferred: GraphProto, outer: Mapping[str, int], numbers: Iterator[int]) -> None:
    """Rewrite a graph and the graphs inside it, in place; ``inferred`` is the same with types."""
    shifter = _Shifter(graph, {**outer, **_types(graph), **_types(inferred)}, f"__tvmbuild_{next(numbers)}")
    nodes = [NodeProto.FromString(node.SerializeToString()) for node in graph.node]
    for node, typed in zip(nodes, inferred.node, strict=True):
        for inner, typed_inner in zip(walk.subgraphs(node), walk.subgraphs(typed), strict=True):
            _rewrite(inner, typed_inner, shifter.types, numbers)
        shifter.take(node)
    del graph.node[:]
    graph.node.extend(shifter.nodes)


def _types(graph: GraphProto) -> dict[str, int]:
    types = {
        value.name: value.type.tensor_type.elem_type
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.elem_type
    }
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and "value" in (found := walk.attributes(node)):
            types[node.output[0]] = found["value"].t.data_type
    return types


@dataclass
class _Shifter:
    """One graph on its way to uint8; ``ending`` marks the names made in it, which an inner graph may not make again."""

    graph: GraphProto
    types: dict[str, int]
    ending: str
    nodes: list[NodeProto] = field(default_factory=list)
    shifted: dict[str, str] = field(default_factory=dict)

    def take(self, node: NodeProto) -> None:
        """Append a node, with what its int8 operands and result need around it."""
        places = _places(node)
        result = node.output[0] if places is not None else ""
        is_shifted = places is not None and self._operands(node, places) and self._has_codes(node, places)
        if is_shifted:
            node.output[0] = f"{result}{self.ending}"
        self.nodes.append(node)
        if is_shifted:
            self._move(node.output[0], -_SHIFT, TensorProto.INT8, result)

    def _operands(self, node: NodeProto, places: _Places) -> bool:
        """Shift the operands of a node that are int8; say whether the first one, whose type the result has, was."""
        first = False
        for data, zero in places.operands:
            if not self._is_int8(node, data, zero):
                continue
            first = first or (data, zero) == places.operands[0]
            node.input.extend([""] * (zero + 1 - len(node.input)))
            node.input[data] = self._as_uint8(node.input[data])
            node.input[zero] = (
                self._as_uint8(node.input[zero]) if node.input[zero] else self._constant(np.uint8(_SHIFT))
            )
        return first

    def _has_codes(self, node: NodeProto, places: _Places) -> bool:
        """Whether the result is codes; then its zero point is shifted."""
        at = places.result_zero
        if at is None or at >= len(node.input) or not node.input[at]:
            return False
        node.input[at] = self._as_uint8(node.input[at])
        return True

    def _is_int8(self, node: NodeProto, *places: int) -> bool:
        """Whether an operand is int8: its own type, or else that of its zero point, which is the same."""
        names = [node.input[place] for place in places if place < len(node.input)]
        return next((self.types[name] for name in names if name in self.types), None) == TensorProto.INT8

    def _as_uint8(self, name: str) -> str:
        if name not in self.shifted:
            self.shifted[name] = self._move(name, _SHIFT, TensorProto.UINT8, f"{name}{self.ending}")
        return self.shifted[name]

    def _move(self, name: str, by: int, to: int, output: str) -> str:
        wide, moved = f"{output}{self.ending}_wide", f"{output}{self.ending}_moved"
        self.nodes.append(helper.make_node("Cast", [name], [wide], to=TensorProto.INT32))
        self.nodes.append(helper.make_node("Add", [wide, self._constant(np.int32(by))], [moved]))
        self.nodes.append(helper.make_node("Cast", [moved], [output], to=to))
        return output

    def _constant(self, value: np.generic) -> str:
        name = f"{value.dtype}_{value}{self.ending}"
        if all(tensor.name != name for tensor in self.graph.initializer):
            self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name
