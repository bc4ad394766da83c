"""Well-known networks with seeded random weights, for benchmarks.

The ``onnx`` package carries the exact structure of several networks with weights of one constant value
(``light_*.onnx``). Here each weight gets random values of a size that keeps activations in a normal range: He
initialisation (He et al., 2015, "Delving Deep into Rectifiers") and batch statistics about 0 and 1.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, numpy_helper

from tvmbuild.support.errors import FetchError
from tvmbuild.support.suggest import did_you_mean

#: Networks, by our name: the name of the file in the onnx package.
LIGHT_MODELS = {
    "densenet121": "densenet121",
    "inception_v1": "inception_v1",
    "inception_v2": "inception_v2",
    "resnet50": "resnet50",
    "shufflenet": "shufflenet",
    "squeezenet": "squeezenet",
    "vgg19": "vgg19",
}
#: Share of a residual branch in its sum: with 1 the activations would double in power at each of ResNet-50's 16 sums.
_BRANCH_SCALE = 0.3

_Maker = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]


def light_model(name: str, seed: int = 0) -> onnx.ModelProto:
    """Return a network with random weights, the same for the same name and seed.

    All take one picture, float32[1, 3, 224, 224], and give 1000 classes.

    Raises:
        FetchError: there is no network of that name.
    """
    if name not in LIGHT_MODELS:
        raise FetchError(f"There is no light model '{name}'.", did_you_mean(name, LIGHT_MODELS))
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    model = onnx.load(folder / f"light_{LIGHT_MODELS[name]}.onnx")
    rng = np.random.default_rng(seed)
    shapes = _weight_shapes(model.graph)
    kept = [tensor for tensor in model.graph.initializer if tensor.name not in shapes and _is_read(model.graph, tensor)]
    nodes = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    weights = []
    for weight, shape in shapes.items():
        maker = _maker(model.graph, weight)
        if maker is not None:
            weights.append(numpy_helper.from_array(maker(rng, shape).astype(np.float32), weight))
    present = {tensor.name for tensor in (*kept, *model.graph.initializer)}
    inputs = [value for value in model.graph.input if value.name not in present]
    for field, values in (("node", nodes), ("initializer", [*kept, *weights]), ("input", inputs)):
        copies = [type(value).FromString(value.SerializeToString()) for value in values]
        del getattr(model.graph, field)[:]
        getattr(model.graph, field).extend(copies)
    model.ir_version = max(model.ir_version, 4)
    return model


def _weight_shapes(graph: GraphProto) -> dict[str, tuple[int, ...]]:
    """Return the shape of every floating-point weight, stored or made by ConstantOfShape."""
    stored = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {
        node.output[0]: tuple(int(size) for size in numpy_helper.to_array(stored[node.input[0]]))
        for node in graph.node
        if node.op_type == "ConstantOfShape"
    }
    floats = {name: tuple(tensor.dims) for name, tensor in stored.items() if tensor.data_type == onnx.TensorProto.FLOAT}
    return floats | shapes


def _is_read(graph: GraphProto, tensor: onnx.TensorProto) -> bool:
    return any(tensor.name in node.input for node in graph.node if node.op_type != "ConstantOfShape")


def _reader(graph: GraphProto, name: str) -> tuple[NodeProto, int] | None:
    """Return the node that uses a weight, seen through Unsqueeze, and at which input."""
    for node in graph.node:
        if name in node.input and node.op_type != "ConstantOfShape":
            if node.op_type in ("Unsqueeze", "Reshape") and name == node.input[0]:
                return _reader(graph, node.output[0])
            return node, list(node.input).index(name)
    return None


def _maker(graph: GraphProto, name: str) -> _Maker | None:
    """Choose the distribution of a weight by what it is used for; None when nothing reads it."""
    found = _reader(graph, name)
    if found is None:
        return None
    node, index = found
    if node.op_type in ("Conv", "Gemm") and index == 1:
        return _he if node.op_type == "Conv" else _linear
    if node.op_type == "BatchNormalization":
        branch = (
            _BRANCH_SCALE
            if any(node.output[0] in other.input for other in graph.node if other.op_type == "Sum")
            else 1.0
        )
        return {1: _around_one(branch), 2: _around_zero, 3: _around_zero, 4: _around_one(1.0)}[index]
    return _around_one(1.0) if node.op_type == "Mul" else _around_zero


def _he(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a convolution, [out, in, height, width]: normal with variance 2 / fan-in."""
    return np.asarray(rng.normal(0.0, np.sqrt(2.0 / np.prod(shape[1:])), shape))


def _linear(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Weights of a matrix product, [out, in]: normal with variance 1 / fan-in."""
    return np.asarray(rng.normal(0.0, np.sqrt(1.0 / shape[-1]), shape))


def _around_zero(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return np.asarray(rng.normal(0.0, 0.1, shape))


def _around_one(scale: float) -> _Maker:
    return lambda rng, shape: scale * rng.uniform(0.8, 1.2, shape)
