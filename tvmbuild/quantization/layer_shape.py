"""What the weights of a convolution or matrix product look like."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto

from tvmbuild.onnx_model import walk

_LAYERS = frozenset(("Conv", "ConvTranspose", "Gemm", "MatMul"))


def is_layer(node: NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    """Whether a node is a convolution or product of data with constant float32 weights and bias."""
    if node.op_type not in _LAYERS or node.domain not in ("", "ai.onnx") or len(node.input) < 2:
        return False
    if node.input[0] in constants or node.input[1] not in constants:
        return False
    weight = constants[node.input[1]]
    if weight.dtype != np.float32 or not weight.size or (node.op_type == "MatMul" and weight.ndim != 2):
        return False
    return _has_plain_bias(node, constants) and (node.op_type != "Gemm" or _is_plain_product(node))


def _has_plain_bias(node: NodeProto, constants: Mapping[str, np.ndarray]) -> bool:
    if len(node.input) < 3 or not node.input[2]:
        return True
    bias = constants.get(node.input[2])
    return bias is not None and bias.size in (1, channel_count(node, constants)) and bias.dtype == np.float32


def _is_plain_product(node: NodeProto) -> bool:
    found = walk.attributes(node)
    scaled = any(found[name].f != 1.0 for name in ("alpha", "beta") if name in found)
    return not scaled and not ("transA" in found and found["transA"].i)


def channel_axis(node: NodeProto) -> int:
    """Return the axis of a layer's weights that counts its output channels (of one group, for ConvTranspose)."""
    if node.op_type == "Gemm":
        found = walk.attributes(node)
        return 0 if "transB" in found and found["transB"].i else 1
    return {"Conv": 0, "ConvTranspose": 1, "MatMul": 1}[node.op_type]


def group_count(node: NodeProto) -> int:
    """Return the number of groups of a convolution."""
    found = walk.attributes(node)
    return int(found["group"].i) if "group" in found else 1


def channel_count(node: NodeProto, constants: Mapping[str, np.ndarray]) -> int:
    """Return the number of a layer's output channels."""
    count = int(constants[node.input[1]].shape[channel_axis(node)])
    return count * group_count(node) if node.op_type == "ConvTranspose" else count


def by_channel(array: np.ndarray, axis: int) -> np.ndarray:
    """Return weights as a matrix of one row for each entry of ``axis``."""
    return np.moveaxis(array, axis, 0).reshape(array.shape[axis], -1)
