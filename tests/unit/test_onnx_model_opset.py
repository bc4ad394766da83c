"""Old operator sets: what the converted model computes is compared with the original in another runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper
from onnx_models import model

from tvmbuild.onnx_model.compare import difference
from tvmbuild.onnx_model.facts import opset_of
from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.onnx_model.rewrites.opset import OPSET, update_opset
from tvmbuild.onnx_model.shapes import input_specs
from tvmbuild.support.errors import PreparationError


def _ramp(*shape: int) -> np.ndarray:
    return np.linspace(-1, 1, int(np.prod(shape)), dtype=np.float32).reshape(shape)


CASES: dict[str, tuple[Any, ...]] = {
    "upsample7_nearest": (7, "Upsample", {"mode": "nearest", "scales": [1.0, 1.0, 2.0, 3.0]}, {"x": [1, 2, 3, 4]}, {}),
    "upsample7_linear": (7, "Upsample", {"mode": "linear", "scales": [1.0, 1.0, 2.0, 2.0]}, {"x": [1, 2, 3, 4]}, {}),
    "upsample9": (9, "Upsample", {"mode": "nearest"}, {"x": [1, 2, 3, 4]}, {"s": np.array([1, 1, 2, 2], np.float32)}),
    "resize10_nearest": (10, "Resize", {"mode": "nearest"}, {"x": [1, 2, 3, 4]}, {"s": np.array([1, 1, 2, 2], "f")}),
    "resize10_linear": (10, "Resize", {"mode": "linear"}, {"x": [1, 2, 3, 4]}, {"s": np.array([1, 1, 3, 2], "f")}),
    "hardmax11_axis1": (11, "Hardmax", {"axis": 1}, {"x": [2, 3, 4]}, {}),
    "hardmax11_axis0": (11, "Hardmax", {"axis": 0}, {"x": [2, 3]}, {}),
    "softmax11_default": (11, "Softmax", {}, {"x": [2, 3, 4]}, {}),
    "softmax11_last": (11, "Softmax", {"axis": 2}, {"x": [2, 3, 4]}, {}),
    "logsoftmax1": (7, "LogSoftmax", {"axis": 1}, {"x": [2, 3, 4, 2]}, {}),
    "slice1": (7, "Slice", {"axes": [1], "starts": [1], "ends": [3]}, {"x": [2, 4]}, {}),
    "clip6": (7, "Clip", {"min": -0.5, "max": 0.25}, {"x": [2, 4]}, {}),
    "pad2": (7, "Pad", {"pads": [0, 1, 0, 2], "value": 0.5}, {"x": [2, 4]}, {}),
    "squeeze1": (7, "Squeeze", {"axes": [1]}, {"x": [2, 1, 4]}, {}),
    "split2": (7, "Split", {"axis": 1, "split": [1, 3]}, {"x": [2, 4]}, {}),
    "reduce_sum1": (7, "ReduceSum", {"axes": [1], "keepdims": 0}, {"x": [2, 4]}, {}),
    "batch_norm7": (7, "BatchNormalization", {}, {"x": [1, 2, 3, 3]}, {k: np.array([0.5, 2], "f") for k in "abcd"}),
    "dropout7": (7, "Dropout", {"ratio": 0.5}, {"x": [2, 4]}, {}),
    "gemm6": (6, "Gemm", {"broadcast": 1, "alpha": 0.5}, {"x": [2, 3]}, {"w": _ramp(3, 4), "b": _ramp(4)}),
    "prelu6_channel": (6, "PRelu", {}, {"x": [1, 3, 2, 2]}, {"slope": np.array([0.1, 0.2, 0.3], "f")}),
    "mul6_last": (6, "Mul", {"broadcast": 1}, {"x": [2, 3]}, {"b": _ramp(3)}),
    "average_pool1": (6, "AveragePool", {"kernel_shape": [2, 2]}, {"x": [1, 1, 4, 4]}, {}),
}


def _build(name: str) -> ModelProto:
    opset, operator, attributes, inputs, weights = CASES[name]
    outputs = ["y", "z"] if operator == "Split" else ["y"]
    return model(
        [helper.make_node(operator, [*inputs, *weights], outputs, **attributes)], inputs, outputs, weights, opset=opset
    )


@pytest.mark.parametrize("name", CASES)
def test_meaning_is_kept(name: str) -> None:
    proto = _build(name)
    inputs = random_inputs(input_specs(proto), 3)
    converted, notes = update_opset(proto)
    assert opset_of(converted) == OPSET
    assert f"opset {CASES[name][0]} brought to {OPSET}" in notes[0]
    wanted, got = run_reference(proto, inputs), run_reference(converted, inputs)
    assert list(wanted) == list(got)
    # The same arithmetic in the same order: a few roundings of 6e-8.
    assert max(difference(wanted[key], got[key]) for key in wanted) < 1e-6


def test_softmax_over_the_last_axis_stays_one_operator() -> None:
    converted, _ = update_opset(_build("softmax11_last"))
    assert [node.op_type for node in converted.graph.node] == ["Softmax"]


def test_newer_models_are_left_alone() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"], opset=15)
    converted, notes = update_opset(proto)
    assert converted is proto
    assert notes == ()


def test_signature_and_weights_survive() -> None:
    nodes = [helper.make_node("MatMul", ["b", "w"], ["t"]), helper.make_node("Add", ["t", "a"], ["y"])]
    weights = {"w": np.ones((20, 30), np.float32)}
    converted, _ = update_opset(model(nodes, {"a": [30], "b": [2, 20]}, ["y"], weights, opset=9))
    assert [value.name for value in converted.graph.input] == ["a", "b"]
    assert [tensor.name for tensor in converted.graph.initializer] == ["w"]


def test_operator_without_successor_is_an_error() -> None:
    # Statistics of each position instead of each channel: opset 9 dropped them.
    weights = {key: np.ones(2, np.float32) for key in "abcd"}
    node = helper.make_node("BatchNormalization", ["x", *weights], ["y"], spatial=0)
    with pytest.raises(PreparationError, match="opset 7") as caught:
        update_opset(model([node], {"x": [1, 2]}, ["y"], weights, opset=7))
    assert "Export" in caught.value.hint
