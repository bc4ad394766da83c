"""Find the shapes of a model's outputs."""

from __future__ import annotations

from pathlib import Path

import onnx

from tvmbuild.errors import UnsupportedOperatorError
from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import infer_shapes, is_fixed
from tvmbuild.onnx_model.shapes import input_specs, tensor_spec
from tvmbuild.reference import random_inputs, run_reference
from tvmbuild.tensor import TensorSpec


def output_specs(path: Path, proto: onnx.ModelProto) -> tuple[TensorSpec, ...]:
    """Return the outputs of a model whose shapes were inferred, in its order.

    Raises:
        UnsupportedOperatorError: an output's shape depends on the data, so that it is not known before the model runs.
    """
    inferred = infer_shapes(proto)
    if any(node.domain not in ("", "ai.onnx") for node in walk.nodes(proto.graph)):
        # ONNX's inference stops at foreign operators.
        results = run_reference(proto, random_inputs(input_specs(proto)))
        return tuple(TensorSpec(name, str(array.dtype), array.shape) for name, array in results.items())
    dynamic = [value.name for value in inferred.graph.output if not is_fixed(value)]
    if dynamic:
        writers = _first_dynamic(inferred)
        raise UnsupportedOperatorError(
            f"{path}: the shape of {', '.join(repr(name) for name in dynamic)} depends on the data"
            + (f", from {writers} on." if writers else "."),
            "TVM builds models of fixed shapes; cut the model before that operator and do the rest outside.",
        )
    return tuple(tensor_spec(value) for value in inferred.graph.output)


def _first_dynamic(inferred: onnx.ModelProto) -> str:
    """Name the first operator whose output has no fixed shape."""
    fixed = {value.name for value in (*inferred.graph.value_info, *inferred.graph.output) if is_fixed(value)}
    for node in inferred.graph.node:
        if any(name and name not in fixed for name in node.output):
            return f"{node.op_type} '{walk.label(node)}'"
    return ""
