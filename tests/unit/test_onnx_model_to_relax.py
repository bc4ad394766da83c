"""The import into Relax keeps the structure that passes look for."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import NodeProto, helper
from onnx_models import model, saved

from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.support.errors import CompileError, UnsupportedOperatorError

F = np.float32


def _calls(
    folder: Path, node: NodeProto, inputs: dict[str, Any], weights: dict[str, Any] | None = None, **more: Any
) -> list[str]:
    """Return the names of the operators that a node becomes; call_tir is one whose structure is hidden."""
    from tvm import relax
    from tvm.ir import Op

    found: list[str] = []

    def visit(expr: Any) -> None:
        if isinstance(expr, relax.Call) and isinstance(expr.op, Op):
            found.append(expr.op.name)

    module = to_relax(prepare(saved(model([node], inputs, list(node.output), weights, **more), folder)))
    relax.analysis.post_order_visit(module["main"], visit)
    return found


@pytest.mark.parametrize(
    ("low", "high", "wanted"),
    [
        (0.0, 6.0, ["relax.clip"]),
        (-1.0, 1.0, ["relax.clip"]),
        (0.0, None, ["relax.nn.relu"]),
        (None, 6.0, ["relax.minimum"]),
        (-1.0, None, ["relax.maximum"]),
        (2.0, 1.0, ["relax.maximum", "relax.minimum"]),
    ],
)
def test_clip_is_a_named_operator(tmp_path: Path, low: float | None, high: float | None, wanted: list[str]) -> None:
    weights = {name: np.array(value, F) for name, value in (("lo", low), ("hi", high)) if value is not None}
    node = helper.make_node("Clip", ["x", "lo" if low is not None else "", "hi" if high is not None else ""], ["y"])
    assert _calls(tmp_path, node, {"x": [4]}, weights) == wanted


def test_clip_of_an_old_opset_too(tmp_path: Path) -> None:
    node = helper.make_node("Clip", ["x"], ["y"], min=0.0, max=6.0)
    assert _calls(tmp_path, node, {"x": [4]}, opset=9) == ["relax.clip"]


@pytest.mark.parametrize("opset", [9, 13, 18])
def test_pad_is_a_named_operator(tmp_path: Path, opset: int) -> None:
    if opset < 11:
        node, weights = helper.make_node("Pad", ["x"], ["y"], pads=[0, 1, 0, 2]), {}
    else:
        node, weights = helper.make_node("Pad", ["x", "p"], ["y"]), {"p": np.array([0, 1, 0, 2])}
    assert _calls(tmp_path, node, {"x": [2, 3]}, weights, opset=opset) == ["relax.nn.pad"]


def test_bias_stays_an_addition(tmp_path: Path) -> None:
    weights = {"w": np.ones((2, 3, 1, 1), F), "b": np.ones(2, F)}
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"])
    calls = _calls(tmp_path, node, {"x": [1, 3, 4, 4]}, weights)
    assert [call for call in calls if call != "relax.reshape"] == ["relax.nn.conv2d", "relax.add"]


def test_constant_index_becomes_a_slice(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=1)
    assert _calls(tmp_path, node, {"x": [2, 3]}, {"i": np.array(-1)}) == ["relax.strided_slice", "relax.squeeze"]


@pytest.mark.parametrize("table", [True, False])
def test_indices_of_the_inputs_are_checked_before_they_are_used(tmp_path: Path, table: bool) -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"])
    inputs, weights = ({}, {"x": np.ones((2, 3), F)}) if table else ({"x": [2, 3]}, {})
    calls = _calls(tmp_path, node, {**inputs, "i": [4]}, weights, dtypes={"i": 7})
    assert calls == ["relax.call_tir", "relax.take"]


def test_constant_indices_cost_no_check(tmp_path: Path) -> None:
    node = helper.make_node("GatherND", ["x", "i"], ["y"])
    assert "relax.call_tir" not in _calls(tmp_path, node, {"x": [2, 3]}, {"i": np.array([[1], [-2]])})


def test_index_outside_the_data_is_refused(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["x", "i"], ["y"], axis=1)
    proto = model([node], {"x": [2, 3]}, ["y"], {"i": np.array(3)})
    with pytest.raises(UnsupportedOperatorError, match="Gather with the index 3, where -3 to 2 are"):
        to_relax(prepare(saved(proto, tmp_path), compare=False))


def test_parameters_are_the_inputs_in_order_with_names_that_print(tmp_path: Path) -> None:
    import tvm

    nodes = [helper.make_node("Sub", ["input.1", "serving:0"], ["t"]), helper.make_node("Add", ["t", "1st"], ["y"])]
    proto = model(nodes, {"serving:0": [2, 3], "1st": [3], "input.1": [2, 3]}, ["y"])
    module = to_relax(prepare(saved(proto, tmp_path)))
    assert [param.name for param in module["main"].params] == ["serving_0", "input_1st", "input_1"]
    text = module.script()
    assert tvm.script.from_source(text).script() == text


def test_import_is_silent(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    proto = model([helper.make_node("Relu", ["input.1"], ["y"])], {"input.1": [2]}, ["y"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        to_relax(prepare(saved(proto, tmp_path)))
    assert capfd.readouterr() == ("", "")


def test_what_the_importer_refuses_is_told(tmp_path: Path) -> None:
    node = helper.make_node("EyeLike", ["x"], ["y"], dtype=1)
    proto = model([node], {"x": [2, 2]}, ["y"], dtypes={"x": 6})
    with pytest.raises(CompileError, match="EyeLike"):
        to_relax(prepare(saved(proto, tmp_path)))


def test_tvms_own_module_is_unchanged(tmp_path: Path) -> None:
    from tvm.relax.frontend.onnx import onnx_frontend

    before = dict(onnx_frontend._get_convert_map())
    to_relax(prepare(saved(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"]), tmp_path)))
    assert onnx_frontend._get_convert_map() == before
