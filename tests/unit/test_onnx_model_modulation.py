"""Convolutions whose weights are scaled at run time get constant weights, with the same numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import ModelProto, NodeProto, helper
from onnx_models import model, saved
from seeded import rng

from tvmbuild.onnx_model.compare import difference
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.onnx_model.rewrites.modulation import constant_weights
from tvmbuild.onnx_model.shapes import input_specs


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return rng().uniform(-1, 1, shape).astype(np.float32)


def ints(*values: int) -> np.ndarray[Any, Any]:
    return np.array(values, np.int64)


def check(proto: ModelProto, convolutions: int) -> Counter[str]:
    """Rewrite in place; check the numbers and how many convolutions changed; return the operators left."""
    inputs = random_inputs(input_specs(proto), 5)
    wanted = run_reference(proto, inputs)
    notes = constant_weights(proto)
    got = run_reference(proto, inputs)
    # Products are rounded in another order: some 1e-7 of the largest value for sums this short.
    assert max(difference(wanted[key], got[key]) for key in wanted) < 2e-6
    assert bool(notes) == bool(convolutions)
    assert not notes or notes[0].startswith(f"{convolutions} convolution")
    constants = {tensor.name for tensor in proto.graph.initializer}
    found = [node for node in proto.graph.node if node.op_type in ("Conv", "ConvTranspose")]
    assert sum(node.input[1] in constants for node in found) == convolutions
    return Counter(node.op_type for node in proto.graph.node)


def stylegan(
    batch: int, inputs: int, outputs: int, *, up: bool = False, demodulate: bool = True, bias: bool = False
) -> ModelProto:
    """A modulated convolution as PyTorch's exporters write it: the batch in the groups, five axes of weights."""
    weights = {
        "w": floats(1, outputs, inputs, 3, 3),
        "s_shape": ints(batch, 1, inputs, 1, 1),
        "two": np.array(2, np.float32),
        "axes": ints(2, 3, 4),
        "eps": np.array(1e-8, np.float32),
        "d_shape": ints(batch, outputs, 1, 1, 1),
        "five": ints(batch, outputs, inputs, 3, 3),
        "kernel_shape": ints(batch * (inputs if up else outputs), -1, 3, 3),
        "x_shape": ints(1, batch * inputs, 5, 6),
        "b": floats(batch * outputs),
    }
    nodes = [
        helper.make_node("Reshape", ["style", "s_shape"], ["s"]),
        helper.make_node("Mul", ["w", "s"], ["ws"]),
        helper.make_node("Pow", ["ws", "two"], ["square"]),
        helper.make_node("ReduceSum", ["square", "axes"], ["energy"], keepdims=0),
        helper.make_node("Add", ["energy", "eps"], ["shifted"]),
        helper.make_node("Sqrt", ["shifted"], ["root"]),
        helper.make_node("Reciprocal", ["root"], ["inverse"]),
        helper.make_node("Reshape", ["inverse", "d_shape"], ["d"]),
        helper.make_node("Mul", ["ws", "d"], ["wsd"]),
        helper.make_node("Reshape", ["wsd" if demodulate else "ws", "five"], ["arranged"]),
    ]
    last = "arranged"
    if up:
        nodes.append(helper.make_node("Transpose", [last], ["transposed"], perm=[0, 2, 1, 3, 4]))
        last = "transposed"
    nodes += [
        helper.make_node("Reshape", [last, "kernel_shape"], ["kernel"]),
        helper.make_node("Reshape", ["x", "x_shape"], ["grouped"]),
        helper.make_node(
            "ConvTranspose" if up else "Conv",
            ["grouped", "kernel", *(["b"] if bias else [])],
            ["y"],
            group=batch,
            strides=[2, 2] if up else [1, 1],
        ),
    ]
    return model(nodes, {"x": [batch, inputs, 5, 6], "style": [batch, inputs]}, ["y"], weights)


@given(st.integers(1, 3), st.integers(1, 4), st.integers(1, 4), st.booleans(), st.booleans(), st.booleans())
def test_modulated_convolution(batch: int, inputs: int, outputs: int, up: bool, demodulate: bool, bias: bool) -> None:
    left = check(stylegan(batch, inputs, outputs, up=up, demodulate=demodulate, bias=bias), 1)
    assert left["Pow"] == 0 or batch > 1


