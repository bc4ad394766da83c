"""What a model needs and what building it would fuse, found out without compiling."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from tvmbuild import schedules
from tvmbuild.graph.pipeline import optimize
from tvmbuild.graph.report import GraphReport
from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import opset_of
from tvmbuild.onnx_model.intake.open import OpenedModel, open_model
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.onnx_model.support import check_support, operator_name
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.support.budget import Budget, Limits
from tvmbuild.support.errors import ShapeError, TvmbuildError
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class Inspection:
    """What was found.

    Attributes:
        sha256: checksum of the file.
        opset: version of the standard operator set that the file uses.
        inputs: one text each, with the names of open dimensions.
        outputs: likewise.
        operators: how many of each operator, most frequent first, those in the graphs inside If and Loop among them.
        notes: what preparation would change, and what was assumed.
        graph: what the graph passes would do; None when an input's shape is open or the model is refused.
        refusal: why it cannot be built, or None.
    """

    sha256: str
    opset: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    operators: dict[str, int]
    notes: tuple[str, ...]
    graph: GraphReport | None
    refusal: TvmbuildError | None = None

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


def inspect_model(
    path: Path,
    shape: Sequence[str],
    value: Sequence[str],
    target: Target,
    limits: Limits | None = None,
    *,
    strips: bool = True,
) -> Inspection:
    """Read a model, within the limits, and run the graph passes on it.

    Why a model that can be read cannot be built is in the result.

    Raises:
        ModelError: the file is damaged or unsafe.
        ShapeError: a given shape or value is none.
        LimitError: reading the model would take more than the limits.
    """
    opened = open_model(path, Budget(path, limits))
    shapes, values = parse_shapes(shape), parse_values(value)
    described = _described(opened)
    about_core = (target.stand_in,) if target.stand_in else ()
    notes: tuple[str, ...] = opened.notes + about_core
    graph: GraphReport | None = None
    refusal: TvmbuildError | None = None
    try:
        check_support(path, opened.proto)
        prepared = prepare(path, shapes, values, limits=limits)
        notes = prepared.notes + about_core
        _, graph = optimize(to_relax(prepared), target, kernels=schedules, strips=strips)
    except ShapeError as error:
        if shape or value:
            refusal = error
        else:
            notes += (f"{error.message} {error.hint} Then the fusion is shown too.",)
    except TvmbuildError as error:
        refusal = error
    return Inspection(opened.sha256, opset_of(opened.proto), *described, notes=notes, graph=graph, refusal=refusal)


def _described(opened: OpenedModel) -> tuple[tuple[str, ...], tuple[str, ...], dict[str, int]]:
    def text(value: Any) -> str:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type) if kind.elem_type else "?"
        sizes = [str(size.dim_value) if size.dim_value > 0 else size.dim_param or "?" for size in kind.shape.dim]
        return f"{value.name}: {dtype}[{', '.join(sizes)}]"

    graph = opened.proto.graph
    operators = Counter(operator_name(node) for node in walk.nodes(graph))
    return tuple(map(text, graph.input)), tuple(map(text, graph.output)), dict(operators.most_common())
