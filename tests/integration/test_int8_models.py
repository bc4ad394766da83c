"""Models that ONNX Runtime's own quantizer wrote, against ONNX Runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from seeded import rng

from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.verify import verify
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.pipeline import build
from tvmbuild.support.options import BuildOptions, VerifyOptions
from tvmbuild.target.target import load_target

SHAPE = (1, 3, 24, 24)


def float_model() -> onnx.ModelProto:
    """A net with each kind of place where codes meet: residual, concatenation, pools, depthwise, gate, product."""
    nodes: list[Any] = []
    weights: list[Any] = []

    def op(kind: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [f"v{len(nodes)}"], name=f"n{len(nodes)}", **attributes))
        return str(nodes[-1].output[0])

    def weight(*shape: int) -> str:
        depth = max(1, int(np.prod(shape[1:])))
        value = (rng().standard_normal(shape) * np.sqrt(2 / depth)).astype(np.float32)
        weights.append(numpy_helper.from_array(value, f"w{len(weights)}"))
        return str(weights[-1].name)

    def conv(data: str, inner: int, outer: int, kernel: int = 3, group: int = 1, stride: int = 1) -> str:
        pads = [kernel // 2] * 4
        parameters = weight(outer, inner // group, kernel, kernel), weight(outer)
        return op("Conv", data, *parameters, pads=pads, group=group, strides=[stride] * 2)

    stem = op("Relu", conv("x", 3, 16, stride=2))
    body = op("Relu", op("Add", conv(op("Relu", conv(stem, 16, 16, group=16)), 16, 16, 1), stem))
    pooled = op("MaxPool", body, kernel_shape=[2, 2], strides=[2, 2])
    both = op("Concat", op("Relu", conv(pooled, 16, 8, 1)), op("Relu", conv(pooled, 16, 24)), axis=1)
    gate = op("Sigmoid", conv(op("GlobalAveragePool", both), 32, 32, 1))
    flat = op("Flatten", op("GlobalAveragePool", op("Mul", both, gate)))
    op("Gemm", flat, weight(10, 32), weight(10), transB=1)
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info(nodes[-1].output[0], TensorProto.FLOAT, [1, 10])],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantize(path: Path, folder: Path, form: str, activations: str, weights: str, per_channel: bool) -> Path:
    """Return the model as ONNX Runtime quantizes it from random inputs."""
    from onnxruntime import quantization as ort

    class Samples(ort.CalibrationDataReader):  # type: ignore[misc]
        left = 4

        def get_next(self) -> dict[str, np.ndarray] | None:
            self.left -= 1
            return {"x": rng().standard_normal(SHAPE).astype(np.float32)} if self.left >= 0 else None

    written = folder / "quantized.onnx"
    ort.quantize_static(
        path,
        written,
        Samples(),
        quant_format=ort.QuantFormat[form],
        activation_type=ort.QuantType[activations],
        weight_type=ort.QuantType[weights],
        per_channel=per_channel,
        extra_options={"WeightSymmetric": weights == "QInt8"},
    )
    return written


@pytest.mark.parametrize(
    ("form", "activations", "weights", "per_channel", "target"),
    [
        ("QDQ", "QInt8", "QInt8", True, "rpi4"),
        ("QDQ", "QUInt8", "QInt8", False, "rpi5"),
        ("QDQ", "QUInt8", "QUInt8", False, "host"),
        ("QOperator", "QUInt8", "QInt8", True, "host"),
    ],
)
def test_what_onnx_runtime_quantizes_runs_in_int8(
    form: str, activations: str, weights: str, per_channel: bool, target: str, tmp_path: Path
) -> None:
    onnx.save(float_model(), tmp_path / "float.onnx")
    path = quantize(tmp_path / "float.onnx", tmp_path, form, activations, weights, per_channel)
    board = load_target(target)
    result = build(path, board, BuildOptions(output=tmp_path, name="net"))
    assert result.graph.macs.share == 1.0
    assert result.graph.unscheduled() == []
    device = open_device("local" if target == "host" else "emulated", board)
    inputs = {"x": rng().standard_normal(SHAPE).astype(np.float32)}
    (given,) = device.run(RunRequest(tmp_path / "net.so", [inputs["x"]], threads=2)).outputs
    (wanted,) = run_reference(path, inputs).values()
    # Both are whole steps of the output's scale. ONNX Runtime rounds after adding in float, so that each of a dozen
    # tensors may hold a few codes that differ by one; averaged over 36 positions, and weighed by 32 inputs of the last
    # product with weights of about 1/4, they move an output by less than two steps of some 1/100 of its range.
    step = float(np.diff(np.unique(np.concatenate([given, wanted]))).min(initial=1.0))
    assert np.abs(given - wanted).max() <= 2.01 * max(step, np.abs(wanted).max() / 127)


def resized(zero: Any) -> onnx.ModelProto:
    """Codes of zero's type around a Resize whose scales are constants, with no product in integers."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        node("Conv", ["d", "w"], ["c"]),
        node("QuantizeLinear", ["c", "s", "z"], ["cq"]),
        node("DequantizeLinear", ["cq", "s", "z"], ["cd"]),
        node("Resize", ["cd", "", "factors"], ["r"], mode="nearest"),
        node("Relu", ["r"], ["y"]),
    ]
    # Steps of a power of two and weights of half a step: sums lie on the borders of two codes.
    step = np.float32(2.0**-5 if zero.dtype.itemsize == 1 else 2.0**-12)
    weights = {"s": step, "z": zero, "w": rng().choice([-1.5, 0.5, 2.5], (4, 3, 3, 3)).astype(np.float32)}
    weights["factors"] = np.array([1, 1, 2, 2], np.float32)
    graph = helper.make_graph(
        nodes,
        "resized",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("zero", [np.uint8(128), np.int16(0)], ids=["8 bits", "16 bits"])
def test_right_models_verify_whatever_their_codes_and_kernels(zero: Any, tmp_path: Path) -> None:
    onnx.save(resized(np.asarray(zero)), tmp_path / "m.onnx")
    board = load_target("host")
    result = build(tmp_path / "m.onnx", board, BuildOptions(output=tmp_path, name="net"))
    assert result.graph.macs.share == 0.0
    artifact = open_artifact(tmp_path / "net.json")
    found = verify(artifact, tmp_path / "m.onnx", open_device("local", board), VerifyOptions(samples=3))
    assert found.passed
    assert found.outputs[0].rms is not None


#: What TVM writes with bound names (our polynomials), and what has no vector form, between rounding and rounding.
FUNCTIONS: dict[str, list[str]] = {
    "erf": ["Erf"],
    "sigmoid": ["Sigmoid"],
    "tanh": ["Tanh"],
    "exp": ["Exp"],
    "log": ["Exp", "Log"],
    "softplus": ["Softplus"],
    "elu": ["Elu"],
    "gelu": ["Gelu"],
    "mish": ["Mish"],
    "atan": ["Atan"],
    "atan_of_sigmoid": ["Sigmoid", "Atan"],
    "sigmoid_of_atan": ["Atan", "Sigmoid"],
    "round_of_tanh": ["Tanh", "Round"],
}


def model_of_functions() -> onnx.ModelProto:
    """A branch for each of ``FUNCTIONS``: product with one number, codes, function, codes, sum."""
    nodes: list[Any] = []
    weights = {"scale": np.float32(1 / 32), "fine": np.float32(1 / 64), "zero": np.int8(3), "one": np.float32(1)}
    for number, (name, operators) in enumerate(FUNCTIONS.items()):
        weights[f"{name}.k"] = np.float32(1 + number / 8)
        nodes.append(helper.make_node("Mul", ["x", f"{name}.k"], [f"{name}.0"]))
        chain = [("QuantizeLinear", ["scale", "zero"]), ("DequantizeLinear", ["scale", "zero"])]
        chain += [(operator, []) for operator in operators]
        chain += [("QuantizeLinear", ["fine", "zero"]), ("DequantizeLinear", ["fine", "zero"]), ("Mul", ["fine"])]
        for step, (operator, more) in enumerate(chain):
            output = name if step == len(chain) - 1 else f"{name}.{step + 1}"
            nodes.append(helper.make_node(operator, [f"{name}.{step}", *more], [output]))
    graph = helper.make_graph(
        nodes,
        "functions",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 5, 7, 9))],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in FUNCTIONS],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)


@pytest.mark.parametrize("target", ["host", "rpi4"])
def test_functions_stand_between_codes(target: str, tmp_path: Path) -> None:
    onnx.save(model_of_functions(), tmp_path / "functions.onnx")
    board = load_target(target)
    result = build(tmp_path / "functions.onnx", board, BuildOptions(output=tmp_path, name="net"))
    device = open_device("local" if target == "host" else "emulated", board)
    x = rng().standard_normal((1, 5, 7, 9)).astype(np.float32)
    given = device.run(RunRequest(tmp_path / "net.so", [x], threads=2)).outputs
    wanted = run_reference(tmp_path / "functions.onnx", {"x": x})
    for spec, output in zip(result.manifest.outputs, given, strict=True):
        steps = np.abs(output - wanted[spec.name]) * 64 * 64
        # A value that lies between two codes may be rounded to either.
        assert steps.max() <= 1.01, spec.name
        assert np.mean(steps > 0.01) <= 0.01, spec.name
