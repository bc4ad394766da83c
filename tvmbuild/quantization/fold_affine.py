"""Fold BatchNorm and constant multiplications and additions into the layer before them, in ONNX.

Behind a layer y = W x + b that nobody else reads, s y + t per channel becomes (s W) x + (s b + t). Quantizing before
that would round a tensor twice.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import NodeProto, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.quantization.graph_view import GraphView, view
from tvmbuild.quantization.layer_shape import channel_axis, channel_count, group_count, is_layer

_Affine = tuple[np.ndarray, np.ndarray]


def fold_affine(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, int]:
    """Return a model with what can be folded folded, and the number of nodes that vanished."""
    folded = onnx.ModelProto()
    folded.CopyFrom(proto)
    count = 0
    while vanished := _fold_once(folded):
        count += vanished
    _drop_unread(folded)
    return folded, count


def _fold_once(proto: onnx.ModelProto) -> int:
    """Fold at most one node behind each layer; return how many vanished."""
    graph = view(proto)
    gone: set[int] = set()
    for index in range(len(graph.nodes)):
        affine = _foldable(graph, index)
        if affine is None:
            continue
        (reader,) = graph.readers[graph.nodes[index].output[0]]
        _apply(proto, graph, index, affine)
        graph.nodes[index].output[0] = graph.nodes[reader].output[0]
        gone.add(reader)
    kept = [NodeProto.FromString(node.SerializeToString()) for i, node in enumerate(graph.nodes) if i not in gone]
    del proto.graph.node[:]
    proto.graph.node.extend(kept)
    return len(gone)


def _foldable(graph: GraphView, index: int) -> _Affine | None:
    """Return the scale and shift per channel that the only reader of a layer applies, or None."""
    node = graph.nodes[index]
    if not is_layer(node, graph.constants):
        return None
    output = node.output[0]
    readers = graph.readers.get(output, [])
    if output in graph.outputs or len(readers) != 1:
        return None
    affine = _affine(graph, graph.nodes[readers[0]], output, channel_count(node, graph.constants), _channels_last(node))
    if affine is None or not all(np.isfinite(part).all() for part in affine):
        return None
    # A product of matrices has nowhere to put a shift.
    return None if node.op_type == "MatMul" and affine[1].any() else affine


def _channels_last(node: NodeProto) -> bool:
    return node.op_type in ("Gemm", "MatMul")


def _affine(graph: GraphView, node: NodeProto, data: str, channels: int, last: bool) -> _Affine | None:
    if node.op_type == "BatchNormalization" and not last:
        return _batch_norm(graph, node)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or list(node.input).count(data) != 1:
        return None
    other = next(name for name in node.input if name != data)
    if other not in graph.constants or (node.op_type in ("Sub", "Div") and node.input[0] != data):
        return None
    values = _per_channel(graph.constants[other], channels, last)
    if values is None:
        return None
    one, zero = np.ones(channels), np.zeros(channels)
    with np.errstate(all="ignore"):
        return {
            "Add": (one, values),
            "Sub": (one, -values),
            "Mul": (values, zero),
            "Div": (1.0 / values, zero),
        }[node.op_type]


def _per_channel(array: np.ndarray, channels: int, last: bool) -> np.ndarray | None:
    """Return a constant as one value a channel, or None when it varies along another axis."""
    if array.dtype != np.float32:
        return None
    if array.size == 1 and array.ndim <= 4:
        return np.full(channels, float(array.reshape(())), np.float64)
    # Channels are axis 1 of NCHW: axis -3 of the constant; of a matrix they are the last.
    place = array.ndim - 1 if last else array.ndim - 3
    fits = place >= 0 and array.size == array.shape[place] == channels
    return array.reshape(-1).astype(np.float64) if fits else None


def _batch_norm(graph: GraphView, node: NodeProto) -> _Affine | None:
    if not all(name in graph.constants for name in node.input[1:5]):
        return None
    found = walk.attributes(node)
    if "training_mode" in found and found["training_mode"].i:
        return None
    epsilon = found["epsilon"].f if "epsilon" in found else 1e-5
    gamma, beta, mean, variance = (graph.constants[name].astype(np.float64) for name in node.input[1:5])
    with np.errstate(all="ignore"):
        scale = gamma / np.sqrt(variance + epsilon)
        return scale, beta - scale * mean


def _apply(proto: onnx.ModelProto, graph: GraphView, index: int, affine: _Affine) -> None:
    node = graph.nodes[index]
    scale, shift = affine
    weight = graph.constants[node.input[1]].astype(np.float64)
    node.input[1] = _store(proto, graph, f"{node.output[0]}__weight", _scaled(node, weight, scale))
    has_bias = len(node.input) > 2 and node.input[2]
    bias = graph.constants[node.input[2]].reshape(-1).astype(np.float64) if has_bias else np.zeros(1)
    if node.op_type == "MatMul":
        return
    name = _store(proto, graph, f"{node.output[0]}__bias", np.broadcast_to(scale * bias + shift, scale.shape))
    if len(node.input) > 2:
        node.input[2] = name
    else:
        node.input.append(name)


def _scaled(node: NodeProto, weight: np.ndarray, scale: np.ndarray) -> np.ndarray:
    if node.op_type == "ConvTranspose":
        # [inputs, outputs of a group, ...]: the inputs of group g come g-th.
        groups = group_count(node)
        parts = weight.reshape(groups, weight.shape[0] // groups, *weight.shape[1:])
        factors = scale.reshape(groups, 1, -1, *([1] * (weight.ndim - 2)))
        return np.asarray((parts * factors).reshape(weight.shape))
    shape = [1] * weight.ndim
    shape[channel_axis(node)] = -1
    return np.asarray(weight * scale.reshape(shape))


def _store(proto: onnx.ModelProto, graph: GraphView, name: str, array: np.ndarray) -> str:
    values = np.ascontiguousarray(array, dtype=np.float32)
    graph.constants[name] = values
    proto.graph.initializer.append(numpy_helper.from_array(values, name))
    return name


def _drop_unread(proto: onnx.ModelProto) -> None:
    read = {name for node in walk.nodes(proto.graph) for name in walk.outer_reads(node)}
    read |= {value.name for value in proto.graph.output}
    kept = [tensor for tensor in proto.graph.initializer if tensor.name in read]
    del proto.graph.initializer[:]
    proto.graph.initializer.extend(kept)
    del proto.graph.value_info[:]
