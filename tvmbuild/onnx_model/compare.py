"""Check that the prepared model computes what the original does, and find the first operator that does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.onnx_model.rounding import Rounding, rounding_of
from tvmbuild.support.errors import ModelError, PreparationError

#: Largest difference allowed, as a share of the largest value. Preparing reorders no arithmetic but what is folded
#: (a few roundings of 6e-8 each), so anything larger is another meaning.
_TOLERANCE = 1e-5
#: The same for models with half precision inside, which rounds at 5e-4; their outputs may be float32.
_HALF_TOLERANCE = 4e-3
#: Allowed once integer operators were rewritten to QDQ: they round sums of integers where QDQ rounds real numbers, so
#: that a tie becomes the next code and later layers round that again. Some 1e-2 in a classifier of 54 layers.
_REWRITTEN_TOLERANCE = 0.1
#: Allowed once convolutions scale their data and not their weights: every layer's sums round elsewhere.
_REORDERED_TOLERANCE = 1e-4
#: Tensors computed in one run while searching: bounds the memory.
_CHUNK = 32
#: The opset from which on nothing is rewritten for its age.
_MODERN = 13


@dataclass(frozen=True)
class Allowed:
    """Largest differences allowed, as shares of the largest value.

    Attributes:
        reals: for outputs of floats.
        integers: for outputs of integers and booleans.
    """

    reals: float = _TOLERANCE
    integers: float = 0.0


def allowed(rounding: Rounding, *, rewritten: bool = False, reordered: bool = False) -> Allowed:
    """Return how far preparing may move a model's outputs: the loosest of all that applies.

    Args:
        rounding: of the original model.
        rewritten: whether integer operators became QDQ.
        reordered: whether sums are computed in another order.
    """
    # In another order a sum may round to the next code, as it may in QDQ.
    if rewritten or (reordered and rounding.code_bits):
        return Allowed(_REWRITTEN_TOLERANCE, _REWRITTEN_TOLERANCE)
    reals = [_TOLERANCE, _REORDERED_TOLERANCE if reordered else 0.0, _HALF_TOLERANCE if rounding.half else 0.0]
    return Allowed(max(reals))


def check_same(
    path: Path,
    original: onnx.ModelProto,
    folder: Path,
    prepared: onnx.ModelProto,
    inputs: Mapping[str, np.ndarray],
    tolerance: Allowed | None = None,
) -> dict[str, np.ndarray]:
    """Run both models on the same inputs and return the original's outputs.

    Args:
        path: the file, for messages.
        original: as it was read.
        folder: where its external data lies.
        prepared: as it will be compiled.
        inputs: by name.
        tolerance: largest differences; None for those of rounding alone, by what the original contains.

    Raises:
        PreparationError: ONNX Runtime cannot run the original, so that nothing can be compared; or the prepared model
            does not run, or an output differs: then the message names the first operator that differs.
    """
    tolerance = tolerance or allowed(rounding_of(original))
    wanted, inputs = _run_original(path, original, folder, inputs)
    try:
        got = run_reference(prepared, inputs)
    except ModelError as error:
        raise PreparationError(f"{path} no longer runs after it was prepared. {error.message}") from error
    wrong = [name for name in wanted if not same(wanted[name], got[name], tolerance)]
    if wrong:
        where = _first_difference(original, folder, prepared, inputs, tolerance)
        raise PreparationError(
            f"Preparing {path} would change what it computes: output '{wrong[0]}' differs by"
            f" {difference(wanted[wrong[0]], got[wrong[0]]):.2g} of its largest value. {where}",
            "Please report it with the model" + _workaround(original),
        )
    return wanted


def _workaround(original: onnx.ModelProto) -> str:
    opset = next((each.version for each in original.opset_import if each.domain in ("", "ai.onnx")), _MODERN)
    if opset >= _MODERN:
        return "."
    return f"; until then export it with opset {_MODERN} or newer, which needs less rewriting."


def _run_original(
    path: Path, original: onnx.ModelProto, folder: Path, inputs: Mapping[str, np.ndarray]
) -> tuple[dict[str, np.ndarray], Mapping[str, np.ndarray]]:
    """Return the original's outputs, and the inputs that gave them.

    Random integers may be no valid indices, or divisors of 0; then all 0 and all 1 are tried.
    """
    tries = [inputs]
    if any(array.dtype.kind in "iu" for array in inputs.values()):
        for number in (0, 1):
            tries.append({name: np.full_like(a, number) if a.dtype.kind in "iu" else a for name, a in inputs.items()})
    for number, each in enumerate(tries):
        try:
            return run_reference(original, each, folder=folder), each
        except ModelError as error:
            if number == len(tries) - 1:
                raise PreparationError(
                    f"{path} cannot be checked, since the original does not run. {error.message}",
                    "See that it runs in ONNX Runtime with inputs of these shapes, then try again.",
                ) from error
    raise AssertionError("there is always one try")


def same(wanted: np.ndarray, got: np.ndarray, tolerance: Allowed | None = None) -> bool:
    """Whether two results of the same computation are equal up to rounding, or to a tolerance; NaN equals NaN."""
    if wanted.shape != got.shape or wanted.dtype != got.dtype:
        return False
    tolerance = tolerance or Allowed()
    if wanted.dtype.kind not in "fc":
        # Exact where nothing is allowed: the difference is taken in float64.
        return bool(np.array_equal(wanted, got)) or 0.0 < difference(wanted, got) <= tolerance.integers
    return difference(wanted, got) <= tolerance.reals


def difference(wanted: np.ndarray, got: np.ndarray) -> float:
    """Return the largest absolute difference over the largest finite absolute value (inf if not comparable)."""
    if wanted.shape != got.shape:
        return float("inf")
    if wanted.dtype.kind not in "biufc":
        return 0.0 if np.array_equal(wanted, got) else float("inf")
    # Longdouble is too slow and float32 overflows in the subtraction.
    first, second = wanted.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(first)
    if not np.array_equal(first[~finite], second[~finite], equal_nan=True) or not np.isfinite(second[finite]).all():
        return float("inf")
    if not finite.any():
        return 0.0
    largest = float(np.abs(first[finite]).max())
    return float(np.abs(first[finite] - second[finite]).max()) / (largest or 1.0)


def _first_difference(
    original: onnx.ModelProto,
    folder: Path,
    prepared: onnx.ModelProto,
    inputs: Mapping[str, np.ndarray],
    tolerance: Allowed,
) -> str:
    """Name the first operator whose output, a tensor that both models have, differs."""
    writers = {name: node for node in original.graph.node for name in node.output if name}
    shared = [name for node in prepared.graph.node for name in node.output if name in writers]
    for names in _chunks(shared):
        try:
            wanted = run_reference(original, inputs, names, folder=folder)
            got = run_reference(prepared, inputs, names)
        except ModelError:
            continue
        for name in names:
            if not same(wanted[name], got[name], tolerance):
                return f"The first operator that differs is {_describe(writers[name])}, in tensor '{name}'."
    return "No operator inside the graph could be told apart."


def _describe(node: NodeProto) -> str:
    return f"{node.op_type} '{walk.label(node)}'"


def _chunks(names: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(names), _CHUNK):
        yield names[start : start + _CHUNK]
