"""Prepare a model for the compiler: the order of the steps, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from tvmbuild.onnx_model.compare import Allowed, allowed, check_same
from tvmbuild.onnx_model.facts import gather_facts, opset_of
from tvmbuild.onnx_model.intake.external import ExternalFile
from tvmbuild.onnx_model.intake.open import OpenedModel, load_external_data, open_model
from tvmbuild.onnx_model.intake.sizes import check_inferred_sizes
from tvmbuild.onnx_model.outputs import output_specs
from tvmbuild.onnx_model.quantization import check_quantization
from tvmbuild.onnx_model.reference import random_inputs
from tvmbuild.onnx_model.rewrites.convolution_input import straighten_convolutions
from tvmbuild.onnx_model.rewrites.fold import OLDEST_FOLDED, check_computed_constants, fold_constants
from tvmbuild.onnx_model.rewrites.importable import rewrite_operators
from tvmbuild.onnx_model.rewrites.modulation import constant_weights
from tvmbuild.onnx_model.rewrites.opset import update_opset
from tvmbuild.onnx_model.rewrites.qoperators import to_qdq
from tvmbuild.onnx_model.rounding import Rounding, rounding_of
from tvmbuild.onnx_model.shapes import freeze_shapes, input_specs, with_batch_of_one
from tvmbuild.onnx_model.skeleton import weight_bytes
from tvmbuild.onnx_model.support import check_support
from tvmbuild.support.budget import Budget, Limits
from tvmbuild.support.progress import stage
from tvmbuild.support.tensor import TensorSpec


@dataclass(frozen=True)
class PreparedModel:
    """A model that is ready to be imported: fixed shapes, constants folded, operators that TVM reads rightly.

    Attributes:
        path: the file it was read from.
        sha256: checksum of that file, 64 hex digits.
        external: files of weights that belong to it.
        proto: the prepared model, all weights in memory.
        original: the file's model with the same fixed shapes, else untouched; external data is not loaded.
        inputs: in the model's order, with their original names.
        outputs: in the model's order, with their original names.
        frozen: inputs that became constants, with their values.
        opset: version of the standard operator set that ``proto`` uses.
        rounding: what the original's values are rounded to as it runs.
        notes: what was changed, for people.
        assumed: what was chosen since nobody said it, for people; among the notes too.
    """

    path: Path
    sha256: str
    external: tuple[ExternalFile, ...]
    proto: onnx.ModelProto
    original: onnx.ModelProto
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    frozen: Mapping[str, np.ndarray]
    opset: int
    rounding: Rounding
    notes: tuple[str, ...]
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class FixedModel:
    """A model that was read, with fixed shapes.

    Attributes:
        opened: the file; its ``proto`` has the shapes.
        shapes: sizes by input's name: those that were given, and those that were assumed.
        assumed: what was assumed, for people.
        notes: what was changed, the assumed among it.
    """

    opened: OpenedModel
    shapes: Mapping[str, tuple[int, ...]]
    assumed: tuple[str, ...]
    notes: tuple[str, ...]


def open_fixed(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    values: Mapping[str, np.ndarray] | None = None,
    budget: Budget | None = None,
) -> FixedModel:
    """Read a model and give its inputs fixed shapes: what can be refused at once is refused here.

    Raises:
        ModelError, ShapeError, UnsupportedOperatorError: as ``prepare``, which has the same arguments.
    """
    opened = open_model(path, budget)
    shapes, assumed = with_batch_of_one(opened.proto, shapes or {}, values or {})
    notes = opened.notes + assumed + freeze_shapes(opened.proto, shapes, values)
    check_support(path, opened.proto)
    return FixedModel(opened, shapes, assumed, notes)


def prepare(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    values: Mapping[str, np.ndarray] | None = None,
    *,
    compare: bool = True,
    seed: int = 0,
    limits: Limits | None = None,
) -> PreparedModel:
    """Read a model and prepare it.

    Args:
        path: the ONNX file.
        shapes: sizes by input's name, for dynamic inputs and to override fixed ones; where only the leading dimension
            of an input is open it is taken as 1.
        values: inputs that become constants.
        compare: whether to run the prepared model against the original; without it nothing warns of a wrong meaning.
        seed: for the random inputs with which the prepared model is compared to the original.
        limits: what all of it may take; the default ones if None.

    Raises:
        ModelError: the file is missing, damaged, invalid or unsafe.
        ShapeError: an input's shape is missing or does not fit.
        UnsupportedOperatorError: operators that cannot be compiled, all of them.
        PreparationError: the prepared model would not compute what the original does.
        LimitError: it would take more than ``limits``.
    """
    budget = Budget(path, limits)
    with stage("read model") as step:
        fixed = open_fixed(path, shapes, values, budget)
        opened, original = fixed.opened, fixed.opened.proto
        frozen = [tensor for tensor in original.graph.initializer if tensor.name in (values or {})]
        facts = gather_facts(original, budget)
        check_inferred_sizes(path, facts.shapes)
        check_computed_constants(original, facts, budget)
        rounding = rounding_of(original)
        step.detail = ", ".join([f"{len(original.graph.node)} nodes", f"opset {opset_of(original)}", *fixed.assumed])
    with stage("prepare model") as step:
        proto = onnx.ModelProto()
        proto.CopyFrom(original)
        load_external_data(opened, proto)
        rewritten = to_qdq(proto)
        check_quantization(path, proto)
        # Folding comes first where it can, since old operators are rewritten by the rank of what they read.
        early = opset_of(proto) >= OLDEST_FOLDED
        proto, changes = update_opset(fold_constants(proto, budget) if early else proto)
        proto = fold_constants(proto, budget) if changes or not early else proto
        reordered = constant_weights(proto)
        changes = (
            rewritten + changes + reordered + rewrite_operators(proto, gather_facts(proto, budget, run=True), budget)
        )
        facts = gather_facts(proto, budget, run=True)
        straightened = straighten_convolutions(proto, facts)
        facts = gather_facts(proto, budget, run=True) if straightened else facts
        check_support(path, proto, facts)
        step.detail = f"{len(proto.graph.node)} nodes"
    inputs, outputs = input_specs(proto), output_specs(path, proto, facts)
    if compare:
        with stage("compare with the original"):
            tolerance = allowed(rounding, rewritten=bool(rewritten), reordered=bool(reordered))
            budget.run(
                "comparing it with the original", weight_bytes(proto), _compare, opened, proto, inputs, seed, tolerance
            )
    return PreparedModel(
        path=path,
        sha256=opened.sha256,
        external=opened.external,
        proto=proto,
        original=original,
        inputs=inputs,
        outputs=outputs,
        frozen={tensor.name: numpy_helper.to_array(tensor) for tensor in frozen},
        opset=opset_of(proto),
        rounding=rounding,
        notes=fixed.notes + changes + straightened,
        assumed=fixed.assumed,
    )


def _compare(
    opened: OpenedModel, proto: onnx.ModelProto, inputs: tuple[TensorSpec, ...], seed: int, tolerance: Allowed
) -> None:
    check_same(opened.path, opened.proto, opened.folder, proto, random_inputs(inputs, seed), tolerance)
