"""Fixed input shapes, from flags."""

from __future__ import annotations

import shlex

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_models import model

from tvmbuild.onnx_model.shapes import freeze_shapes, input_specs, parse_shapes, parse_values, with_batch_of_one
from tvmbuild.support.errors import ShapeError


def _two_inputs() -> onnx.ModelProto:
    nodes = [helper.make_node("Add", ["image", "state.1"], ["y"])]
    return model(nodes, {"image": ["batch", 3, "h", "w"], "state.1": ["batch", 3, 1, 1]}, ["y"])


@given(
    st.text(min_size=1),
    st.lists(st.integers(1, 10**6), max_size=6),
    st.sampled_from([",", "x", " , "]),
)
def test_every_shape_is_read_back(name: str, sizes: list[int], separator: str) -> None:
    assert parse_shapes([f"{name}={separator.join(map(str, sizes))}"]) == {name: tuple(sizes)}


@given(st.text())
def test_any_text_is_a_shape_or_an_error(text: str) -> None:
    try:
        shapes = parse_shapes([text])
    except ShapeError:
        return
    assert all(size >= 1 for shape in shapes.values() for size in shape)


@pytest.mark.parametrize("text", ["x=0,1", "x=-1", "x=1,,2", "x=1.5", "x=a", "1,2", "=1,2", "x=1,2,", "x=²"])
def test_wrong_shapes_are_refused(text: str) -> None:
    with pytest.raises(ShapeError):
        parse_shapes([text])


def test_shape_given_twice_is_refused() -> None:
    with pytest.raises(ShapeError, match="twice"):
        parse_shapes(["x=1", "x=2"])


def test_every_dynamic_dimension_is_listed_with_flags_to_paste() -> None:
    with pytest.raises(ShapeError, match="dynamic") as caught:
        freeze_shapes(_two_inputs(), {})
    assert "'image' is [batch, 3, h, w]" in caught.value.message
    assert "'state.1' is [batch, 3, 1, 1]" in caught.value.message
    words = shlex.split(caught.value.hint.removeprefix("For example: "))
    assert parse_shapes(words[1::2]) == {"image": (1, 3, 224, 224), "state.1": (1, 3, 1, 1)}


def test_hint_quotes_names_for_the_shell() -> None:
    proto = model([helper.make_node("Relu", ["it's x"], ["y"])], {"it's x": ["n"]}, ["y"])
    with pytest.raises(ShapeError) as caught:
        freeze_shapes(proto, {})
    words = shlex.split(caught.value.hint.removeprefix("For example: "))
    assert parse_shapes(words[1::2]) == {"it's x": (1,)}


def test_named_dimension_is_shared_by_inputs() -> None:
    proto = _two_inputs()
    freeze_shapes(proto, {"image": (2, 3, 4, 5)})
    assert [spec.shape for spec in input_specs(proto)] == [(2, 3, 4, 5), (2, 3, 1, 1)]


def test_anonymous_dimensions_are_not_shared() -> None:
    proto = model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ["?", 3], "b": ["?", 3]}, ["y"])
    with pytest.raises(ShapeError, match="'b'"):
        freeze_shapes(proto, {"a": (2, 3)})


def test_unknown_rank_is_an_error_until_given() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": None}, ["y"])
    with pytest.raises(ShapeError, match="no known rank"):
        freeze_shapes(proto, {})
    freeze_shapes(proto, {"x": (2, 2)})
    assert input_specs(proto)[0].shape == (2, 2)


def test_unknown_input_names_the_nearest() -> None:
    with pytest.raises(ShapeError, match="no input 'imge'") as caught:
        freeze_shapes(_two_inputs(), {"imge": (1,)})
    assert "'image'" in caught.value.hint


def test_wrong_rank_is_refused() -> None:
    with pytest.raises(ShapeError, match="has 4 dimensions"):
        freeze_shapes(_two_inputs(), {"image": (1, 2)})


def test_gigantic_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="larger than"):
        freeze_shapes(_two_inputs(), {"image": (1, 3, 10**6, 10**6)})


def test_fixed_shape_can_be_overridden_and_is_noted() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [10, 3]}, ["y"])
    notes = freeze_shapes(proto, {"x": (1, 3)})
    assert notes == ("input 'x' is 10x3 in the file, built as 1x3",)


def test_scalar_input_needs_no_shape() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": []}, ["y"])
    assert freeze_shapes(proto, {}) == ()
    assert str(input_specs(proto)[0]) == "x: float32[]"


def test_values_become_constants_of_the_inputs_dtype() -> None:
    proto = model([helper.make_node("Add", ["x", "k"], ["y"])], {"x": [3], "k": [1]}, ["y"])
    notes = freeze_shapes(proto, {}, parse_values(["k=2"]))
    assert [spec.name for spec in input_specs(proto)] == ["x"]
    assert proto.graph.initializer[0].data_type == TensorProto.FLOAT
    assert list(proto.graph.initializer[0].dims) == [1]
    assert notes == ("input 'k' is fixed to [2.]",)


