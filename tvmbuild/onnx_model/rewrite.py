"""Write operators that TVM's importer misreads in a form that it reads rightly.

Each rewrite takes a node and what is known of the model's tensors, and returns the nodes and constants to put in its
place, or None to leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts, gather_facts


@dataclass(frozen=True)
class Replacement:
    """What takes a node's place: nodes in order, and the constants that they read."""

    nodes: tuple[NodeProto, ...]
    constants: tuple[TensorProto, ...] = ()


def rewrite_operators(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Rewrite a folded model in place; return what was rewritten, for people."""
    facts = gather_facts(proto)
    counts: dict[str, int] = {}
    for graph in walk.graphs(proto.graph):
        nodes: list[NodeProto] = []
        constants: list[TensorProto] = []
        for node in graph.node:
            rewrite = _REWRITES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            replacement = rewrite(node, facts) if rewrite else None
            if replacement is None:
                nodes.append(node)
            else:
                counts[node.op_type] = counts.get(node.op_type, 0) + 1
                nodes.extend(replacement.nodes)
                constants.extend(replacement.constants)
        if len(nodes) != len(graph.node) or any(new is not old for new, old in zip(nodes, graph.node, strict=False)):
            copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)
            graph.initializer.extend(constants)
    return tuple(f"{count} {name} rewritten for TVM's importer" for name, count in sorted(counts.items()))


def _changed(node: NodeProto, inputs: list[str], set_to: Mapping[str, object], drop: tuple[str, ...] = ()) -> NodeProto:
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


def _ints(found: Mapping[str, AttributeProto], name: str, default: list[int]) -> list[int]:
    return list(found[name].ints) if name in found else default


def _conv_transpose(node: NodeProto, facts: Facts) -> Replacement | None:
    """ConvTranspose with ``output_shape``, which the importer ignores: as explicit pads.

    The ONNX manual's formula: total = stride * (in - 1) + output_padding + (kernel - 1) * dilation + 1 - out; half of
    it at each end, the odd one at the end for SAME_UPPER and at the beginning otherwise.
    """
    found = walk.attributes(node)
    shape, weight = facts.shapes.get(node.input[0]), facts.shapes.get(node.input[1])
    if "output_shape" not in found or shape is None or weight is None:
        return None
    rank = len(shape) - 2
    out = list(found["output_shape"].ints)[-rank:]
    stride, dilation = _ints(found, "strides", [1] * rank), _ints(found, "dilations", [1] * rank)
    extra = _ints(found, "output_padding", [0] * rank)
    upper = "auto_pad" in found and found["auto_pad"].s == b"SAME_UPPER"
    begin, end = [], []
    for axis in range(rank):
        full = stride[axis] * (shape[axis + 2] - 1) + (weight[axis + 2] - 1) * dilation[axis] + 1
        total = full + extra[axis] - out[axis]
        if total < 0:
            # More than the whole result is asked for: the rest is zeros at the end, as output_padding gives.
            extra[axis], total = extra[axis] - total, 0
        begin.append(total // 2 if upper else total - total // 2)
        end.append(total - begin[-1])
    attributes = {"pads": begin + end, "output_padding": extra}
    return Replacement((_changed(node, list(node.input), attributes, ("output_shape", "auto_pad")),))


def _resize(node: NodeProto, facts: Facts) -> Replacement | None:
    """Resize with ``axes``, a policy or scales: with the sizes of all axes, where that means the same.

    Sizes mean the same as scales where the scale times the input's size is a whole number; other scales are left, and
    are refused later.
    """
    found = walk.attributes(node)
    shape, out = facts.shapes.get(node.input[0]), facts.shapes.get(node.output[0])
    if shape is None or out is None or not resizes_by_ratio(node, facts):
        return None
    has_sizes = len(node.input) > 3 and bool(node.input[3])
    symmetric = b"half_pixel_symmetric"
    mode = found["coordinate_transformation_mode"].s if "coordinate_transformation_mode" in found else b""
    if has_sizes and mode != symmetric and not {"axes", "keep_aspect_ratio_policy"} & set(found):
        return None
    sizes = f"{node.output[0]}__sizes"
    attributes: dict[str, object] = {}
    if mode == symmetric:
        # The two differ only where the output was rounded down.
        attributes["coordinate_transformation_mode"] = "half_pixel"
    if len(node.input) > 1 and node.input[1] and "axes" in found:
        return None
    roi = node.input[1] if len(node.input) > 1 else ""
    changed = _changed(node, [node.input[0], roi, "", sizes], attributes, ("axes", "keep_aspect_ratio_policy"))
    return Replacement((changed,), (numpy_helper.from_array(np.array(out, np.int64), sizes),))


def resizes_by_ratio(node: NodeProto, facts: Facts) -> bool:
    """Whether a Resize maps coordinates by the ratio of its output's to its input's size on every axis."""
    found = walk.attributes(node)
    shape, out = facts.shapes.get(node.input[0]), facts.shapes.get(node.output[0])
    if shape is None or out is None:
        return False
    axes = [axis % len(shape) for axis in _ints(found, "axes", list(range(len(shape))))]
    scales = facts.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if scales is not None and scales.size:
        exact = [float(scale) * shape[axis] for scale, axis in zip(scales, axes, strict=True)]
        return all(abs(size - out[axis]) < 1e-4 for size, axis in zip(exact, axes, strict=True))
    policy = found["keep_aspect_ratio_policy"].s if "keep_aspect_ratio_policy" in found else b"stretch"
    if policy == b"stretch":
        return True
    return len({out[axis] / shape[axis] for axis in axes}) == 1


def _pow(node: NodeProto, facts: Facts) -> Replacement | None:
    """Pow with an exponent of another dtype than the base's, which Relax refuses: with the exponent cast first."""
    base, exponent = (facts.dtypes.get(name) for name in node.input)
    if base is None or exponent is None or base == exponent:
        return None
    cast = f"{node.output[0]}__exponent"
    to = helper.np_dtype_to_tensor_dtype(np.dtype(base))
    array = facts.array(node.input[1])
    if array is not None:
        constant = numpy_helper.from_array(array.astype(base), cast)
        return Replacement((_changed(node, [node.input[0], cast], {}),), (constant,))
    cast_node = helper.make_node("Cast", [node.input[1]], [cast], to=to)
    return Replacement((cast_node, _changed(node, [node.input[0], cast], {})))


_REWRITES: Mapping[str, Callable[[NodeProto, Facts], Replacement | None]] = {
    "ConvTranspose": _conv_transpose,
    "Pow": _pow,
    "Resize": _resize,
}
