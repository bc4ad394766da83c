"""Reference runs and seeded inputs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import model, saved

from tvmbuild.onnx_model import reference
from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.support.errors import ModelError
from tvmbuild.support.tensor import TensorSpec

SPECS = (TensorSpec("f", "float32", (50,)), TensorSpec("i", "int64", (50,)), TensorSpec("b", "bool", (50,)))


def test_seed_decides_the_inputs() -> None:
    first, again, other = random_inputs(SPECS, 1), random_inputs(SPECS, 1), random_inputs(SPECS, 2)
    assert all(np.array_equal(first[name], again[name]) for name in first)
    assert not np.array_equal(first["f"], other["f"])


def test_inputs_fit_their_specs() -> None:
    inputs = random_inputs(SPECS)
    assert [str(inputs[spec.name].dtype) for spec in SPECS] == ["float32", "int64", "bool"]
    assert np.abs(inputs["f"]).max() <= 1
    assert set(inputs["i"].tolist()) == {0, 1}
    assert random_inputs([TensorSpec("s", "float32", ())])["s"].shape == ()


def _affine() -> onnx.ModelProto:
    weights = {"w": np.arange(12, dtype=np.float32).reshape(3, 4)}
    nodes = [helper.make_node("MatMul", ["x", "w"], ["t"]), helper.make_node("Relu", ["t"], ["y"])]
    return model(nodes, {"x": [1, 3]}, ["y"], weights)


def test_outputs_match_numpy() -> None:
    x = np.array([[1, -2, 3]], np.float32)
    result = run_reference(_affine(), {"x": x})
    np.testing.assert_array_equal(result["y"], np.maximum(x @ np.arange(12, dtype=np.float32).reshape(3, 4), 0))


def test_declared_shape_can_be_another(tmp_path: Path) -> None:
    x = np.ones((5, 3), np.float32)
    assert run_reference(saved(_affine(), tmp_path), {"x": x})["y"].shape == (5, 4)


def test_inner_tensors_can_be_asked_for() -> None:
    proto = _affine()
    result = run_reference(proto, {"x": -np.ones((1, 3), np.float32)}, ["t"])
    assert result["t"].tolist() == [[-12, -15, -18, -21]]
    assert [value.name for value in proto.graph.output] == ["y"]


def test_inputs_that_the_model_lacks_are_passed_over() -> None:
    assert "y" in run_reference(_affine(), {"x": np.ones((1, 3), np.float32), "other": np.ones(1)})


def test_large_weights_are_handed_over_beside_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    weights = {"w": np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)}
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 40]}, ["y"], weights)
    inputs = random_inputs([TensorSpec("x", "float32", (2, 40))])
    wanted = run_reference(proto, inputs)
    monkeypatch.setattr(reference, "_INLINE_BYTES", 1000)
    np.testing.assert_array_equal(run_reference(proto, inputs)["y"], wanted["y"])


def test_external_data_is_found_beside_the_file(tmp_path: Path) -> None:
    weights = {"w": np.ones((300, 4), np.float32)}
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 300]}, ["y"], weights)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin")
    result = run_reference(tmp_path / "m.onnx", {"x": np.ones((2, 300), np.float32)})
    assert result["y"].tolist() == [[300] * 4] * 2


def test_operators_of_before_opset_7_run_too() -> None:
    proto = model([helper.make_node("Mul", ["x", "x"], ["y"])], {"x": [2]}, ["y"], opset=6)
    assert run_reference(proto, {"x": np.array([2, 3], np.float32)})["y"].tolist() == [4, 9]


@pytest.mark.parametrize("inputs", [{}, {"x": np.ones((1, 3), np.int8)}, {"x": np.ones((1, 7), np.float32)}])
def test_wrong_inputs_are_an_error(inputs: dict[str, np.ndarray]) -> None:
    with pytest.raises(ModelError, match="ONNX Runtime refuses"):
        run_reference(_affine(), inputs)


@pytest.mark.subprocess
def test_onnx_runtime_tells_nobody_what_runs(tmp_path: Path) -> None:
    """It keeps an identifier and events to send in the cache folder, from 1.32 on."""
    path = saved(model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3)}, ["y"]), tmp_path)
    code = f"from tvmbuild.onnx_model.reference import onnx_runtime; onnx_runtime().InferenceSession({str(path)!r})"
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path / "home")}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    assert [one for one in tmp_path.rglob("*") if one.is_file()] == [path]
