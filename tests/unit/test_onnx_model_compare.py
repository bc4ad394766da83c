"""A model whose meaning would change is refused, naming the operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import ModelProto, helper
from onnx_models import model, saved

from tvmbuild.onnx_model import prepare as prepare_module
from tvmbuild.onnx_model.compare import check_same, difference, same
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.support.errors import ModelError, PreparationError

X = {"x": np.array([-2.0, 0.5, 3.0], np.float32)}


def _chain(slope: float) -> ModelProto:
    nodes = [
        helper.make_node("Neg", ["x"], ["a"], name="negate"),
        helper.make_node("LeakyRelu", ["a"], ["b"], name="bend", alpha=slope),
        helper.make_node("Tanh", ["b"], ["y"], name="squash"),
    ]
    return model(nodes, {"x": [3]}, ["y"])


def test_same_model_passes_and_gives_the_outputs(tmp_path: Path) -> None:
    outputs = check_same(Path("m.onnx"), _chain(0.1), tmp_path, _chain(0.1), X)
    assert list(outputs) == ["y"]


def test_first_operator_that_differs_is_named(tmp_path: Path) -> None:
    with pytest.raises(PreparationError, match="first operator that differs is LeakyRelu 'bend', in tensor 'b'"):
        check_same(Path("m.onnx"), _chain(0.1), tmp_path, _chain(0.2), X)


def test_prepare_refuses_what_a_step_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(proto: ModelProto) -> tuple[ModelProto, tuple[str, ...]]:
        proto.graph.node[1].attribute[0].f = 0.5
        return proto, ()

    monkeypatch.setattr(prepare_module, "update_opset", broken)
    path = saved(_chain(0.1), tmp_path)
    with pytest.raises(PreparationError, match="LeakyRelu 'bend'"):
        prepare(path)
    assert prepare(path, compare=False).outputs[0].shape == (3,)


def test_original_that_does_not_run_cannot_be_checked(tmp_path: Path) -> None:
    weights = {"t": np.ones((1, 2), np.float32)}
    proto = model([helper.make_node("Gather", ["t", "i"], ["y"])], {"i": [1]}, ["y"], weights, dtypes={"i": 7})
    assert check_same(Path("m.onnx"), proto, tmp_path, proto, {"i": np.array([5])})["y"].shape == (1, 2)
    bad = model([helper.make_node("Reshape", ["x", "s"], ["y"])], {"x": [3]}, ["y"], {"s": np.array([2])})
    with pytest.raises(PreparationError, match="cannot be checked"):
        check_same(Path("m.onnx"), bad, tmp_path, bad, X)


@given(hnp.arrays(np.float32, st.integers(1, 20), elements=st.floats(width=32)))
def test_every_array_is_the_same_as_itself(array: np.ndarray) -> None:
    assert same(array, array.copy())


@given(hnp.arrays(np.float32, 5, elements=st.floats(-1e3, 1e3, width=32)), st.integers(0, 4))
def test_a_changed_element_is_noticed(array: np.ndarray, index: int) -> None:
    changed = array.copy()
    changed[index] += np.float32(max(np.abs(array).max(), 1.0) * 1e-3)
    assert not same(array, changed)


@pytest.mark.parametrize(
    ("first", "second"), [([np.nan], [0.0]), ([np.inf], [-np.inf]), ([0.0], [np.nan]), ([1.0, 2.0], [1.0])]
)
def test_what_cannot_be_subtracted_is_infinitely_far(first: list[float], second: list[float]) -> None:
    assert difference(np.array(first), np.array(second)) == float("inf")


def test_dtype_counts() -> None:
    assert not same(np.zeros(2, np.float32), np.zeros(2, np.float64))


def test_whole_numbers_must_be_equal() -> None:
    assert not same(np.array([10**9]), np.array([10**9 + 1]))


def test_model_that_needs_no_change_has_no_notes(tmp_path: Path) -> None:
    prepared = prepare(saved(_chain(0.1), tmp_path))
    assert prepared.notes == ()
    assert [str(spec) for spec in (*prepared.inputs, *prepared.outputs)] == ["x: float32[3]", "y: float32[3]"]


def test_gigantic_inner_tensor_is_refused_before_it_is_made(tmp_path: Path) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], ["c"]), helper.make_node("Add", ["x", "c"], ["y"])]
    proto = model(nodes, {"x": [1]}, ["y"], {"s": np.array([10**6, 10**6])})
    with pytest.raises(ModelError, match="'c' would be 1000000x1000000"):
        prepare(saved(proto, tmp_path))


def test_input_that_nothing_reads_is_kept(tmp_path: Path) -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"unused": [2], "x": [3]}, ["y"])
    assert [spec.name for spec in prepare(saved(proto, tmp_path)).inputs] == ["unused", "x"]


def test_shape_arithmetic_is_folded(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "zero"], ["n"]),
        helper.make_node("Concat", ["n", "rest"], ["to"], axis=0),
        helper.make_node("Reshape", ["x", "to"], ["y"]),
    ]
    weights = {"zero": np.array([0]), "rest": np.array([-1])}
    prepared = prepare(saved(model(nodes, {"x": ["n", 2, 3]}, ["y"], weights), tmp_path), {"x": (4, 2, 3)})
    assert [node.op_type for node in prepared.proto.graph.node] == ["Reshape"]
    assert prepared.outputs[0].shape == (4, 6)


def test_batch_norm_is_left_to_the_graph_passes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("BatchNormalization", ["c", "a", "b", "m", "v"], ["y"]),
    ]
    weights = {"w": np.ones((2, 3, 1, 1), np.float32), **{key: np.ones(2, np.float32) for key in "abmv"}}
    prepared = prepare(saved(model(nodes, {"x": [1, 3, 4, 4]}, ["y"], weights), tmp_path))
    assert [node.op_type for node in prepared.proto.graph.node] == ["Conv", "BatchNormalization"]


def test_output_whose_shape_depends_on_the_data_is_refused(tmp_path: Path) -> None:
    from tvmbuild.support.errors import UnsupportedOperatorError

    proto = model([helper.make_node("NonZero", ["x"], ["y"], name="find")], {"x": [3]}, ["y"], dtypes={"y": 7})
    with pytest.raises(UnsupportedOperatorError, match="NonZero whose output's size depends on the data"):
        prepare(saved(proto, tmp_path))


def test_external_data_is_prepared(tmp_path: Path) -> None:
    import onnx

    weights = {"w": np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)}
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 300]}, ["y"], weights, opset=11)
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin")
    prepared = prepare(tmp_path / "m.onnx")
    assert [file.name for file in prepared.external] == ["w.bin"]
    np.testing.assert_array_equal(onnx.numpy_helper.to_array(prepared.proto.graph.initializer[0]), weights["w"])
