"""How far rounding alone carries the outputs of an int8 model from those of the same model elsewhere.

Where a value lies on the border of two codes, float sums of another order round it to the other one. That happens to
about one code in a million in the first layer, and each such step moves what follows by up to a few steps: in a net of
sixty layers more than a tenth of the codes of the last ones differ. The largest difference of an output is then no
measure of a kernel: at the edge of a letter a text detector answers 0.1 or 0.9. So the root mean square is judged, and
how much of it is rounding is seen by nudging: ONNX Runtime runs the model again with scales and inputs changed by a
millionth.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from tvmbuild.difference import rms_ratio

#: Relative change of the inputs: some units in the last place of float32, as another order of summation makes.
NUDGE = 1e-6
#: Multiple of the nudge's effect that is allowed: it is one draw of what varies between draws.
FACTOR = 3.0
#: Least and most that is allowed. An output that is all zeros, or of another input, has a ratio of 1 and more.
LEAST, MOST = 0.05, 0.5


def nudged_inputs(inputs: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return inputs with each float changed by up to a millionth."""
    rng = np.random.default_rng(seed)
    return {name: _nudged(array, rng) for name, array in inputs.items()}


def nudged_model(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return a model with each float constant, scales above all, changed by up to a millionth."""
    rng = np.random.default_rng(seed)
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.data_type == onnx.TensorProto.FLOAT and tensor.data_location != onnx.TensorProto.EXTERNAL:
            array = _nudged(numpy_helper.to_array(tensor), rng)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return changed


def _nudged(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return (array * (1 + NUDGE * rng.uniform(-1, 1, array.shape))).astype(array.dtype)


def allowed(reference: np.ndarray, nudged_reference: np.ndarray) -> float:
    """Return the ratio of ``difference.rms_ratio`` that an output may have.

    Args:
        reference: the output of ONNX Runtime.
        nudged_reference: the same for the nudged model and inputs.
    """
    return float(np.clip(FACTOR * rms_ratio(reference, nudged_reference), LEAST, MOST))
