"""Operators that TVM's importer misreads: rewritten to the same numbers, or refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from onnx import ModelProto, helper
from onnx_models import model

from tvmbuild.onnx_model.compare import difference
from tvmbuild.onnx_model.facts import gather_facts
from tvmbuild.onnx_model.limits import limit
from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.onnx_model.rewrites.importable import rewrite_operators
from tvmbuild.onnx_model.shapes import input_specs
from tvmbuild.support.errors import ModelError


def _rewritten(proto: ModelProto) -> tuple[str, ...]:
    """Rewrite in place; check that the numbers stay."""
    inputs = random_inputs(input_specs(proto), 5)
    wanted = run_reference(proto, inputs)
    notes = rewrite_operators(proto, gather_facts(proto))
    got = run_reference(proto, inputs)
    assert max(difference(wanted[key], got[key]) for key in wanted) < 1e-6
    return notes


@given(
    st.integers(1, 6),
    st.integers(1, 4),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(-3, 3),
    st.sampled_from(["NOTSET", "SAME_UPPER", "SAME_LOWER"]),
)
def test_output_shape_becomes_pads(
    size: int, kernel: int, stride: int, dilation: int, change: int, auto_pad: str
) -> None:
    full = stride * (size - 1) + (kernel - 1) * dilation + 1
    assume(full + change >= 1)
    # ONNX asks that the padding be smaller than the kernel, and output_padding than the stride or dilation.
    assume(change < max(stride, dilation))
    proto = model(
        [
            helper.make_node(
                "ConvTranspose",
                ["x", "w"],
                ["y"],
                output_shape=[full + change],
                strides=[stride],
                dilations=[dilation],
                auto_pad=auto_pad,
            )
        ],
        {"x": [1, 1, size]},
        ["y"],
        {"w": np.linspace(1, 2, kernel, dtype=np.float32).reshape(1, 1, kernel)},
    )
    try:
        notes = _rewritten(proto)
    except ModelError:
        assume(False)
    assert notes == ("1 ConvTranspose rewritten for TVM's importer",)
    assert {attribute.name for attribute in proto.graph.node[0].attribute}.isdisjoint({"output_shape", "auto_pad"})


def _resize(
    attributes: dict[str, Any], scales: list[float] | None, sizes: list[int] | None, opset: int = 19
) -> ModelProto:
    weights = {"s": np.array(scales, np.float32) if scales else np.array(sizes, np.int64)}
    inputs = ["x", "", "s"] if scales else ["x", "", "", "s"]
    node = helper.make_node("Resize", inputs, ["y"], **attributes)
    return model([node], {"x": [1, 2, 4, 6]}, ["y"], weights, opset=opset)


@pytest.mark.parametrize(
    ("attributes", "scales", "sizes"),
    [
        ({"mode": "linear"}, [1.0, 1.0, 1.5, 0.5], None),
        ({"mode": "nearest", "axes": [2, 3]}, [2.0, 2.0], None),
        ({"mode": "cubic", "axes": [3]}, None, [9]),
        ({"mode": "linear", "axes": [2, 3], "keep_aspect_ratio_policy": "not_larger"}, None, [8, 12]),
        ({"mode": "linear", "coordinate_transformation_mode": "half_pixel_symmetric"}, [1.0, 1.0, 2.0, 2.0], None),
    ],
)
def test_resize_gets_sizes_of_all_axes(
    attributes: dict[str, Any], scales: list[float] | None, sizes: list[int] | None
) -> None:
    proto = _resize(attributes, scales, sizes)
    assert _rewritten(proto) == ("1 Resize rewritten for TVM's importer",)
    node = proto.graph.node[0]
    assert node.input[2] == ""
    sizes_given = gather_facts(proto).array(node.input[3])
    assert sizes_given is not None
    assert len(sizes_given) == 4
    assert limit(node, gather_facts(proto)) == ""


def test_resize_that_needs_nothing_is_left() -> None:
    assert _rewritten(_resize({"mode": "linear"}, None, [1, 2, 8, 8])) == ()


@pytest.mark.parametrize("dtype", [6, 7, 11])
def test_exponent_is_cast(dtype: int) -> None:
    proto = model([helper.make_node("Pow", ["x", "e"], ["y"])], {"x": [3], "e": [3]}, ["y"], dtypes={"e": dtype})
    assert _rewritten(proto) == ("1 Pow rewritten for TVM's importer",)
    assert [node.op_type for node in proto.graph.node] == ["Cast", "Pow"]


def test_constant_exponent_becomes_another_constant() -> None:
    proto = model([helper.make_node("Pow", ["x", "e"], ["y"])], {"x": [3]}, ["y"], {"e": np.array(2, np.int64)})
    _rewritten(proto)
    assert [node.op_type for node in proto.graph.node] == ["Pow"]


def _limit(
    operator: str, inputs: dict[str, list[int]], weights: dict[str, np.ndarray] | None = None, **attributes: Any
) -> str:
    outputs = attributes.pop("outputs", ["y"])
    dtypes = attributes.pop("dtypes", None)
    names = [*inputs, *(weights or {})]
    node = helper.make_node(operator, attributes.pop("order", names), outputs, **attributes)
    return limit(node, gather_facts(model([node], inputs, outputs, weights, opset=19, dtypes=dtypes)))


_CHANNELS = {key: np.ones(2, np.float32) for key in ("scale", "bias", "mean", "var")}


@pytest.mark.parametrize(
    ("reason", "arguments"),
    [
        ("no whole sizes", {"operator": "Resize", "scales": [1.0, 1.0, 0.6, 0.6]}),
        ("antialias", {"operator": "Resize", "scales": [1.0, 1.0, 0.5, 0.5], "mode": "linear", "antialias": 1}),
        ("other axes", {"operator": "Resize", "scales": [1.0, 2.0, 1.0, 1.0]}),
    ],
)
def test_resizes_that_tvm_gets_wrong(reason: str, arguments: dict[str, Any]) -> None:
    weights = {"s": np.array(arguments.pop("scales"), np.float32)}
    assert reason in _limit(inputs={"x": [1, 2, 4, 6]}, weights=weights, order=["x", "", "s"], **arguments)


@pytest.mark.parametrize(
    ("reason", "operator", "inputs", "weights", "more"),
    [
        ("while the model runs", "Reshape", {"x": [4], "s": [2]}, {}, {"dtypes": {"s": 7}}),
        ("while the model runs", "Pad", {"x": [4], "s": [2]}, {}, {"dtypes": {"s": 7}}),
        ("while the model runs", "ReduceSum", {"x": [4], "s": [1]}, {}, {"dtypes": {"s": 7}}),
        ("depends on the data", "NonZero", {"x": [4]}, {}, {"dtypes": {"y": 7}}),
        ("second output", "MaxPool", {"x": [1, 1, 4, 4]}, {}, {"kernel_shape": [2, 2], "outputs": ["y", "i"]}),
        ("training", "BatchNormalization", {"x": [1, 2, 3, 3]}, _CHANNELS, {"training_mode": 1}),
        ("one sign", "IsInf", {"x": [4]}, {}, {"detect_negative": 0, "dtypes": {"y": 9}}),
        ("integers", "Pow", {"x": [4]}, {"e": np.array(2, np.int32)}, {"dtypes": {"x": 6, "y": 6}}),
        ("the index 3, where -3 to 2 are", "Gather", {"x": [3]}, {"i": np.array(3)}, {}),
        ("the index -4, where", "ScatterElements", {"x": [3]}, {"i": np.array([-4]), "u": np.ones(1, np.float32)}, {}),
        ("the index 4, where -4 to 3 are", "GatherND", {"x": [2, 4]}, {"i": np.array([[1, 3], [0, 4]])}, {}),
        ("the index -1, where 0 to 1 are", "RoiAlign", {"x": [2, 1, 4, 4], "r": [1, 4]}, {"i": np.array([-1])}, {}),
        ("booleans", "ReduceMax", {"x": [4]}, {}, {"dtypes": {"x": 9, "y": 9}}),
    ],
)
def test_uses_that_tvm_gets_wrong(
    reason: str, operator: str, inputs: dict[str, list[int]], weights: dict[str, np.ndarray], more: dict[str, Any]
) -> None:
    assert reason in _limit(operator, inputs, weights, **more)


def test_unused_second_output_is_fine() -> None:
    node = helper.make_node("MaxPool", ["x"], ["y", "i"], kernel_shape=[2, 2])
    assert limit(node, gather_facts(model([node], {"x": [1, 1, 4, 4]}, ["y"]))) == ""
