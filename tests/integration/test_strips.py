"""Chains that run strip by strip give the same bits as layers one after another, on any number of threads."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from strip_chains import RandomLayers
from tvm import relax

from tvmbuild import schedules
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.graph.pipeline import lower, optimize
from tvmbuild.graph.rewriter import shape_of
from tvmbuild.graph.strips import chains, plan
from tvmbuild.graph.strips.cost import Memory
from tvmbuild.graph.strips.rows import Policy
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.pipeline import build
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.precision import Precision
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration

HOST = load_target("host")


def tiny(scratch: int) -> Any:
    """Return a board's caches by which every stretch of layers is a chain, in strips that fit ``scratch``."""
    return lambda _target: Memory(64, scratch, 23.0, 7.0, 19_500.0)


def run(mod: Any, data: np.ndarray, *, strips: bool) -> tuple[np.ndarray, int]:
    """Compile for this machine and run; also return the number of chains."""
    mod, report = optimize(mod, HOST, kernels=schedules, strips=strips)
    with tempfile.TemporaryDirectory() as folder:
        library = Path(folder) / "net.so"
        tvm.compile(lower(mod, HOST), HOST.to_tvm(), relax_pipeline=tvm.transform.Sequential([])).export_library(
            library
        )
        machine = relax.VirtualMachine(tvm.runtime.load_module(library), tvm.cpu())
        return machine["main"](tvm.runtime.tensor(data)).numpy(), len(report.strips.chains)


@settings(max_examples=6, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_layers(monkeypatch: pytest.MonkeyPatch, data: st.DataObject) -> None:
    mod = RandomLayers(data.draw, floats=True).module()
    monkeypatch.setattr(chains, "memory_of", tiny(data.draw(st.sampled_from([2**13, 2**14, 2**20]))))
    monkeypatch.setattr(plan, "POLICIES", (data.draw(st.sampled_from(Policy)),))
    values = np.random.default_rng(0).standard_normal(shape_of(mod["main"].params[0])).astype("float32")
    (whole, _), (chained, _) = (run(mod, values, strips=strips) for strips in (False, True))
    np.testing.assert_array_equal(chained, whole)


def residuals(rng: np.random.Generator, size: int, channels: int) -> onnx.ModelProto:
    """Two inverted residuals, a pooling, and a convolution that Winograd's algorithm suits."""
    nodes: list[Any] = []
    weights: list[Any] = []

    def convolved(
        source: str, shape: tuple[int, ...], group: int = 1, stride: int = 1, activation: str = "Relu"
    ) -> str:
        number = len(nodes)
        values = rng.standard_normal(shape) / np.sqrt(np.prod(shape[1:]))
        weights.append(numpy_helper.from_array(values.astype("float32"), f"w{number}"))
        weights.append(numpy_helper.from_array(rng.standard_normal(shape[0]).astype("float32"), f"b{number}"))
        attributes: dict[str, Any] = {"group": group, "pads": [shape[2] // 2] * 4, "strides": [stride] * 2}
        nodes.append(helper.make_node("Conv", [source, f"w{number}", f"b{number}"], [f"c{number}"], **attributes))
        if activation:
            nodes.append(helper.make_node(activation, [f"c{number}"], [f"a{number}"]))
        return f"a{number}" if activation else f"c{number}"

    value, wide = "x", 3 * channels
    for turn in range(2):
        inner = convolved(value, (wide, channels, 1, 1), activation="HardSwish")
        inner = convolved(convolved(inner, (wide, 1, 3, 3), wide), (channels, wide, 1, 1), activation="")
        nodes.append(helper.make_node("Add", [inner, value], [f"sum{turn}"]))
        value = f"sum{turn}"
    value = convolved(convolved(value, (16, channels, 3, 3)), (16, 16, 3, 3))
    nodes.append(helper.make_node("MaxPool", [value], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1))
    shape = [1, channels, size, size + 3]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


@pytest.mark.parametrize(("board", "precision"), [("rpi4", Precision.FP32), ("rpi5", Precision.FP16)])
def test_a_board_with_any_threads(
    board: str, precision: Precision, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = load_target(board)
    proto = residuals(np.random.default_rng(5), 22, 16)
    onnx.save(proto, tmp_path / "net.onnx")
    monkeypatch.setattr(chains, "memory_of", tiny(2**18))
    data = np.random.default_rng(6).standard_normal((1, 16, 22, 25)).astype("float32")
    device, outputs = open_device("emulated", target), []
    for strips, threads in ((False, (1,)), (True, (1, 2, 4))):
        name = "strips" if strips else "layers"
        options = BuildOptions(output=tmp_path, name=name, compare=False, precision=precision, strips=strips)
        result = build(tmp_path / "net.onnx", target, options)
        assert bool(result.graph.strips.chains) is strips
        outputs += [
            device.run(RunRequest(tmp_path / f"{name}.so", [data], threads=count)).outputs[0] for count in threads
        ]
    for output in outputs[1:]:
        np.testing.assert_array_equal(output, outputs[0])
    wanted = run_reference(proto, {"x": data})["y"]
    tolerance = 1e-2 if precision is Precision.FP16 else 1e-4
    np.testing.assert_allclose(outputs[0], wanted, rtol=0, atol=tolerance * float(np.abs(wanted).max()))
