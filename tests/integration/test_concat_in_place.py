"""Concatenations whose operands are written in place, with the schedule library, against ONNX Runtime."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_graph_numbers import HOST, check
from tvm.relax.frontend.onnx import from_onnx

from tvmbuild import schedules
from tvmbuild.graph.pipeline import optimize

pytestmark = pytest.mark.integration

SHAPE = (1, 8, 9, 11)


class Net:
    """Convolutions with ReLU, and concatenations of what they gave."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.rng = np.random.default_rng(1)

    def conv(self, source: str, depth: int, channels: int, kernel: int = 1) -> str:
        number = len(self.nodes)
        weight = self.rng.standard_normal((channels, depth, kernel, kernel)).astype("float32") / depth
        self.weights.append(numpy_helper.from_array(weight, f"w{number}"))
        padding = [kernel // 2] * 4
        self.nodes.append(helper.make_node("Conv", [source, f"w{number}"], [f"c{number}"], pads=padding))
        self.nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        return f"r{number}"

    def op(self, kind: str, *sources: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(sources), [name], **attributes))
        return name

    def model(self, *outputs: str) -> Any:
        inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)]
        results = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
        graph = helper.make_graph(self.nodes, "net", inputs, results, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def fire(net: Net) -> list[str]:
    """One into 12 channels by a 1x1, one into 20 by Winograd, whose last block of channels is not whole."""
    return [net.conv("x", 8, 12), net.conv("x", 8, 20, 3)]


def channels(net: Net) -> list[str]:
    return [net.conv(net.op("Concat", *fire(net), axis=1), 32, 5, 3)]


def three_from_one_kernel(net: Net) -> list[str]:
    """Two convolutions of one shape share their kernel, but write to different places."""
    same = [net.conv("x", 8, 16), net.conv("x", 8, 16), net.conv("x", 8, 3)]
    return [net.conv(net.op("Concat", *same, axis=1), 35, 4)]


def rows(net: Net) -> list[str]:
    return [net.conv(net.op("Concat", net.conv("x", 8, 6), net.conv("x", 8, 6, 3), axis=2), 6, 4)]


def output(net: Net) -> list[str]:
    return [net.op("Concat", *fire(net), axis=1)]


def written_later(net: Net) -> list[str]:
    """Between the two halves other tensors come and go, which must not take the first half's memory."""
    early = net.conv("x", 8, 16)
    chain = net.conv(net.conv(net.conv("x", 8, 16, 3), 16, 16, 3), 16, 16)
    joined = net.op("Concat", chain, early, axis=1)
    return [net.conv(joined, 32, 6)]


def two_readers(net: Net) -> list[str]:
    first, second = fire(net)
    joined = net.op("Concat", first, second, axis=1)
    return [net.conv(joined, 32, 4), net.conv(first, 12, 4)]


def nested(net: Net) -> list[str]:
    """Concatenations along one axis would be merged into one."""
    inner = net.op("Concat", *fire(net), axis=1)
    return [net.conv(net.op("Concat", inner, net.conv("x", 8, 32), axis=2), 32, 4)]


def an_input(net: Net) -> list[str]:
    return [net.conv(net.op("Concat", "x", net.conv("x", 8, 4), axis=1), 12, 4)]


@pytest.mark.parametrize(
    ("build", "applied", "kept"),
    [
        (channels, 1, []),
        (three_from_one_kernel, 1, []),
        (rows, 1, []),
        (written_later, 1, []),
        (nested, 1, ["an operand is itself written in place"]),
        (two_readers, 0, ["an operand has another reader"]),
        (an_input, 0, None),
        (output, 1, []),
    ],
)
def test_concatenations(build: Any, applied: int, kept: list[str] | None) -> None:
    net = Net()
    model = net.model(*build(net))
    _, report = optimize(from_onnx(model), HOST, kernels=schedules)
    outcome = next(each for each in report.passes if each.name == "concat_in_place")
    assert outcome.applied == applied
    assert kept is None or [each.reason for each in outcome.kept] == kept
    names = {kernel.name for kernel in report.kernels}
    assert names <= {each.name for each in report.schedules}
    check(model, SHAPE, schedules)
