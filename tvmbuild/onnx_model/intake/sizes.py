"""Refuse gigantic dimensions before anything allocates them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import onnx
from onnx import TensorProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.skeleton import is_external, tensor_bytes
from tvmbuild.support.errors import ModelError
from tvmbuild.support.tensor import LARGEST_ELEMENTS

#: Axes of a tensor at most: NumPy's arrays have no more.
MOST_AXES = 64


def is_gigantic(dims: Iterable[int]) -> bool:
    """Whether a tensor of these sizes has more elements than a kernel can index."""
    sizes = list(dims)
    return 0 not in sizes and math.prod(sizes) > LARGEST_ELEMENTS


def check_tensor_sizes(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse tensors whose declared shape is gigantic or does not fit the bytes that are there.

    Raises:
        ModelError: naming the tensor.
    """
    for graph in walk.graphs(proto.graph):
        for value in (*graph.input, *graph.output):
            check_rank(path, value.name, len(value.type.tensor_type.shape.dim))
    for tensor in walk.tensors(proto.graph):
        check_rank(path, tensor.name, len(tensor.dims))
        shape = "x".join(map(str, tensor.dims))
        if any(size < 0 for size in tensor.dims) or is_gigantic(tensor.dims):
            raise ModelError(
                f"{path}: the tensor '{tensor.name}' is declared as {shape}, more than a model can have.",
                "The file is damaged or hostile; get it from its source again.",
            )
        if tensor.data_type not in TensorProto.DataType.values() or tensor.data_type == TensorProto.UNDEFINED:
            raise ModelError(f"{path}: the tensor '{tensor.name}' has no known dtype ({tensor.data_type}).")
        if _is_plain(tensor) and len(tensor.raw_data) != tensor_bytes(tensor):
            raise ModelError(
                f"{path}: the tensor '{tensor.name}' is declared as {shape} ({tensor_bytes(tensor)} bytes), but has"
                f" {len(tensor.raw_data)} bytes.",
                "The file is damaged; get it from its source again.",
            )


def check_rank(path: Path, name: str, axes: int) -> None:
    """Refuse a tensor with more axes than an array can have.

    Raises:
        ModelError: naming the tensor.
    """
    if axes > MOST_AXES:
        raise ModelError(
            f"{path}: the tensor '{name}' has {axes} axes, more than the {MOST_AXES} that an array can have.",
            "Reshape it in the exporter; if no tensor of yours has so many, the file is damaged or hostile.",
        )


def check_inferred_sizes(path: Path, shapes: Mapping[str, Sequence[int]]) -> None:
    """Refuse a model in which an operator would make a gigantic tensor, before folding computes it.

    Raises:
        ModelError: naming the tensor.
    """
    for name, shape in shapes.items():
        check_rank(path, name, len(shape))
        if is_gigantic(shape):
            raise ModelError(
                f"{path}: the tensor '{name}' would be {'x'.join(map(str, shape))}, more than a kernel can index.",
                "Give smaller input shapes; if they are small already, the file is damaged or hostile.",
            )


def _is_plain(tensor: TensorProto) -> bool:
    """Whether the tensor is stored as raw bytes of whole elements."""
    packed = {TensorProto.UINT4, TensorProto.INT4, getattr(TensorProto, "FLOAT4E2M1", -1)}
    packed |= {getattr(TensorProto, name, -1) for name in ("UINT2", "INT2")}
    return not is_external(tensor) and tensor.HasField("raw_data") and tensor.data_type not in packed
