"""How far rounding alone carries the outputs of an int8 model from those of the same model elsewhere.

Where a value lies on the border of two codes, float sums of another order round it to the other one. That happens to
about one code in a million in the first layer, and each such step moves what follows by up to a few steps: in a net of
sixty layers more than a tenth of the codes of the last ones differ. The largest difference of an output is then no
measure of a kernel: at the edge of a letter a text detector answers 0.1 or 0.9. So the root mean square is judged, and
how much of it is rounding is seen by nudging: ONNX Runtime runs the model again with scales and inputs changed by a
millionth.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from tvmbuild.checking.difference import rms_ratio
from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.skeleton import is_external

#: Relative change of the inputs: some units in the last place of float32, as another order of summation makes.
NUDGE = 1e-6
#: Multiple of the nudge's effect that is allowed: it is one draw of what varies between draws.
FACTOR = 3.0
#: Least and most that is allowed with codes of 8 bits. An output that is all zeros, or of another input, has a ratio of
#: 1 and more.
LEAST, MOST = 0.05, 0.5
#: Where operators have numbers that are data: scales of codes, weights, shifts. Everything else may be structure (the
#: scales of Resize, a size computed from a number, an exponent), which a nudge turns into another model.
_DATA: Mapping[str, tuple[int, ...]] = {
    **dict.fromkeys(("QuantizeLinear", "DequantizeLinear"), (1,)),
    **dict.fromkeys(("QLinearConv", "QLinearMatMul"), (1, 4, 6)),
    **dict.fromkeys(("QLinearAdd", "QLinearMul"), (1, 4, 6)),
    **dict.fromkeys(("QLinearSigmoid", "QLinearLeakyRelu", "QLinearSoftmax"), (1, 3)),
    **dict.fromkeys(("QLinearAveragePool", "QLinearGlobalAveragePool"), (1, 3)),
    "QGemm": (1, 4, 7),
    "MatMul": (0, 1),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), (1, 2)),
    "BatchNormalization": (1, 2, 3, 4),
    **dict.fromkeys(("InstanceNormalization", "LayerNormalization", "GroupNormalization"), (1, 2)),
}


def nudged_inputs(inputs: Mapping[str, np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return inputs with each float changed by up to a millionth."""
    rng = np.random.default_rng(seed)
    return {name: _nudged(array, rng) for name, array in inputs.items()}


def nudged_model(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """Return a model with each float constant that is data, scales above all, changed by up to a millionth."""
    rng = np.random.default_rng(seed)
    return changed_model(model, lambda array: _nudged(array, rng), _DATA)


def changed_model(
    model: onnx.ModelProto, change: Callable[[np.ndarray], np.ndarray], places: Mapping[str, tuple[int, ...]]
) -> onnx.ModelProto:
    """Return a model with other float constants where operators have data.

    Args:
        model: with its weights; those in other files stay as they are.
        change: returns the array to put in the place of one.
        places: by operator, the inputs that are data. What another operator reads as well stays as it is.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    data = _data_names(changed.graph, places)
    for graph in walk.graphs(changed.graph):
        for tensor in graph.initializer:
            if tensor.name in data:
                _change(tensor, change)
        for node in graph.node:
            if node.op_type == "Constant" and node.output[0] in data and "value" in (found := walk.attributes(node)):
                _change(found["value"].t, change)
    return changed


def _data_names(graph: onnx.GraphProto, data_places: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Return the names that nodes read as data, and none reads as anything else."""
    data: set[str] = set()
    other = {value.name for each in walk.graphs(graph) for value in each.output}
    for node in walk.nodes(graph):
        places = data_places.get(node.op_type, ())
        for index, name in enumerate(node.input):
            (data if index in places else other).add(name)
    return data - other


def _change(tensor: onnx.TensorProto, change: Callable[[np.ndarray], np.ndarray]) -> None:
    if tensor.data_type == onnx.TensorProto.FLOAT and not is_external(tensor):
        tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))


def _nudged(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if not np.issubdtype(array.dtype, np.floating):
        return array
    return (array * (1 + NUDGE * rng.uniform(-1, 1, array.shape))).astype(array.dtype)


def allowed(reference: np.ndarray, nudged_reference: np.ndarray, least: float = LEAST) -> float:
    """Return the ratio of ``difference.rms_ratio`` that an output may have.

    Args:
        reference: the output of ONNX Runtime.
        nudged_reference: the same for the nudged model and inputs.
        least: what is allowed in any case.
    """
    return float(np.clip(FACTOR * rms_ratio(reference, nudged_reference), least, MOST))
