"""A model without its weights: for tools that must not see gigabytes, or cannot."""

from __future__ import annotations

from collections.abc import Iterable

import onnx
from onnx import TensorProto, helper

#: Weights up to this size stay, since shapes and axes are among them.
SMALL_BYTES = 1024


def tensor_bytes(tensor: TensorProto) -> int:
    """Return the size of a tensor's elements, in bytes, from its declared shape (4-bit types as whole bytes)."""
    count = 1
    for size in tensor.dims:
        count *= size
    if tensor.data_type == TensorProto.STRING:
        return count
    return count * int(helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)


def is_external(tensor: TensorProto) -> bool:
    """Whether the tensor's elements lie in a file of their own."""
    return tensor.data_location == TensorProto.EXTERNAL


def weight_bytes(proto: onnx.ModelProto) -> int:
    """Return the size of a model's weights in memory, in bytes."""
    return sum(tensor_bytes(tensor) for tensor in proto.graph.initializer if not is_external(tensor))


def without_weights(proto: onnx.ModelProto, keep: int = SMALL_BYTES) -> onnx.ModelProto:
    """Return a copy in which each weight over ``keep`` bytes, or external, is a graph input of its shape and dtype.

    The copy costs no memory for the weights. ``with_weights`` puts them back.
    """
    skeleton = onnx.ModelProto()
    for field, value in proto.ListFields():
        if field.name != "graph":
            _copy_field(skeleton, field.name, value)
    graph = skeleton.graph
    for field, value in proto.graph.ListFields():
        if field.name != "initializer":
            _copy_field(graph, field.name, value)
    inputs = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if is_external(tensor) or tensor_bytes(tensor) > keep:
            if tensor.name not in inputs:
                graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims)))
        else:
            graph.initializer.add().CopyFrom(tensor)
    return skeleton


def with_weights(skeleton: onnx.ModelProto, weights: Iterable[TensorProto]) -> onnx.ModelProto:
    """Turn graph inputs of ``skeleton`` back into the weights of the same names, in place; return it."""
    present = {tensor.name for tensor in skeleton.graph.initializer}
    missing = {value.name for value in skeleton.graph.input}
    restored = set()
    for tensor in weights:
        if tensor.name in missing and tensor.name not in present:
            skeleton.graph.initializer.add().CopyFrom(tensor)
            restored.add(tensor.name)
    kept = [value for value in skeleton.graph.input if value.name not in restored]
    del skeleton.graph.input[:]
    skeleton.graph.input.extend(kept)
    return skeleton


def _copy_field(message: object, name: str, value: object) -> None:
    """Set a field of a protobuf message, whatever its kind."""
    target = getattr(message, name)
    if hasattr(target, "extend"):
        target.extend(value)
    elif hasattr(target, "CopyFrom"):
        target.CopyFrom(value)
    else:
        setattr(message, name, value)
