"""Optimized graphs compute what ONNX Runtime computes."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm
from compile_limit import within_limit
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from tvmbuild import schedules
from tvmbuild.graph.pipeline import lower, optimize
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration

HOST = load_target("host")
#: Folding rounds each weight once more and sums change their order; the nets are a few layers of a few hundred terms.
TOLERANCE = 1e-4


def run(model: Any, data: np.ndarray[Any, Any], kernels: Any = None) -> list[np.ndarray[Any, Any]]:
    """Compile an optimized model for this machine, without schedules unless given them, and run it."""
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "net.so"
        within_limit(lambda: export(model, library, kernels), model)
        result = relax.VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())["main"](tvm.runtime.tensor(data))
        return [result.numpy()] if hasattr(result, "numpy") else [field.numpy() for field in result]


def export(model: Any, library: Path, kernels: Any) -> None:
    mod, _ = optimize(from_onnx(model), HOST, kernels=kernels)
    executable = tvm.compile(lower(mod, HOST), HOST.to_tvm(), relax_pipeline=tvm.transform.Sequential([]))
    executable.export_library(library)


def check(model: Any, shape: tuple[int, ...], kernels: Any = None) -> None:
    data = np.random.default_rng(0).standard_normal(shape).astype("float32")
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, {"x": data})
    for actual, wanted in zip(run(model, data, kernels), expected, strict=True):
        assert actual.shape == wanted.shape
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=TOLERANCE * max(1.0, float(np.abs(wanted).max())))


class RandomNet:
    """Draws layers one after another; every tensor drawn may be read again."""

    def __init__(self, draw: Any, widest: int) -> None:
        self.draw = draw
        self.widest = widest
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.tensors: list[tuple[str, tuple[int, int, int]]] = []

    def weight(self, *shape: int, positive: bool = False) -> str:
        values = self.rng.uniform(0.5, 1.5, shape) if positive else self.rng.standard_normal(shape) / np.sqrt(shape[-1])
        self.weights.append(numpy_helper.from_array(values.astype("float32"), f"w{len(self.weights)}"))
        return self.weights[-1].name

    def op(self, kind: str, inputs: list[str], shape: tuple[int, int, int], **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        self.tensors.append((name, shape))

    def layer(self) -> None:
        name, shape = self.draw(st.sampled_from(self.tensors[-3:]))
        kind = self.draw(st.sampled_from(sorted(LAYERS)))
        LAYERS[kind](self, name, shape)


def _conv(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    groups = net.draw(st.sampled_from([count for count in (1, 2, channels) if channels % count == 0]))
    out = groups * net.draw(st.integers(1, net.widest if groups < channels else 2))
    kernel = net.draw(st.sampled_from([1, 3]))
    stride = net.draw(st.integers(1, 2))
    inputs = [data, net.weight(out, channels // groups, kernel, kernel)]
    if net.draw(st.booleans()):
        inputs.append(net.weight(out))
    size = [(extent + 2 * (kernel // 2) - kernel) // stride + 1 for extent in (height, width)]
    net.op("Conv", inputs, (out, *size), group=groups, strides=[stride] * 2, pads=[kernel // 2] * 4)


def _transposed(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    out = net.draw(st.integers(1, net.widest))
    if height > 16:
        return
    net.op("ConvTranspose", [data, net.weight(channels, out, 2, 2)], (out, 2 * height, 2 * width), strides=[2, 2])


def _norm(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    net.op("BatchNormalization", [data, *(net.weight(shape[0], positive=True) for _ in range(4))], shape)


def _affine(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    kind = net.draw(st.sampled_from(["Add", "Sub", "Mul", "Div"]))
    size = net.draw(st.sampled_from([(), (1,), (shape[0], 1, 1), (1, shape[0], 1, 1)]))
    operands = [data, net.weight(*size, positive=True)]
    if kind != "Div" and net.draw(st.booleans()):
        operands.reverse()
    net.op(kind, operands, shape)


def _activation(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    kind = net.draw(st.sampled_from(["Relu", "LeakyRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh"]))
    net.op(kind, [data], shape)


def _silu(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    net.op("Sigmoid", [data], shape)
    net.op("Mul", [data, net.tensors[-1][0]], shape)


def _pool(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    if min(height, width) >= 2:
        kind = net.draw(st.sampled_from(["MaxPool", "AveragePool"]))
        net.op(kind, [data], (channels, height // 2, width // 2), kernel_shape=[2, 2], strides=[2, 2])


def _gate(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    net.op("GlobalAveragePool", [data], (shape[0], 1, 1))
    pooled = net.tensors[-1][0]
    net.op("Conv", [pooled, net.weight(shape[0], shape[0], 1, 1)], (shape[0], 1, 1))
    net.op("Sigmoid", [net.tensors[-1][0]], (shape[0], 1, 1))
    net.op("Mul", [data, net.tensors[-1][0]], shape)


def _combine(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    other, other_shape = net.draw(st.sampled_from(net.tensors))
    if other_shape == shape and net.draw(st.booleans()):
        net.op("Add", [data, other], shape)
    elif other_shape[1:] == shape[1:]:
        net.op("Concat", [data, other], (shape[0] + other_shape[0], *shape[1:]), axis=1)


def _resize(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    if shape[1] > 16:
        return
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], dtype="float32"), f"w{len(net.weights)}")
    net.weights.append(scales)
    net.op(
        "Resize",
        [data, "", scales.name],
        (shape[0], 2 * shape[1], 2 * shape[2]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _shuffle(net: RandomNet, data: str, shape: tuple[int, int, int]) -> None:
    channels, height, width = shape
    if channels % 2:
        return
    split = numpy_helper.from_array(np.array([1, 2, channels // 2, height, width]), f"w{len(net.weights)}")
    joined = numpy_helper.from_array(np.array([1, channels, height, width]), f"w{len(net.weights) + 1}")
    net.weights += [split, joined]
    base = len(net.nodes)
    net.nodes += [
        helper.make_node("Reshape", [data, split.name], [f"v{base}"]),
        helper.make_node("Transpose", [f"v{base}"], [f"v{base + 1}"], perm=[0, 2, 1, 3, 4]),
    ]
    net.op("Reshape", [f"v{base + 1}", joined.name], shape)


LAYERS = {
    "conv": _conv,
    "transposed": _transposed,
    "norm": _norm,
    "affine": _affine,
    "activation": _activation,
    "silu": _silu,
    "pool": _pool,
    "gate": _gate,
    "combine": _combine,
    "resize": _resize,
    "shuffle": _shuffle,
}


@st.composite
def nets(draw: Any, widest: int = 3, largest: int = 9) -> tuple[Any, tuple[int, ...]]:
    net = RandomNet(draw, widest)
    shape = (draw(st.integers(1, 4)), draw(st.integers(1, largest)), draw(st.integers(1, largest)))
    net.tensors.append(("x", shape))
    _conv(net, "x", shape)
    for _ in range(draw(st.integers(1, 10))):
        net.layer()
    outputs = [net.tensors[-1][0]]
    if draw(st.booleans()):
        # An inner tensor as a further output must survive every rewrite.
        outputs.append(draw(st.sampled_from(net.tensors[1:]))[0])
    graph = helper.make_graph(
        net.nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, *shape))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in dict.fromkeys(outputs)],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model, strict_mode=True), (1, *shape)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(nets())
def test_random_nets_keep_their_numbers(case: tuple[Any, tuple[int, ...]]) -> None:
    check(*case)


@settings(max_examples=40, suppress_health_check=list(HealthCheck))
@given(nets(widest=37, largest=23))
def test_random_nets_keep_their_numbers_with_schedules(case: tuple[Any, tuple[int, ...]]) -> None:
    check(*case, kernels=schedules)


def model_of(nodes: list[Any], weights: dict[str, np.ndarray[Any, Any]], shape: tuple[int, ...], output: str) -> Any:
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return onnx.shape_inference.infer_shapes(model)


def normal(*shape: int) -> np.ndarray[Any, Any]:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def test_sequences_keep_their_numbers() -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], pads=[2, 1], strides=[2], dilations=[2]),
        helper.make_node("BatchNormalization", ["a", "b1", "b1", "b1", "v"], ["n"]),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "w2"], ["c"], group=2, pads=[1, 1]),
        helper.make_node("Add", ["c", "r"], ["s"]),
        helper.make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w3"], ["y"]),
    ]
    weights = {
        "w1": normal(6, 3, 3),
        "b1": normal(6),
        "v": abs(normal(6)) + 1,
        "w2": normal(6, 3, 3),
        "w3": normal(6, 5),
    }
    check(model_of(nodes, weights, (1, 3, 19), "y"), (1, 3, 19))


def test_layer_normalization_keeps_its_numbers_far_from_zero() -> None:
    nodes = [
        helper.make_node("Add", ["x", "far"], ["a"]),
        helper.make_node("LayerNormalization", ["a", "gamma", "beta"], ["y"], axis=-1),
    ]
    weights = {"far": np.array([300], dtype="float32"), "gamma": normal(32), "beta": normal(32)}
    check(model_of(nodes, weights, (2, 7, 32), "y"), (2, 7, 32))


@pytest.mark.parametrize("flatten", ["Flatten", "Reshape"])
def test_a_classifier_on_a_flattened_image_keeps_its_numbers(flatten: str) -> None:
    inputs = ["c"] if flatten == "Flatten" else ["c", "shape"]
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node(flatten, inputs, ["f"]),
        helper.make_node("Gemm", ["f", "m", "v"], ["y"], transB=1),
    ]
    weights = {"w": normal(4, 3, 3, 3), "b": normal(4), "m": normal(7, 120), "v": normal(7)}
    if flatten == "Reshape":
        weights["shape"] = np.array([1, -1])
    check(model_of(nodes, weights, (1, 3, 5, 6), "y"), (1, 3, 5, 6))


def test_scans_and_scatters_keep_their_numbers() -> None:
    # TVM computes them by loops without blocks, which no schedule can treat.
    weights = {"axis": np.array(1, np.int64), "places": np.array([[3], [0]], np.int64), "rows": normal(2, 5)}
    nodes = [
        helper.make_node("CumSum", ["x", "axis"], ["sums"]),
        helper.make_node("ScatterND", ["sums", "places", "rows"], ["y"]),
    ]
    check(model_of(nodes, weights, (4, 5), "y"), (4, 5), schedules)


def gated(data: str, output: str) -> list[Any]:
    return [
        helper.make_node("Sigmoid", [data], [f"{output}.s"]),
        helper.make_node("Mul", [data, f"{output}.s"], [output]),
    ]


#: Operators between a convolution's output "c" and "y" whose expression grew with each; all took minutes or for ever.
LONG_CHAINS: dict[str, list[Any]] = {
    "doubled": [helper.make_node("Add", [f"d{i}" if i else "c"] * 2, [f"d{i + 1}"]) for i in range(24)]
    + [helper.make_node("Tanh", ["d24"], ["y"])],
    "gates": [*gated("c", "g1"), *gated("g1", "g2"), *gated("g2", "g3"), *gated("g3", "y")],
    "sigmoids": [
        helper.make_node("Sigmoid", [f"s{i}" if i else "c"], [f"s{i + 1}" if i < 5 else "y"]) for i in range(6)
    ],
    "leaky_gates": [
        *gated("c", "l1"),
        helper.make_node("LeakyRelu", ["l1"], ["l2"]),
        *gated("l2", "l3"),
        helper.make_node("Mul", ["l3", "l2"], ["l4"]),
        helper.make_node("LeakyRelu", ["l4"], ["y"]),
    ],
    "gate_between_borders": [
        *gated("c", "p1"),
        helper.make_node("Pad", ["p1", "pads"], ["p2"]),
        *gated("p2", "p3"),
        helper.make_node("Concat", ["p3", "p2"], ["p4"], axis=1),
        *gated("p4", "p5"),
        helper.make_node("Resize", ["p5", "", "twice"], ["p6"], mode="nearest"),
        *gated("p6", "y"),
    ],
}


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("name", LONG_CHAINS)
def test_chains_that_grow_compile_in_seconds(name: str, groups: int) -> None:
    conv = helper.make_node("Conv", ["x", "w"], ["c"], pads=[1] * 4, group=groups)
    weights = {"w": normal(3, 3 // groups, 3, 3) / (2**20 if name == "doubled" else 1)}
    weights |= {"pads": np.array([0, 0, 1, 1, 0, 0, 1, 1]), "twice": np.array([1, 1, 2, 2], np.float32)}
    used = {name for node in LONG_CHAINS[name] for name in node.input}
    weights = {key: value for key, value in weights.items() if key == "w" or key in used}
    check(model_of([conv, *LONG_CHAINS[name]], weights, (1, 3, 18, 9), "y"), (1, 3, 18, 9), kernels=schedules)


def test_a_net_that_takes_too_long_is_saved_and_named() -> None:
    model = model_of([helper.make_node("Relu", ["x"], ["y"])], {}, (1, 3), "y")
    with pytest.raises(pytest.fail.Exception, match="Relu") as failed:
        within_limit(lambda: time.sleep(60), model, seconds=0.2)
    saved = Path(str(failed.value).split()[1])
    assert onnx.load(saved) == model
    saved.unlink()
