"""Give convolutions whose weights are scaled at run time constant weights.

A modulated convolution (T. Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", CVPR 2020, equations
1 and 3; the decoder of GPEN, GFPGAN and every StyleGAN2) scales the weights of each input channel by a style s and of
each output channel by a demodulation factor d:

    w'[o, i, k] = d[o] s[i] w[o, i, k],   d[o] = 1 / sqrt(sum over i, k of (s[i] w[o, i, k])^2 + epsilon)

and exporters write that down as it stands. A convolution is linear, so the same result is conv(x s, w) d: the weights
are constant again, and packed, transformed and quantized like any other. The sum in d becomes a product of s^2 with a
constant matrix, the sum over k of w[o, i, k]^2. Batches that are folded into groups, one for each image with the same
weights, become batches again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts, gather_facts
from tvmbuild.onnx_model.rewrites.replacement import Emitted, changed, replace_nodes
from tvmbuild.onnx_model.rewrites.square_sums import square_sum
from tvmbuild.onnx_model.rewrites.weight_factors import Factor, FactoredWeight, factor_weight

_CONVOLUTIONS = ("Conv", "ConvTranspose")


def constant_weights(proto: onnx.ModelProto) -> tuple[str, ...]:
    """Rewrite a folded model in place; return what was rewritten, for people."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    if not any(node.op_type in _CONVOLUTIONS and node.input[1] not in constants for node in proto.graph.node):
        return ()
    facts = gather_facts(proto)
    writers = {name: node for node in proto.graph.node for name in node.output if name}
    count = 0
    nodes: list[NodeProto] = []
    for node in proto.graph.node:
        emitted = Emitted()
        if node.op_type in _CONVOLUTIONS:
            rewritten = _convolution(node, facts, factor_weight(node.input[1], writers, facts), emitted)
            count += rewritten
        else:
            rewritten = square_sum(node, writers, facts, emitted)
        nodes.extend(emitted.nodes if rewritten else [node])
        proto.graph.initializer.extend(emitted.constants if rewritten else [])
    if not count:
        return ()
    replace_nodes(proto, nodes)
    return (
        f"{count} convolution{'s' if count > 1 else ''} with weights scaled at run time: the data is scaled instead",
    )


@dataclass(frozen=True)
class _Layer:
    """A convolution of grouped channels.

    Attributes:
        batch: images.
        groups: of channels.
        spatial: number of axes besides batch and channels.
        inputs: channels that a group reads.
        outputs: channels that a group writes.
    """

    batch: int
    groups: int
    spatial: int
    inputs: int
    outputs: int

    def canonical(self, array: np.ndarray, transposed: bool) -> np.ndarray:
        """Return an array of the weight's shape as [groups, outputs, inputs, taps]."""
        if not transposed:
            return np.reshape(array, (self.groups, self.outputs, self.inputs, -1))
        return np.swapaxes(np.reshape(array, (self.groups, self.inputs, self.outputs, -1)), 1, 2)


def _convolution(node: NodeProto, facts: Facts, weight: FactoredWeight | None, emitted: Emitted) -> bool:
    """Emit a convolution with constant weights; nothing when the weight is not scaled by channel."""
    data, result = facts.shapes.get(node.input[0]), facts.shapes.get(node.output[0])
    if weight is None or not weight.factors or data is None or result is None:
        return False
    transposed = node.op_type == "ConvTranspose"
    found = walk.attributes(node)
    groups = int(found["group"].i) if "group" in found else 1
    layer = _Layer(data[0], groups, len(data) - 2, data[1] // groups, result[1] // groups)
    scales = [_channel_scale(layer, factor, layer.canonical(factor.index, transposed)) for factor in weight.factors]
    if any(scale is None for scale in scales):
        return False
    before = [scale for scale in scales if scale is not None and not scale.after]
    after = [scale for scale in scales if scale is not None and scale.after]
    out = node.output[0]
    kernel = layer.canonical(weight.constant, transposed)
    # The same weights in each group, on one image: the groups are images.
    images = groups if layer.batch == 1 and (kernel == kernel[:1]).all() else 1
    constant = weight.constant[: weight.constant.shape[0] // images]
    x = node.input[0]
    if images > 1:
        x = emitted.reshape(x, (images, layer.inputs, *data[2:]), f"{out}__images")
    x = _scaled(x, before, layer, images, f"{out}__scaled", emitted)
    last = out if images == 1 else f"{out}__batch"
    bias = node.input[2] if len(node.input) > 2 else ""
    raw = f"{last}__raw" if after or bias else last
    conv = changed(node, [x, emitted.constant(f"{out}__weight", constant)], {"group": groups // images})
    conv.output[0] = raw
    emitted.nodes.append(conv)
    y = _scaled(raw, after, layer, images, f"{last}__demodulated" if bias else last, emitted)
    if bias:
        shape = (images, -1, *[1] * layer.spatial)
        emitted.node("Add", [y, emitted.reshape(bias, shape, f"{out}__bias")], last)
    if images > 1:
        emitted.reshape(last, result, out)
    return True


@dataclass(frozen=True)
class _ChannelScale:
    """A factor of a weight that belongs to channels.

    Attributes:
        factor: the factor.
        index: [channels], which of its elements belongs to each.
        after: whether the channels are those that the convolution writes, not those that it reads.
    """

    factor: Factor
    index: np.ndarray
    after: bool


def _channel_scale(layer: _Layer, factor: Factor, index: np.ndarray) -> _ChannelScale | None:
    """Return a factor's element by channel, or None when it varies over anything else; ``index`` is canonical."""
    by_output = index[:, :, :1, :1]
    if (index == by_output).all():
        return _ChannelScale(factor, by_output.reshape(-1), after=True)
    by_input = index[:, :1, :, :1]
    return _ChannelScale(factor, by_input.reshape(-1), after=False) if (index == by_input).all() else None


def _scaled(data: str, scales: list[_ChannelScale], layer: _Layer, images: int, output: str, emitted: Emitted) -> str:
    """Multiply data of NC... by the product of all scales; without any, return it as it is."""
    product = ""
    for number, scale in enumerate(scales):
        name = f"{output}__factor{number}"
        channels = emitted.reshape(scale.factor.name, [-1], f"{name}__flat")
        if scale.factor.size > 1 and not np.array_equal(scale.index, np.arange(scale.factor.size)):
            picked = emitted.constant(f"{name}__index", scale.index.astype(np.int64))
            channels = emitted.node("Gather", [channels, picked], f"{name}__picked", axis=0)
        channels = emitted.node("Reciprocal", [channels], f"{name}__inverse") if scale.factor.divides else channels
        leading = (images, -1) if scale.factor.size > 1 else (1, 1)
        channels = emitted.reshape(channels, (*leading, *[1] * layer.spatial), name)
        product = emitted.node("Mul", [product, channels], f"{name}__product") if product else channels
    return emitted.node("Mul", [data, product], output) if product else data
