"""Give convolutions their input as it is computed, where an exporter puts an operator of its own in between.

Zeros that Pad adds become the convolution's own padding: PyTorch's ZeroPad2d and F.pad, and the "SAME" padding of
models that came from TensorFlow. A convolution of one channel over many planes, the filter of upfirdn2d in StyleGAN2
(its channels are folded into the batch), becomes a depthwise convolution of one image, which keeps the channels
innermost in memory.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.rewrites.replacement import Emitted, changed, ints, replace_nodes, text


def straighten_convolutions(proto: onnx.ModelProto, facts: Facts) -> tuple[str, ...]:
    """Rewrite a folded model with explicit padding in place; return what was rewritten, for people."""
    writers = {name: node for node in proto.graph.node for name in node.output if name}
    nodes: list[NodeProto] = []
    padded = planes = 0
    for node in proto.graph.node:
        emitted = Emitted()
        if node.op_type == "Conv" and node.domain in ("", "ai.onnx"):
            own = _with_padding(node, writers.get(node.input[0]), facts)
            padded += own is not None
            node = node if own is None else own
            planes += _as_depthwise(node, facts, emitted)
        nodes.extend(emitted.nodes or [node])
        proto.graph.initializer.extend(emitted.constants)
    if padded or planes:
        replace_nodes(proto, nodes)
    notes = (f"Pad nodes made padding of a convolution: {padded}",) if padded else ()
    return (*notes, f"filters of single planes made depthwise: {planes}") if planes else notes


def _with_padding(node: NodeProto, pad: NodeProto | None, facts: Facts) -> NodeProto | None:
    """Return a convolution that pads itself as the node before it does, or None."""
    found = walk.attributes(node)
    rank = len(facts.shapes.get(node.input[0], ()))
    amounts = _zeros_added(pad, rank, facts) if pad is not None else None
    if pad is None or amounts is None or text(found, "auto_pad", "NOTSET") != "NOTSET":
        return None
    before, after = amounts[:rank], amounts[rank:]
    if min(amounts) < 0 or any((*before[:2], *after[:2])):
        return None
    own = ints(found, "pads", [0] * (2 * rank - 4))
    pads = [mine + more for mine, more in zip(own, (*before[2:], *after[2:]), strict=True)]
    return changed(node, [pad.input[0], *node.input[1:]], {"pads": pads})


def _zeros_added(pad: NodeProto, rank: int, facts: Facts) -> list[int] | None:
    """Return how many zeros a node adds before each axis, then after each; None for any other node."""
    if pad.op_type != "Pad" or text(walk.attributes(pad), "mode", "constant") != "constant":
        return None
    inputs = [*pad.input, "", "", ""][:4]
    pads, value, axes = (facts.array(name) for name in inputs[1:])
    if pads is None or (inputs[2] and (value is None or np.any(value != 0))) or (inputs[3] and axes is None):
        return None
    named = range(rank) if axes is None else [int(axis) % rank for axis in axes]
    amounts = [0] * (2 * rank)
    for place, axis in enumerate(named):
        amounts[axis], amounts[rank + axis] = int(pads[place]), int(pads[len(named) + place])
    return amounts


def _as_depthwise(node: NodeProto, facts: Facts, emitted: Emitted) -> bool:
    """Emit a depthwise convolution for one of one channel to one over a batch; nothing for any other."""
    data, result = facts.shapes.get(node.input[0]), facts.shapes.get(node.output[0])
    weight = facts.array(node.input[1])
    if data is None or result is None or weight is None or weight.shape[:2] != (1, 1) or data[0] == 1 or data[1] != 1:
        return False
    bias = facts.array(node.input[2]) if len(node.input) > 2 and node.input[2] else np.zeros(1, weight.dtype)
    if bias is None:
        return False
    out, count = node.output[0], data[0]
    inputs = [
        emitted.reshape(node.input[0], (1, count, *data[2:]), f"{out}__planes"),
        emitted.constant(f"{out}__weight", np.repeat(weight, count, axis=0)),
    ]
    if bias.any():
        inputs.append(emitted.constant(f"{out}__bias", np.repeat(bias, count)))
    conv = changed(node, inputs, {"group": count})
    conv.output[0] = f"{out}__channels"
    emitted.nodes.append(conv)
    emitted.reshape(conv.output[0], result, out)
    return True
