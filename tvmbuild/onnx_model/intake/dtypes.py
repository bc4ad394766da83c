"""Refuse the dtypes that are not compiled, wherever a model uses them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import onnx
from onnx import TensorProto, ValueInfoProto

from tvmbuild.onnx_model import walk
from tvmbuild.support.errors import UnsupportedOperatorError

#: Dtypes of which no operator can be compiled: several elements in a byte, scales alone, and complex numbers.
_REFUSED = ("INT2", "UINT2", "INT4", "UINT4", "FLOAT4E2M1", "FLOAT6E2M3", "FLOAT6E3M2", "COMPLEX64", "COMPLEX128")
#: Dtypes that only constants may have, which folding takes away.
_INSIDE = ("STRING", "FLOAT8E8M0", "FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ")
#: Attributes that name a dtype (Cast; EyeLike and the random operators; QuantizeLinear and DequantizeLinear).
_ATTRIBUTES = ("to", "dtype", "output_dtype", "value_dtype")
_SHOWN = 3


def check_dtypes(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse a model that uses a dtype that cannot be compiled.

    Raises:
        UnsupportedOperatorError: naming each such dtype and where it is.
    """
    found: dict[str, list[str]] = {}
    refused = _numbers(_REFUSED)
    for number, place in _uses(proto):
        if number in refused:
            found.setdefault(refused[number], []).append(place)
    ends = refused | _numbers(_INSIDE)
    for value in (*proto.graph.input, *proto.graph.output):
        number = value.type.tensor_type.elem_type
        if number in ends:
            found.setdefault(ends[number], []).append(f"'{value.name}'")
    if found:
        listed = "; ".join(
            f"{dtype} ({', '.join(places[:_SHOWN])}{', ...' if len(places) > _SHOWN else ''})"
            for dtype, places in found.items()
        )
        raise UnsupportedOperatorError(
            f"{path} uses {'dtypes that are' if len(found) > 1 else 'a dtype that is'} not supported: {listed}.",
            "Export it in float32 or float16, or quantize to int8 (`tvmbuild quantize`).",
        )


def _numbers(names: tuple[str, ...]) -> dict[int, str]:
    """Return the dtypes by ONNX's number, those that this version of onnx knows."""
    known = TensorProto.DataType
    return {known.Value(name): name.lower() for name in names if name in known.keys()}  # noqa: SIM118


def _uses(proto: onnx.ModelProto) -> Iterator[tuple[int, str]]:
    """Yield every dtype inside the model, with the tensor or node that has it."""
    for tensor in walk.tensors(proto.graph):
        yield tensor.data_type, f"'{tensor.name}'" if tensor.name else "a constant"
    for graph in walk.graphs(proto.graph):
        inner: list[ValueInfoProto] = [*graph.value_info]
        if graph is not proto.graph:
            inner += [*graph.input, *graph.output]
        for value in inner:
            yield value.type.tensor_type.elem_type, f"'{value.name}'"
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in _ATTRIBUTES and node.domain in ("", "ai.onnx"):
                    yield attribute.i, f"{node.op_type} '{walk.label(node)}'"
