"""What stands before a convolution becomes part of it, with the same numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, helper
from onnx_models import model
from seeded import rng

from tvmbuild.onnx_model.compare import difference
from tvmbuild.onnx_model.facts import gather_facts
from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.onnx_model.rewrites.convolution_input import straighten_convolutions
from tvmbuild.onnx_model.shapes import input_specs


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return rng().uniform(-1, 1, shape).astype(np.float32)


def check(proto: ModelProto) -> tuple[tuple[str, ...], Counter[str]]:
    """Rewrite in place and check the numbers; return the notes and the operators left."""
    inputs = random_inputs(input_specs(proto), 5)
    wanted = run_reference(proto, inputs)
    notes = straighten_convolutions(proto, gather_facts(proto))
    got = run_reference(proto, inputs)
    assert max(difference(wanted[key], got[key]) for key in wanted) < 1e-6
    return notes, Counter(node.op_type for node in proto.graph.node)


def padded(pads: list[int], *, axes: list[int] | None = None, value: float | None = None, **of_pad: str) -> ModelProto:
    """Pad, then a strided 3x3 convolution with padding of its own on one side."""
    weights = {"pads": np.array(pads, np.int64), "w": floats(3, 2, 3, 3), "b": floats(3)}
    inputs = ["x", "pads"]
    if value is not None or axes:
        weights["value"] = np.array(value or 0, np.float32)
        inputs.append("value")
    if axes:
        weights["axes"] = np.array(axes, np.int64)
        inputs.append("axes")
    nodes = [
        helper.make_node("Pad", inputs, ["padded"], **of_pad),
        helper.make_node("Conv", ["padded", "w", "b"], ["y"], strides=[2, 2], pads=[0, 0, 0, 1]),
    ]
    return model(nodes, {"x": [1, 2, 7, 8]}, ["y"], weights, opset=18)


@pytest.mark.parametrize(
    "proto",
    [padded([0, 0, 0, 1, 0, 0, 2, 3]), padded([1, 0, 2, 3], axes=[2, -1]), padded([0, 0, 1, 1, 0, 0, 1, 1], value=0.0)],
    ids=["asymmetric", "axes", "zero"],
)
def test_zeros_become_padding(proto: ModelProto) -> None:
    notes, left = check(proto)
    assert notes == ("Pad nodes made padding of a convolution: 1",)
    assert left == {"Conv": 1}


@pytest.mark.parametrize(
    "proto",
    [
        padded([0, 0, 1, 1, 0, 0, 1, 1], value=2.0),
        padded([0, 0, 1, 1, 0, 0, 1, 1], mode="reflect"),
        padded([0, 0, -1, 1, 0, 0, 1, 1]),
        padded([0, 0, 1, 1, 1, 0, 1, 1]),
    ],
    ids=["value", "reflect", "crop", "batch"],
)
def test_other_padding_stays(proto: ModelProto) -> None:
    notes, left = check(proto)
    assert notes == ()
    assert left == {"Pad": 1, "Conv": 1}


def test_padding_that_others_read_stays_for_them() -> None:
    proto = padded([0, 0, 1, 1, 0, 0, 1, 1])
    proto.graph.node.append(helper.make_node("Relu", ["padded"], ["z"]))
    proto.graph.output.append(helper.make_empty_tensor_value_info("z"))
    proto.graph.output[1].type.tensor_type.elem_type = 1
    _, left = check(proto)
    assert left == {"Pad": 1, "Conv": 1, "Relu": 1}


def planes(*, bias: bool = False, outputs: int = 1) -> ModelProto:
    """A filter over every channel of an image on its own, as upfirdn2d of StyleGAN2 writes it."""
    weights = {
        "planes": np.array([5, 1, 6, 7], np.int64),
        "image": np.array([1, 5 * outputs, 7, 8], np.int64),
        "pads": np.array([0, 0, 2, 2, 0, 0, 2, 2], np.int64),
        "w": floats(outputs, 1, 4, 4),
        "b": floats(outputs),
    }
    nodes = [
        helper.make_node("Reshape", ["x", "planes"], ["p"]),
        helper.make_node("Pad", ["p", "pads"], ["q"]),
        helper.make_node("Conv", ["q", "w", *(["b"] if bias else [])], ["f"]),
        helper.make_node("Reshape", ["f", "image"], ["y"]),
    ]
    return model(nodes, {"x": [1, 5, 6, 7]}, ["y"], weights)


@pytest.mark.parametrize("bias", [False, True])
def test_a_filter_of_planes_becomes_a_depthwise_convolution(bias: bool) -> None:
    proto = planes(bias=bias)
    notes, left = check(proto)
    assert notes[1:] == ("filters of single planes made depthwise: 1",)
    assert left["Pad"] == 0
    (conv,) = (node for node in proto.graph.node if node.op_type == "Conv")
    assert next(each.i for each in conv.attribute if each.name == "group") == 5


def test_several_filters_of_a_plane_stay() -> None:
    _, left = check(planes(outputs=2))
    assert left == {"Reshape": 2, "Conv": 1}
