"""A model's graph as the placement of Q and DQ sees it: who makes a tensor, who reads it, what kind each node is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.quantization.layer_shape import is_layer

#: Element-wise with one operand that is not constant.
_UNARY = frozenset(
    {
        "Clip",
        "Elu",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Softsign",
        "Swish",
        "Tanh",
    }
)
#: Element-wise with two operands; unary when one is constant.
_BINARY = frozenset(("Add", "Sub", "Mul", "Div"))
#: Moves values without computing: input and output have one scale.
_CARRY = frozenset(
    {
        "Concat",
        "DepthToSpace",
        "Flatten",
        "GlobalMaxPool",
        "Identity",
        "MaxPool",
        "Reshape",
        "Slice",
        "SpaceToDepth",
        "Split",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    }
)
#: Averages: the output has a scale of its own.
_POOL = frozenset(("AveragePool", "GlobalAveragePool"))

LAYER, UNARY, JOIN, CARRY, POOL, FLOAT, INSIDE = "layer", "unary", "join", "carry", "pool", "float", "inside"


@dataclass
class GraphView:
    """Indexes over a folded model.

    Attributes:
        nodes: in topological order.
        constants: weights by name.
        producers: index of the node that makes a tensor.
        readers: indexes of the nodes that read a tensor, once for each node.
        outputs: names of the model's outputs.
        gates: by index of the multiplication that ends x * g(x): x, and the nodes of g.
    """

    nodes: list[NodeProto]
    constants: dict[str, np.ndarray]
    producers: dict[str, int]
    readers: dict[str, list[int]]
    outputs: frozenset[str]
    gates: dict[int, tuple[str, frozenset[int]]] = field(default_factory=dict)

    def kind(self, index: int) -> str:
        """Return what a node is to quantization: one of the constants of this file."""
        node = self.nodes[index]
        if node.domain not in ("", "ai.onnx"):
            return FLOAT
        if any(index in inside for _, inside in self.gates.values()):
            return INSIDE
        if is_layer(node, self.constants):
            return LAYER
        if index in self.gates or node.op_type in _UNARY:
            return UNARY
        if node.op_type in _BINARY:
            return self._binary(node)
        if node.op_type in _POOL:
            return POOL
        if node.op_type == "Resize":
            mode = walk.attributes(node).get("mode")
            return CARRY if mode is None or mode.s == b"nearest" else POOL
        return CARRY if node.op_type in _CARRY else FLOAT

    def _binary(self, node: NodeProto) -> str:
        if len(set(self.operands(node))) == 1:
            return UNARY
        return JOIN if node.op_type in ("Add", "Mul") else FLOAT

    def operands(self, node: NodeProto) -> list[str]:
        """Return the inputs of a node that are not constant."""
        return [name for name in node.input if name and name not in self.constants]

    def data(self, index: int) -> list[str]:
        """Return the tensors that a node takes as data: for x * g(x) x alone."""
        if index in self.gates:
            return [self.gates[index][0]]
        node = self.nodes[index]
        names = self.operands(node)
        # Shapes, indices and the like follow the data.
        return names if node.op_type in ("Concat", *_BINARY) else names[:1]

    def reader_count(self, name: str) -> int:
        """Return how many nodes read a tensor; x * g(x) counts once, a model's output as one more."""
        readers = self.readers.get(name, [])
        hidden = sum(index in inside for index in readers for _, inside in self.gates.values())
        return len(readers) - hidden + (name in self.outputs)


def view(proto: onnx.ModelProto) -> GraphView:
    """Index a model."""
    nodes = list(proto.graph.node)
    constants = {tensor.name: np.asarray(numpy_helper.to_array(tensor)) for tensor in proto.graph.initializer}
    for node in nodes:
        if node.op_type == "Constant" and "value" in (found := walk.attributes(node)):
            constants[node.output[0]] = np.asarray(numpy_helper.to_array(found["value"].t))
    producers = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    readers: dict[str, list[int]] = {}
    for index, node in enumerate(nodes):
        for name in walk.outer_reads(node):
            readers.setdefault(name, []).append(index)
    graph = GraphView(nodes, constants, producers, readers, frozenset(v.name for v in proto.graph.output))
    for index, node in enumerate(nodes):
        if node.op_type == "Mul" and len(set(graph.operands(node))) == 2:
            gate = _gate(graph, index)
            if gate is not None:
                graph.gates[index] = gate
    return graph


def _gate(graph: GraphView, index: int) -> tuple[str, frozenset[int]] | None:
    """Return x and the nodes of g when a multiplication computes x * g(x) and nothing else reads them."""
    left, right = graph.nodes[index].input
    for data, gate in ((left, right), (right, left)):
        inside: list[int] = []
        name = gate
        while name != data and len(graph.readers[name]) == 1 and name in graph.producers and name not in graph.outputs:
            maker = graph.producers[name]
            if graph.kind(maker) != UNARY:
                break
            inside.append(maker)
            (name,) = graph.data(maker)
        if name == data and inside and sorted(graph.readers[data]) == sorted([inside[-1], index]):
            return data, frozenset(inside)
    return None
