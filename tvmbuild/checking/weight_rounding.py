"""How far rounding the weights alone carries the outputs of a model.

Weights stored as float16 keep 11 of their 24 bits. Classifiers answer that with 1e-3 of their largest output, but a
detector on noise, whose outputs are nearly zero, with 3e-2: as ONNX Runtime does with the same weights. So ONNX Runtime
runs the model again with changed weights, twice: rounded to 11 bits, which moves equal weights together, and each
changed by up to 2**-11 at random, as rounding does after a normalisation was folded into them. A multiple of the larger
effect is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx

from tvmbuild.checking.difference import OutputDifference, difference
from tvmbuild.checking.int8_rounding import FACTOR, changed_model
from tvmbuild.onnx_model.reference import run_reference

#: Largest change of a normal number by rounding it to float16, relative to it.
ROUNDING = 2.0**-11
#: Most that is ever allowed: a wrong kernel is off by more.
MOST = 0.1
#: Where operators have their weights.
_WEIGHTS: Mapping[str, tuple[int, ...]] = {
    "MatMul": (0, 1),
    "Gather": (0,),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), (1,)),
}


def changed_references(
    model: Path, inputs: Mapping[str, np.ndarray], seed: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the outputs of ONNX Runtime with weights rounded, and with weights changed at random.

    Args:
        model: the ONNX file.
        inputs: an array by input's name.
        seed: of the changes.
    """
    rng, original = np.random.default_rng(seed), onnx.load(model)
    rounding, drawing = (changed_model(original, change, _WEIGHTS) for change in (rounded, lambda w: _drawn(w, rng)))
    return run_reference(rounding, inputs), run_reference(drawing, inputs)


def rounded(weights: np.ndarray) -> np.ndarray:
    """Return float weights rounded to float16's bits, whatever their size."""
    fractions, exponents = np.frexp(weights)
    kept: np.ndarray = np.ldexp(np.rint(fractions / ROUNDING) * ROUNDING, exponents).astype(weights.dtype)
    return kept


def _drawn(weights: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    changed: np.ndarray = (weights * (1 + ROUNDING * rng.uniform(-1, 1, weights.shape))).astype(weights.dtype)
    return changed


def allowed(found: OutputDifference, reference: np.ndarray, *changed: np.ndarray) -> float:
    """Return the tolerance of an output: what it has, or a multiple of what changed weights do to it.

    Args:
        found: the output of the artifact, with the tolerance that holds in any case.
        reference: the output of ONNX Runtime.
        changed: the same with changed weights.
    """
    moved = max(difference(found.spec, reference, each, 1.0).relative for each in changed)
    return max(found.tolerance, min(FACTOR * moved, MOST)) if np.isfinite(moved) else found.tolerance
