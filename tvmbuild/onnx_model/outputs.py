"""Find the shapes of a model's outputs."""

from __future__ import annotations

from pathlib import Path

import onnx

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.support.errors import UnsupportedOperatorError
from tvmbuild.support.tensor import TensorSpec


def output_specs(path: Path, proto: onnx.ModelProto, facts: Facts) -> tuple[TensorSpec, ...]:
    """Return the outputs of a model, in its order.

    Raises:
        UnsupportedOperatorError: an output's shape depends on the data, so that it is not known before the model runs.
    """
    names = [value.name for value in proto.graph.output]
    dynamic = [name for name in names if name not in facts.shapes or name not in facts.dtypes]
    if dynamic:
        raise UnsupportedOperatorError(
            f"{path}: the shape of {', '.join(repr(name) for name in dynamic)} depends on the data"
            f"{_first_dynamic(proto, facts)}.",
            "TVM builds models of fixed shapes; cut the model before that operator and do the rest outside.",
        )
    return tuple(TensorSpec(name, facts.dtypes[name], facts.shapes[name]) for name in names)


def _first_dynamic(proto: onnx.ModelProto, facts: Facts) -> str:
    """Name the first operator whose output has no fixed shape."""
    for node in proto.graph.node:
        if any(name and name not in facts.shapes for name in node.output):
            return f", from {node.op_type} '{walk.label(node)}' on"
    return ""
