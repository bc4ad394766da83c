"""Every unsupported operator is reported at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, helper
from onnx_models import model, saved

from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.support import check_support, unsupported_operators
from tvmbuild.support.errors import UnsupportedOperatorError


def _determinant() -> NodeProto:
    return helper.make_node("Det", ["x"], ["y"], name="det")


def _mixed() -> ModelProto:
    nodes = [
        _determinant(),
        *(helper.make_node("Foo", ["x"], [f"f{index}"], domain="com.acme", name=f"foo{index}") for index in range(5)),
        helper.make_node("Add", ["x", "x"], ["a"], domain="com.acme", name="not_onnx"),
        helper.make_node("Relu", ["x"], ["r"]),
    ]
    return model(nodes, {"x": [1, 3, 3]}, ["y"])


def test_all_are_listed_with_counts_names_and_hints() -> None:
    with pytest.raises(UnsupportedOperatorError) as caught:
        check_support(Path("m.onnx"), _mixed())
    text = caught.value.message
    assert "3 unsupported operators in 7 of 8 nodes" in text
    assert "com.acme.Foo (5 nodes: foo0, foo1, foo2, ...)" in text
    assert "com.acme.Add (1 node: not_onnx)" in text
    assert "Det (1 node: det): replace it in the exporter" in text
    assert "Relu" not in text


def test_most_frequent_comes_first() -> None:
    assert [len(each.nodes) for each in unsupported_operators(_mixed())] == [5, 1, 1]


def _choice(condition_is_input: bool) -> ModelProto:
    def branch(name: str, operator: str) -> object:
        node = helper.make_node(operator, ["x"], [f"{name}_y"], name=name)
        return helper.make_graph([node], name, [], [helper.make_tensor_value_info(f"{name}_y", 1, [3])])

    node = helper.make_node("If", ["c"], ["y"], then_branch=branch("good", "Relu"), else_branch=branch("bad", "Celu"))
    inputs = {"x": [3], "c": []} if condition_is_input else {"x": [3]}
    weights = {} if condition_is_input else {"c": np.array(True)}
    return model([node], inputs, ["y"], weights, dtypes={"c": 9})


def test_branches_are_looked_into() -> None:
    (found,) = unsupported_operators(_choice(condition_is_input=True))
    assert (found.operator, found.nodes) == ("Celu", ("bad",))


def test_branch_that_is_never_taken_does_not_matter(tmp_path: Path) -> None:
    prepared = prepare(saved(_choice(condition_is_input=False), tmp_path))
    assert [node.op_type for node in prepared.proto.graph.node] == ["Relu"]


def test_input_given_as_a_value_removes_the_branch(tmp_path: Path) -> None:
    path = saved(_choice(condition_is_input=True), tmp_path)
    with pytest.raises(UnsupportedOperatorError, match="Celu"):
        prepare(path)
    prepared = prepare(path, values={"c": np.array(True)})
    assert [spec.name for spec in prepared.inputs] == ["x"]
    assert prepared.frozen["c"].item() is True


def test_operators_of_constants_are_passed_over(tmp_path: Path) -> None:
    nodes = [helper.make_node("Celu", ["w"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    proto = model(nodes, {"x": [3]}, ["y"], {"w": np.ones(3, np.float32)})
    assert [node.op_type for node in prepare(saved(proto, tmp_path)).proto.graph.node] == ["Add"]


def test_a_long_lstm_is_refused_and_a_short_one_unrolled(tmp_path: Path) -> None:
    weights = {"w": np.ones((1, 8, 3), np.float32), "r": np.ones((1, 8, 2), np.float32)}
    lstm = helper.make_node("LSTM", ["x", "w", "r"], ["y"], name="rnn", hidden_size=2)
    path = saved(model([lstm], {"x": ["n", 1, 3]}, ["y"], weights), tmp_path)
    assert "LSTM" not in {node.op_type for node in prepare(path, {"x": (4, 1, 3)}).proto.graph.node}
    with pytest.raises(UnsupportedOperatorError, match=r"LSTM of 5000 steps.*it is unrolled"):
        prepare(path, {"x": (5000, 1, 3)})


def test_sorting_is_refused_with_a_way_out(tmp_path: Path) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["y", "z"])
    proto = model([node], {"x": [4]}, ["y"], {"k": np.array([2], np.int64)})
    with pytest.raises(UnsupportedOperatorError, match=r"TopK that runs on the board.*: cut the model before it"):
        prepare(saved(proto, tmp_path))


@pytest.mark.parametrize(("operator", "first"), [("Attention", 23), ("RotaryEmbedding", 23), ("Swish", 24)])
def test_an_operator_that_is_too_new_says_which_opset_builds(operator: str, first: int) -> None:
    proto = model([helper.make_node(operator, ["x"] * 3, ["y"])], {"x": [1, 2, 3, 4]}, ["y"], opset=24)
    assert f"export with opset 20 to {first - 1}" in unsupported_operators(proto)[0].hint
