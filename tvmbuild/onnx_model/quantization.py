"""Check the scales and zero points of a quantized model before anything divides by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts, gather_facts
from tvmbuild.support.errors import ModelError

_OPERATORS = ("QuantizeLinear", "DequantizeLinear")
_SMALLEST = float(np.finfo(np.float32).tiny)
_HINT = "Quantize the model again; `tvmbuild quantize` writes scales that are checked."


def is_quantized(proto: onnx.ModelProto) -> bool:
    """Whether a model has QuantizeLinear or DequantizeLinear."""
    return any(node.op_type in _OPERATORS for node in walk.nodes(proto.graph))


def check_quantization(path: Path, proto: onnx.ModelProto) -> None:
    """Refuse scales and zero points that make no sense; weights must be in memory.

    Raises:
        ModelError: naming the node and the tensor.
    """
    if not is_quantized(proto):
        return
    facts = gather_facts(proto)
    for node in walk.nodes(proto.graph):
        if node.op_type in _OPERATORS and node.domain in ("", "ai.onnx"):
            problem = _problem(node, facts)
            if problem:
                raise ModelError(f"{path}: {node.op_type} '{walk.label(node)}': {problem}.", _HINT)


def _problem(node: NodeProto, facts: Facts) -> str:
    """Return what is wrong with the parameters of a node, or ""."""
    inputs = [*node.input, "", ""]
    data, scale, zero = inputs[:3]
    if not data or not scale:
        return "its scale is missing"
    values = facts.array(scale)
    if values is None:
        return ""
    return (
        _scale_problem(scale, values)
        or _shape_problem(node, data, scale, values.shape, facts)
        or (_zero_problem(node, data, zero, values, facts) if zero else "")
    )


def _scale_problem(name: str, values: np.ndarray) -> str:
    if values.dtype.kind != "f":
        return f"the scale '{name}' is {values.dtype} and not a float"
    if values.size == 0:
        return f"the scale '{name}' is empty"
    flat = values.astype(np.float64).reshape(-1)
    for wrong, word in (
        (~np.isfinite(flat), "not finite"),
        (flat <= 0, "not above zero"),
        (flat < _SMALLEST, f"below the smallest normal number, {_SMALLEST:.3g}"),
    ):
        if wrong.any():
            index = int(np.argmax(wrong))
            return f"the scale '{name}' has {flat[index]:.4g} at index {index}, which is {word}"
    return ""


def _shape_problem(node: NodeProto, data: str, scale: str, shape: tuple[int, ...], facts: Facts) -> str:
    """Say what is wrong with a scale for each channel."""
    found = walk.attributes(node)
    if "block_size" in found and found["block_size"].i:
        return ""
    if len(shape) > 1:
        return f"the scale '{scale}' has {len(shape)} axes and not one"
    sizes = facts.shapes.get(data)
    if int(np.prod(shape)) == 1 or sizes is None:
        return ""
    axis, rank = int(found["axis"].i) if "axis" in found else 1, len(sizes)
    axis = 0 if rank == 1 and "axis" not in found else axis
    if not -rank <= axis < rank:
        return f"its axis {axis} is outside the {rank} axes of '{data}'"
    if sizes[axis] != shape[0]:
        return f"the scale '{scale}' has {shape[0]} elements, but axis {axis} of '{data}' has {sizes[axis]}"
    return ""


def _zero_problem(node: NodeProto, data: str, zero: str, scale: np.ndarray, facts: Facts) -> str:
    shape = facts.shapes.get(zero)
    if shape is not None and int(np.prod(shape)) != scale.size:
        return f"the zero point '{zero}' has {int(np.prod(shape))} elements and the scale {scale.size}"
    of, dtype = data if node.op_type == "DequantizeLinear" else node.output[0], facts.dtypes.get(zero)
    wanted = facts.dtypes.get(of)
    if dtype is not None and wanted is not None and dtype != wanted:
        return f"the zero point '{zero}' is {dtype}, but '{of}' is {wanted}"
    values = facts.array(zero)
    if dtype == "int32" and values is not None and values.any():
        return f"the zero point '{zero}' of an int32 tensor is not zero"
    return ""
