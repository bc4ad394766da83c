"""``inspect`` shows what is known of a model, whether it can be built or not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_models import model, saved

from tvmbuild.commands.app import run
from tvmbuild.support import errors


@pytest.fixture
def refused(in_empty_folder: Path) -> Path:
    nodes = [
        helper.make_node("MatMul", ["x", "w2"], ["a"]),
        helper.make_node("Det", ["a"], ["b"], name="find"),
        helper.make_node("Mystery", ["a"], ["c"], name="what", domain="org.example"),
    ]
    proto = model(nodes, {"x": ["n", 3]}, ["b", "c"], {"w2": np.ones((3, 4), np.float32)})
    return saved(proto, in_empty_folder)


def test_a_refused_model_is_shown_as_far_as_it_is_known(refused: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(refused)]) == errors.UnsupportedOperatorError.exit_code
    shown = capsys.readouterr()
    assert "input x: float32[n, 3]" in shown.out
    assert "output b:" in shown.out
    assert "1 MatMul, 1 Det, 1 org.example.Mystery" in shown.out
    assert "Det (1 node: find): replace it in the exporter" in shown.err
    assert "org.example.Mystery (1 node: what): it is not a standard ONNX operator" in shown.err


def test_a_refused_model_is_one_json_object(refused: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["inspect", str(refused), "--json"]) == errors.UnsupportedOperatorError.exit_code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["inspection"]["operators"] == {"MatMul": 1, "Det": 1, "org.example.Mystery": 1}
    assert error["inspection"]["inputs"] == ["x: float32[n, 3]"]
    assert [(each["operator"], each["nodes"]) for each in error["unsupported"]] == [
        ("Det", ["find"]),
        ("org.example.Mystery", ["what"]),
    ]


def test_a_shape_that_does_not_fit_is_said_under_the_inputs(
    in_empty_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = saved(model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3]}, ["y"]), in_empty_folder)
    assert run(["inspect", str(path), "--shape", "x=1"]) == errors.ShapeError.exit_code
    shown = capsys.readouterr()
    assert "input x: float32[n, 3]" in shown.out
    assert "2 dimensions" in shown.err


def test_operators_inside_a_branch_count(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    branches = {
        name: helper.make_graph(
            [helper.make_node(operator, ["x"], [name])], name, [], [helper.make_empty_tensor_value_info(name)]
        )
        for name, operator in (("then_branch", "NonZero"), ("else_branch", "NonZero"))
    }
    node = helper.make_node("If", ["c"], ["y"], **branches)
    path = saved(model([node], {"x": [3], "c": []}, ["y"], dtypes={"c": 9}), in_empty_folder)
    assert run(["inspect", str(path)]) == errors.UnsupportedOperatorError.exit_code
    assert "2 NonZero, 1 If" in capsys.readouterr().out


def test_inspect_takes_the_shape_of_build(in_empty_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", "w"]}, ["y"]), in_empty_folder)
    assert run(["inspect", str(path)]) == 0
    assert "every one needs a size" in capsys.readouterr().out
    Path("tvmbuild.toml").write_text('[build]\nshape = ["x=1,4"]\n')
    assert run(["inspect", str(path)]) == 0
    assert "every one needs a size" not in capsys.readouterr().out
