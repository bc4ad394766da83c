"""What a model needs and what building it would fuse, found out without compiling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from tvmbuild import schedules
from tvmbuild.errors import ShapeError
from tvmbuild.graph.pipeline import optimize
from tvmbuild.graph.report import GraphReport
from tvmbuild.onnx_model.facts import opset_of
from tvmbuild.onnx_model.open import OpenedModel, open_model
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.onnx_model.support import check_support
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.target import Target


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        sha256: checksum of the file.
        opset: version of the standard operator set that the file uses.
        inputs: one text each, with the names of open dimensions.
        outputs: likewise.
        operators: how many of each operator, most frequent first.
        notes: what preparation would change, and what was assumed.
        graph: what the graph passes would do; None when an input's shape is open.
    """

    sha256: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: dict[str, int]
    notes: tuple[str, ...]
    graph: GraphReport | None

    def to_json(self) -> dict[str, Any]:
        """Return what ``inspect --json`` prints."""
        return {
            "sha256": self.sha256,
            "opset": self.opset,
            "inputs": self.inputs,
            "outputs": self.outputs,
            "operators": self.operators,
            "notes": self.notes,
            "fusion": self.graph.summary() if self.graph else None,
            "memory": self.graph.memory() if self.graph else None,
        }


def inspect_model(path: Path, shape: Sequence[str], value: Sequence[str], target: Target) -> Inspection:
    """Read a model and run the graph passes on it.

    Raises:
        ModelError: the file is damaged or unsafe.
        ShapeError: a given shape does not fit.
        UnsupportedOperatorError: all that cannot be compiled.
        PreparationError: the prepared model would not compute what the original does.
    """
    opened = open_model(path)
    check_support(path, opened.proto)
    shapes = parse_shapes(shape)
    assumed = _assume_batch_of_one(opened, shapes)
    notes, graph = (*opened.notes, *assumed), None
    described = _described(opened)
    try:
        prepared = prepare(path, shapes, parse_values(value))
    except ShapeError as error:
        if shape or value:
            raise
        notes += (f"{error.message} {error.hint} Then the fusion is shown too.",)
    else:
        _, graph = optimize(to_relax(prepared), target, kernels=schedules)
        notes += prepared.notes
    return Inspection(opened.sha256, opset_of(opened.proto), *described, notes=notes, graph=graph)


def _assume_batch_of_one(opened: OpenedModel, shapes: dict[str, tuple[int, ...]]) -> tuple[str, ...]:
    """Give inputs whose first dimension alone is open a batch of 1, in ``shapes``; return what was assumed."""
    notes = []
    for item in opened.proto.graph.input:
        sizes = item.type.tensor_type.shape.dim
        if item.name not in shapes and sizes and sizes[0].dim_value < 1 and all(s.dim_value > 0 for s in sizes[1:]):
            shapes[item.name] = (1, *(size.dim_value for size in sizes[1:]))
            notes.append(f"the open batch of '{item.name}' is taken as 1")
    return tuple(notes)


def _described(opened: OpenedModel) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    def text(value: Any) -> str:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else "?"
        sizes = [str(size.dim_value) if size.dim_value > 0 else size.dim_param or "?" for size in kind.shape.dim]
        return f"{value.name}: {dtype}[{', '.join(sizes)}]"

    graph = opened.proto.graph
    operators = Counter(node.op_type for node in graph.node)
    return tuple(map(text, graph.input)), tuple(map(text, graph.output)), dict(operators.most_common())
