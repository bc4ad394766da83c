"""Bring models of old operator sets up to one that TVM's importer reads rightly.

Below the oldest version of an operator that it knows, the importer takes the oldest it has, which is wrong for many
(Slice before 10, broadcasting before 7). onnx's converter does the bulk; the operators whose meaning it changes
silently are hidden from it under a domain of their own and rewritten here.
"""

from __future__ import annotations

import onnx
from onnx import NodeProto, helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts, gather_facts, opset_of
from tvmbuild.onnx_model.rewrites.legacy import REWRITES
from tvmbuild.onnx_model.skeleton import with_weights, without_weights
from tvmbuild.support.errors import PreparationError

#: The opset that older models are brought to.
OPSET = 13
#: Domain of operators that wait for their rewrite while onnx converts the others.
_WAITING = "tvmbuild.waiting"


def update_opset(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return the model at ``OPSET`` or the newer one it has, and what was done.

    The model's shapes must be fixed. Raises:
        PreparationError: an operator that cannot be converted.
    """
    before = opset_of(proto)
    if before >= OPSET:
        return proto, ()
    skeleton = without_weights(proto)
    _hide(skeleton, before)
    try:
        converted = onnx.version_converter.convert_version(skeleton, OPSET)
    except (RuntimeError, ValueError, onnx.checker.ValidationError) as error:
        reason = " ".join(str(error).split())[-300:]
        raise PreparationError(
            f"The model uses opset {before}, and an operator cannot be brought to opset {OPSET}: {reason}",
            f"Export the model with opset {OPSET} or newer.",
        ) from error
    rewritten = _rewrite_hidden(converted, gather_facts(proto))
    with_weights(converted, proto.graph.initializer)
    _restore_signature(converted, proto)
    note = f"opset {before} brought to {OPSET}"
    if rewritten:
        note += f" ({', '.join(f'{count} {name}' for name, count in sorted(rewritten.items()))} rewritten)"
    return converted, (note,)


def _hide(proto: onnx.ModelProto, opset: int) -> None:
    for node in walk.nodes(proto.graph):
        if node.domain in ("", "ai.onnx") and node.op_type in REWRITES and opset < REWRITES[node.op_type].below:
            node.domain = _WAITING
    proto.opset_import.append(helper.make_opsetid(_WAITING, 1))


def _rewrite_hidden(proto: onnx.ModelProto, facts: Facts) -> dict[str, int]:
    counts: dict[str, int] = {}
    for graph in walk.graphs(proto.graph):
        nodes: list[NodeProto] = []
        for node in graph.node:
            if node.domain == _WAITING:
                counts[node.op_type] = counts.get(node.op_type, 0) + 1
                nodes.extend(REWRITES[node.op_type].apply(node, facts))
            else:
                nodes.append(node)
        copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
        del graph.node[:]
        graph.node.extend(copies)
    kept = [each for each in proto.opset_import if each.domain != _WAITING]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)
    return counts


def _restore_signature(converted: onnx.ModelProto, original: onnx.ModelProto) -> None:
    """Put back the order and types of inputs and outputs, which the converter may change."""
    for field in ("input", "output"):
        values = getattr(converted.graph, field)
        del values[:]
        values.extend(getattr(original.graph, field))
    del converted.graph.value_info[:]
