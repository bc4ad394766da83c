"""Small ONNX models for the tests of the model intake."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

Shape = Sequence[int | str] | None


def model(
    nodes: Sequence[NodeProto],
    inputs: Mapping[str, Shape],
    outputs: Sequence[str],
    weights: Mapping[str, np.ndarray] | None = None,
    *,
    opset: int = 17,
    dtypes: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """Make a model; inputs are float32 but for those in ``dtypes``."""
    dtypes = dtypes or {}
    graph = helper.make_graph(
        list(nodes),
        "test",
        [
            helper.make_tensor_value_info(name, dtypes.get(name, TensorProto.FLOAT), shape)
            for name, shape in inputs.items()
        ],
        [helper.make_empty_tensor_value_info(name) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()],
    )
    for output in graph.output:
        output.type.tensor_type.elem_type = dtypes.get(output.name, TensorProto.FLOAT)
    imports = [helper.make_opsetid("", opset)]
    imports += [helper.make_opsetid(domain, 1) for domain in sorted({node.domain for node in nodes} - {""})]
    return helper.make_model(graph, opset_imports=imports, ir_version=8)


def saved(proto: onnx.ModelProto, folder: Path, name: str = "m.onnx") -> Path:
    """Write a model without onnx's own checks, and return the file."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def relu_model() -> onnx.ModelProto:
    """One Relu over float32[2, 3]."""
    return model([helper.make_node("Relu", ["x"], ["y"], name="act")], {"x": [2, 3]}, ["y"])
