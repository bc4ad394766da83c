"""Which products of a QDQ model become integer kernels, what joins them, and what the report says of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from seeded import rng
from tvm.relax.frontend.onnx import from_onnx

from tvmbuild import schedules
from tvmbuild.graph.pipeline import optimize
from tvmbuild.graph.report import GraphReport
from tvmbuild.target.target import load_target

TARGET = load_target("rpi4")
ZERO = np.int8(0)


class Net:
    """A small QDQ graph in the making; every scale is 1/16."""

    def __init__(self, channels: int = 8, size: int = 6) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.shape = [1, channels, size, size]
        self.channels = channels

    def const(self, value: Any) -> str:
        name = f"c{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def q(self, data: str, zero: Any = ZERO, scale: float = 1 / 16) -> str:
        """Return ``data`` quantized and dequantized."""
        parameters = self.const(np.float32(scale)), self.const(zero)
        return self.op("DequantizeLinear", self.op("QuantizeLinear", data, *parameters), *parameters)

    def conv(self, data: str, *, zero: Any = None, groups: int = 1) -> str:
        integers = rng().integers(-127, 128, (self.channels, self.channels // groups, 3, 3))
        zeros = np.zeros(self.channels, np.int8) if zero is None else zero
        scale = np.full(np.shape(zeros), 1 / 16, np.float32)
        codes = [self.const(integers.astype(zeros.dtype)), self.const(scale), self.const(zeros)]
        weight = self.op("DequantizeLinear", *codes, axis=0)
        bias = self.op(
            "DequantizeLinear", self.const(np.arange(self.channels, dtype=np.int32)), self.const(np.float32(1 / 256))
        )
        return self.op("Conv", data, weight, bias, pads=[1, 1, 1, 1], group=groups)

    def model(self, *outputs: str) -> Any:
        graph = helper.make_graph(
            self.nodes,
            "net",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, self.shape)],
            [helper.make_tensor_value_info(output, TensorProto.FLOAT, None) for output in outputs],
            self.weights,
        )
        return onnx.shape_inference.infer_shapes(
            helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
        )


def report_of(net: Net, *outputs: str) -> GraphReport:
    return optimize(from_onnx(net.model(*outputs)), TARGET, kernels=schedules)[1]


def groups(report: GraphReport) -> dict[str, int]:
    """Count the groups but for those at the model's borders."""
    borders = {"quantize", "transpose", "dequantize"}
    return {name: count for name, count in report.groups().items() if name not in borders}


def reasons(report: GraphReport) -> Sequence[str]:
    return next([kept.reason for kept in each.kept] for each in report.passes if each.name == "quantize")


@pytest.mark.parametrize("zero", [np.int8(-7), np.uint8(200)])
def test_bias_relu_and_rounding_join_the_product(zero: Any) -> None:
    net = Net()
    report = report_of(net, net.q(net.op("Relu", net.conv(net.q("x", zero))), zero))
    assert groups(report) == {"int8_conv2d+requantize": 1}
    assert report.macs.share == 1.0


def test_a_residual_addition_is_read_as_codes_in_the_same_kernel() -> None:
    net = Net()
    first = net.q("x")
    second = net.q(net.op("Relu", net.op("Add", net.conv(first), first)))
    report = report_of(net, net.q(net.conv(second)))
    assert groups(report) == {"int8_conv2d+requantize": 2}


def test_another_activation_is_computed_in_float_within_the_kernel() -> None:
    net = Net()
    report = report_of(net, net.q(net.op("LeakyRelu", net.conv(net.q("x")))))
    assert groups(report) == {"int8_conv2d+dequantize+leaky_relu+quantize": 1}


def test_an_output_without_codes_is_float() -> None:
    net = Net()
    assert groups(report_of(net, net.conv(net.q("x")))) == {"int8_conv2d+dequantize": 1}


def test_pooling_and_concatenation_move_codes() -> None:
    net = Net()
    data = net.q("x")
    parts = [net.q(net.conv(data)), net.q(net.op("MaxPool", data, kernel_shape=[3, 3], pads=[1, 1, 1, 1]))]
    joined = net.q(net.op("Concat", *parts, axis=1))
    report = report_of(net, net.op("Relu", joined))
    assert {"int8_conv2d+requantize", "max_pool2d"} <= set(groups(report))
    assert [each.applied for each in report.passes if each.name == "concat_in_place"] == [1]
    assert not any("dequantize+quantize" in name for name in groups(report))


def test_a_product_behind_a_pool_reads_codes_without_rounding_again() -> None:
    net = Net()
    pooled = net.op("MaxPool", net.op("Relu", net.q("x")), kernel_shape=[2, 2])
    report = report_of(net, net.q(net.conv(pooled)))
    assert reasons(report) == []
    assert not any("dequantize" in name for name in groups(report))


def test_products_that_stay_in_float_say_why() -> None:
    net = Net()
    first = net.conv(net.q("x"), zero=np.uint8(0))
    second = net.conv(first)
    report = report_of(net, second)
    assert reasons(report) == [
        "its weights less their zero point need more than 8 bits",
        "its input is not quantized to 8 bits",
    ]
    assert report.macs.int8 == 0
    assert report.macs.total == 2 * 36 * 8 * 8 * 9


def test_weights_of_nine_bits_take_two_products() -> None:
    net = Net()
    report = report_of(net, net.q(net.conv(net.q("x"), zero=np.uint8(90))))
    assert groups(report) == {"int8_conv2d": 1, "int8_conv2d+add+requantize": 1}


def test_a_float_model_is_left_alone() -> None:
    net = Net()
    weight = net.const(rng().uniform(-1, 1, (8, 8, 1, 1)).astype(np.float32))
    report = report_of(net, net.op("Conv", "x", weight))
    assert report.macs.total == 0
    assert all(each.name != "quantize" for each in report.passes)


@pytest.mark.parametrize("zero", [np.int8(0), np.int8(-7), np.uint8(200)])
@pytest.mark.parametrize(
    "operator",
    [
        lambda net, data: net.op("AveragePool", data, kernel_shape=[2, 2], strides=[2, 2]),
        lambda net, data: net.op("GlobalAveragePool", data),
        lambda net, data: net.op("MaxPool", data, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        lambda net, data: net.op("Concat", data, net.q(net.op("Relu", data), np.int8(3), 1 / 8), axis=1),
    ],
)
def test_what_moves_or_sums_codes_keeps_their_zero_point(zero: Any, operator: Any) -> None:
    """The numbers are NumPy's to compare (conftest.py); a product makes the graph one of integers."""
    net = Net()
    first = net.q(net.conv(net.q("x", zero)), zero)
    report_of(net, net.q(operator(net, first), zero))