@pytest.mark.parametrize("value", [1.5, 3e9])
def test_value_that_the_dtype_cannot_hold_is_refused(value: float) -> None:
    proto = model([helper.make_node("Identity", ["k"], ["y"])], {"k": []}, ["y"], dtypes={"k": 6, "y": 6})
    with np.errstate(invalid="ignore"), pytest.raises(ShapeError, match="does not fit its dtype"):
        freeze_shapes(proto, {}, {"k": np.array(value)})


def test_value_of_the_wrong_size_is_refused() -> None:
    proto = model([helper.make_node("Relu", ["k"], ["y"])], {"k": [2, 2]}, ["y"])
    with pytest.raises(ShapeError, match="3 elements"):
        freeze_shapes(proto, {}, parse_values(["k=1,2,3"]))


@pytest.mark.parametrize(
    ("text", "wanted"), [("sr=16000", 16000), ("a=b=1,2", [1, 2]), ("f=1.5e3", 1500.0), ("t=true", True), ("n=-3", -3)]
)
def test_values_are_read(text: str, wanted: object) -> None:
    (array,) = parse_values([text]).values()
    assert array.tolist() == wanted


@pytest.mark.parametrize("texts", [["sr"], ["sr="], ["sr=x"], ["=1"], ["a=1", "a=2"]])
def test_wrong_values_are_refused(texts: list[str]) -> None:
    with pytest.raises(ShapeError):
        parse_values(texts)


def _joined(inputs: dict[str, list[int | str]]) -> onnx.ModelProto:
    return model([helper.make_node("Concat", list(inputs), ["y"], axis=0)], inputs, ["y"])


@pytest.mark.parametrize(
    ("inputs", "shapes", "assumed"),
    [
        ({"x": ["n", 3, 8, 8]}, {}, {"x": (1, 3, 8, 8)}),
        ({"x": ["", 3]}, {}, {"x": (1, 3)}),
        ({"x": ["batch"], "z": ["batch", 3]}, {}, {"x": (1,), "z": (1, 3)}),
        ({"x": ["n", 3, "h"], "z": ["n", "h"]}, {"x": (1, 3, 4)}, {}),  # Both names are given with x.
        ({"x": ["?", "h"], "z": ["?", "h"]}, {"x": (1, 4)}, {"z": (1, 4)}),
        ({"x": ["?", "h"], "z": ["?", "h"]}, {"x": (2, 4)}, {}),  # 2 and 1 would hardly fit together.
        ({"x": ["n", 3, "h"]}, {}, {}),
        ({"x": ["length", 3], "z": [1, "length"]}, {}, {}),  # A length, not a batch.
        ({"x": ["n"]}, {}, {}),  # A length as well, more likely.
        ({"x": [2, 3]}, {}, {}),
        ({"x": []}, {}, {}),
    ],
)
def test_an_open_batch_is_one_and_nothing_else_is_guessed(
    inputs: dict[str, list[int | str]], shapes: dict[str, tuple[int, ...]], assumed: dict[str, tuple[int, ...]]
) -> None:
    found, notes = with_batch_of_one(_joined(inputs), shapes)
    assert found == shapes | assumed
    assert notes == tuple(f"the open batch of '{name}' is taken as 1" for name in assumed)


def test_an_unknown_rank_and_a_frozen_input_get_no_batch() -> None:
    proto = model([helper.make_node("Add", ["x", "k"], ["y"])], {"x": None, "k": ["n"]}, ["y"])
    assert with_batch_of_one(proto, {}, {"k"}) == ({}, ())


def test_a_dimension_of_two_sizes_is_refused() -> None:
    proto = model([helper.make_node("Concat", ["a", "b"], ["y"], axis=1)], {"a": ["n", 2], "b": ["n", 3]}, ["y"])
    with pytest.raises(ShapeError, match="'n' is 1 in axis 0 of 'a', but 4 in axis 0 of 'b'"):
        freeze_shapes(proto, {"a": (1, 2), "b": (4, 3)})


def test_a_dimension_of_two_sizes_in_one_input_is_refused() -> None:
    with pytest.raises(ShapeError, match="'n' is 2 in axis 0 of 'x', but 3 in axis 1 of 'x'"):
        freeze_shapes(model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", "n"]}, ["y"]), {"x": (2, 3)})


def test_a_value_gives_its_dimensions_sizes() -> None:
    proto = model([helper.make_node("Add", ["a", "b"], ["y"])], {"a": ["n"], "b": ["n"]}, ["y"])
    with pytest.raises(ShapeError, match="'n' is 3 in axis 0 of 'a', but 2 in axis 0 of 'b'"):
        freeze_shapes(proto, {"a": (3,)}, {"b": np.array([1.0, 2.0])})
    freeze_shapes(proto, {}, {"b": np.array([1.0, 2.0])})
    assert [spec.shape for spec in input_specs(proto)] == [(2,)]
