"""What a rewrite puts in a node's place, and the helpers that rewrites share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from onnx import AttributeProto, NodeProto, TensorProto, helper


@dataclass(frozen=True)
class Replacement:
    """What takes a node's place: nodes in order, and the constants that they read."""

    nodes: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...] = ()


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
