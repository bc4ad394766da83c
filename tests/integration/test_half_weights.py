"""Kernels that read float16 weights and compute in float32, on this machine and on emulated cores without fp16.

Widening is exact, so a layer by the definition equals the reference with rounded weights as nearly as any layer in
float32 does its own. F(2x2) of Winograd's algorithm rounds its transformed weights: it is held to the layer's bound.
"""

from __future__ import annotations

import itertools
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from kernel_cases import HALF_CASES as CASES
from kernel_cases import Array, make_model
from tvm import te

from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.verify import own_tolerance
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.pipeline import build
from tvmbuild.schedules import schedule_function
from tvmbuild.schedules.gemm import compute
from tvmbuild.schedules.gemm.packing import pack_conv2d
from tvmbuild.schedules.gemm.tile_plan import padded_depth, plan_conv2d
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize.storage import MAX_ROUNDING
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.weights import Weights
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration

HOST = load_target("host")
#: Of the largest output, as in test_schedule_conv2d.
EXACT = 2e-6

#: Layers whose weights are rounded after a transform.
TRANSFORMED = ("winograd", "phases")


def rounded_model(proto: Any) -> Any:
    """Return the model with all weights of layers, not biases, rounded to float16."""
    rounded = onnx.ModelProto()
    rounded.CopyFrom(proto)
    for tensor in rounded.graph.initializer:
        if len(tensor.dims) > 1:
            value = onnx.numpy_helper.to_array(tensor).astype(np.float16).astype(np.float32)
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    return rounded


@pytest.mark.parametrize("board", ["rpi4", "rpi3"])
def test_layers_on_a_board_without_half_precision(board: str, tmp_path: Path) -> None:
    proto, arrays = make_model(CASES)
    path = tmp_path / "kernels.onnx"
    onnx.save(proto, path)
    target = load_target(board)
    options = BuildOptions(output=tmp_path, name="half", compare=False, weights=Weights.FP16, use_records=False)
    result = build(path, target, options)
    told = result.manifest.fusion["weights"]
    assert told["half_layers"] == told["layers"] == len(CASES)
    kinds = {report.kind for _, report, _ in result.graph.scheduled() if report is not None and report.macs}
    assert kinds == {"conv2d.direct", "conv2d.winograd", "matmul"}

    opened = open_artifact(tmp_path / "half.so")
    run = open_device("emulated", target).run(
        RunRequest(opened.library, [arrays[spec.name] for spec in result.manifest.inputs], threads=2)
    )
    outputs = dict(zip((spec.name for spec in result.manifest.outputs), run.outputs, strict=True))
    exact, original = run_reference(rounded_model(proto), arrays), run_reference(proto, arrays)
    for name in CASES:
        wanted, allowed = (original, MAX_ROUNDING) if name in TRANSFORMED else (exact, EXACT)
        largest = np.abs(wanted[name]).max()
        assert np.abs(outputs[name] - wanted[name]).max() <= allowed * largest, name
    spec = result.manifest.outputs[0]
    assert own_tolerance(opened, spec) == Weights.FP16.tolerance


def test_the_code_widens_in_registers_and_calls_nothing(tmp_path: Path) -> None:
    """The Cortex-A53 and A72 have ``fcvtl``; a call of compiler-rt for each weight would take twenty times as long."""
    proto, _ = make_model({"pointwise": CASES["pointwise"], "row": CASES["row"]})
    onnx.save(proto, tmp_path / "net.onnx")
    options = BuildOptions(output=tmp_path, name="net", compare=False, weights=Weights.FP16, use_records=False)
    build(tmp_path / "net.onnx", load_target("rpi3"), options)
    command = ["aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", str(tmp_path / "net.so")]
    code = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    assert "fcvtl\t" in code
    assert not [line for line in code.splitlines() if "\tbl\t" in line and "extendhf" in line]


def convolution(geometry: Conv2dGeometry, dtype: str, choice: dict[str, int] | None) -> Array:
    g, plan = geometry, plan_conv2d(geometry, HOST)
    rng = np.random.default_rng(1)
    depth = padded_depth(g.group_in, g.groups, HOST)
    kernel = np.zeros((g.out_channels, depth, *g.kernel), np.float16)
    kernel[:, : g.group_in] = rng.standard_normal((g.out_channels, g.group_in, *g.kernel))
    packed = pack_conv2d(kernel, plan.tile.channels, g.groups).astype(dtype)
    shape = (g.batch, g.height, g.width, g.in_channels)
    data, weights = te.placeholder(shape, "float32", "x"), te.placeholder(packed.shape, dtype, "w")
    function = te.create_prim_func([data, weights, compute.conv2d(data, weights, g, plan)])
    scheduled, report = schedule_function("main", function.with_attr("global_symbol", "main"), HOST, choice)
    assert report.kind == "conv2d.direct", report.note
    program = tvm.compile(tvm.IRModule({"main": scheduled}), HOST.to_tvm())
    output = tvm.runtime.tensor(np.zeros((g.batch, g.out_height, g.out_width, g.out_channels), np.float32))
    inputs = rng.standard_normal(shape).astype(np.float32)
    program["main"](tvm.runtime.tensor(inputs), tvm.runtime.tensor(packed), output)
    return np.asarray(output.numpy())


@pytest.mark.parametrize(
    "geometry",
    [
        Conv2dGeometry(1, 12, 12, 40, 128, (1, 1)),
        Conv2dGeometry(2, 9, 9, 16, 70, (3, 3), stride=(2, 2), padding=(1, 1, 1, 1)),
        Conv2dGeometry(1, 12, 12, 12, 18, (3, 3), padding=(1, 1, 1, 1), groups=3),
    ],
)
def test_however_weights_are_widened_the_sums_are_the_same(geometry: Conv2dGeometry) -> None:
    """Bit for bit those of a kernel that is given the rounded weights as float32, by any choice of the knobs."""
    expected = convolution(geometry, "float32", None)
    for rows, ahead, parts in itertools.product((1, 3), (0, 1, 2), (1, 2)):
        choice = {"rows": rows, "ahead": ahead, "parts": parts}
        np.testing.assert_array_equal(convolution(geometry, "float16", choice), expected, err_msg=str(choice))


@pytest.mark.parametrize("axis", [0, 1])
def test_a_table_that_is_looked_up_is_stored_as_float16(axis: int, tmp_path: Path) -> None:
    table = np.random.default_rng(0).standard_normal((50, 24)).astype(np.float32)
    indices = np.array([[3, 0, 17], [23, 5, 5]], np.int64)
    nodes = [
        onnx.helper.make_node("Gather", ["table", "x"], ["rows"], axis=axis),
        onnx.helper.make_node("Relu", ["rows"], ["y"]),
    ]
    inputs = [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, indices.shape)]
    outputs = [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)]
    weights = [onnx.numpy_helper.from_array(table, "table")]
    graph = onnx.helper.make_graph(nodes, "embedding", inputs, outputs, weights)
    opset = [onnx.helper.make_opsetid("", 17)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "net.onnx")
    options = BuildOptions(output=tmp_path, name="net", compare=False, weights=Weights.AUTO, use_records=False)
    result = build(tmp_path / "net.onnx", HOST, options)
    assert result.manifest.fusion["weights"]["bytes"] == table.size * 2
    assert str(result.graph.kernels[-1]) == "take+relu"
    (found,) = open_device("local", HOST).run(RunRequest(tmp_path / "net.so", [indices], threads=1)).outputs
    rounded = table.astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(found, np.maximum(np.take(rounded, indices, axis), 0))
