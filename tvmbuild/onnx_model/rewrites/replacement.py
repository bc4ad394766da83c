"""What a rewrite puts in a node's place, and the helpers that rewrites share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from tvmbuild.onnx_model import walk


@dataclass(frozen=True)
class Replacement:
    """What takes a node's place: nodes in order, and the constants that they read."""

    nodes: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...] = ()


@dataclass
class Emitted:
    """What takes a node's place, as it grows: nodes in order, and the constants that they read."""

    nodes: list[NodeProto] = field(default_factory=list)
    constants: list[TensorProto] = field(default_factory=list)

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        """Emit a node of one output and return that."""
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output

    def constant(self, name: str, array: np.ndarray) -> str:
        """Emit a constant and return its name."""
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def reshape(self, data: str, shape: Iterable[int], output: str) -> str:
        """Emit a reshape and return its output."""
        return self.node("Reshape", [data, self.constant(f"{output}__shape", np.array([*shape], np.int64))], output)


def changed(node: NodeProto, inputs: list[str], set_to: Mapping[str, object], drop: tuple[str, ...] = ()) -> NodeProto:
    """Return a copy of a node with other inputs and attributes."""
    copy = NodeProto()
    copy.CopyFrom(node)
    del copy.input[:]
    copy.input.extend(inputs)
    kept = [each for each in node.attribute if each.name not in set_to and each.name not in drop]
    del copy.attribute[:]
    copy.attribute.extend(kept)
    copy.attribute.extend(helper.make_attribute(name, value) for name, value in set_to.items())
    return copy


def ints(found: Mapping[str, AttributeProto], name: str, default: list[int]) -> list[int]:
    """Return an attribute's list of integers, or the default."""
    return list(found[name].ints) if name in found else default


def text(found: Mapping[str, AttributeProto], name: str, default: str) -> str:
    """Return an attribute's string, or the default."""
    return found[name].s.decode() if name in found else default


def replace_nodes(proto: ModelProto, nodes: list[NodeProto]) -> None:
    """Put the nodes that something reads into the graph, and drop weights that nothing reads."""
    read = {value.name for value in proto.graph.output}
    kept: list[NodeProto] = []
    for node in reversed(nodes):
        if read.intersection(node.output):
            read |= walk.outer_reads(node)
            kept.append(NodeProto.FromString(node.SerializeToString()))
    del proto.graph.node[:]
    proto.graph.node.extend(reversed(kept))
    weights = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(weights)
    del proto.graph.value_info[:]