def test_the_sum_of_squares_becomes_a_product_with_a_small_constant() -> None:
    proto = stylegan(1, 6, 4)
    left = check(proto, 1)
    assert (left["MatMul"], left["ReduceSum"], left["Pow"]) == (1, 0, 0)
    sizes = {tuple(tensor.dims) for tensor in proto.graph.initializer}
    assert (6, 4) in sizes
    assert (4, 6, 3, 3) in sizes
    assert (1, 4, 6, 3, 3) not in sizes


def test_images_in_groups_become_a_batch() -> None:
    proto = stylegan(2, 3, 4)
    check(proto, 1)
    (conv,) = (node for node in proto.graph.node if node.op_type == "Conv")
    assert next(each.i for each in conv.attribute if each.name == "group") == 1
    assert any(tuple(tensor.dims) == (4, 3, 3, 3) for tensor in proto.graph.initializer)


def conv_of(nodes: list[NodeProto], weights: dict[str, Any], *, groups: int = 1, style: int = 4) -> ModelProto:
    """A convolution of 4 channels by a 3x3 kernel "kernel" that ``nodes`` compute from "style"."""
    conv = helper.make_node("Conv", ["x", "kernel"], ["y"], group=groups, pads=[1, 1, 1, 1])
    return model([*nodes, conv], {"x": [1, 4, 5, 5], "style": [style]}, ["y"], weights)


def test_scales_of_grouped_and_depthwise_convolutions() -> None:
    arrange = helper.make_node("Reshape", ["style", "shape"], ["s"])
    scale = helper.make_node("Mul", ["s", "w"], ["kernel"])
    check(conv_of([arrange, scale], {"w": floats(4, 1, 3, 3), "shape": ints(4, 1, 1, 1)}, groups=4), 1)
    # One scale for each channel of a group: both groups share it.
    check(conv_of([arrange, scale], {"w": floats(6, 2, 3, 3), "shape": ints(1, 2, 1, 1)}, groups=2, style=2), 1)


def test_quotients_and_scalars() -> None:
    nodes = [
        helper.make_node("Exp", ["style"], ["positive"]),
        helper.make_node("Reshape", ["positive", "shape"], ["s"]),
        helper.make_node("Div", ["w", "s"], ["kernel"]),
    ]
    for shape in ((4, 1, 1, 1), (1, 4, 1, 1)):
        check(conv_of(nodes, {"w": floats(4, 4, 3, 3), "shape": ints(*shape)}), 1)
    check(conv_of(nodes, {"w": floats(4, 4, 3, 3), "shape": ints(1)}, style=1), 1)


@pytest.mark.parametrize(
    "nodes",
    [
        # One scale for each pair of channels, for each tap, and a weight that is a sum.
        [helper.make_node("Reshape", ["style", "pairs"], ["s"]), helper.make_node("Mul", ["w", "s"], ["kernel"])],
        [helper.make_node("Reshape", ["style", "taps"], ["s"]), helper.make_node("Mul", ["w", "s"], ["kernel"])],
        [helper.make_node("Reshape", ["style", "pairs"], ["s"]), helper.make_node("Add", ["w", "s"], ["kernel"])],
    ],
    ids=["pairs", "taps", "sum"],
)
def test_other_weights_stay(nodes: list[NodeProto]) -> None:
    shape = {"pairs": (4, 4, 1, 1), "taps": (1, 1, 3, 3)}[nodes[0].input[1]]
    weights = {"w": floats(4, 4, 3, 3), nodes[0].input[1]: ints(*shape)}
    proto = conv_of(nodes, weights, style=int(np.prod(shape)))
    before = proto.SerializeToString()
    assert constant_weights(proto) == ()
    assert proto.SerializeToString() == before


def test_prepare_rewrites_and_says_so(tmp_path: Any) -> None:
    prepared = prepare(saved(stylegan(1, 4, 4), tmp_path))
    assert "1 convolution with weights scaled at run time: the data is scaled instead" in prepared.notes
