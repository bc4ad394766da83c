"""Which operators share a kernel, why others do not, and what the report says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from seeded import rng
from tvm import tirx, topi
from tvm.relax.frontend.onnx import from_onnx

from tvmbuild.graph.pipeline import PHASES, KernelLibrary, lower, optimize
from tvmbuild.graph.report import GraphReport
from tvmbuild.support.errors import OutputError
from tvmbuild.target.target import Target, load_target

TARGET = load_target("rpi4")


class Net:
    """A small ONNX graph in the making; weights are random constants."""

    def __init__(self, channels: int = 8, size: int = 6) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self.shape = [1, channels, size, size]
        self.channels = channels

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(rng().uniform(0.5, 1.5, shape).astype("float32"), name))
        return name

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def conv(self, data: str, *, bias: bool = True, groups: int = 1) -> str:
        inputs = [data, self.weight(self.channels, self.channels // groups, 3, 3)]
        if bias:
            inputs.append(self.weight(self.channels))
        return self.op("Conv", *inputs, pads=[1, 1, 1, 1], group=groups)

    def norm(self, data: str) -> str:
        return self.op("BatchNormalization", data, *(self.weight(self.channels) for _ in range(4)))

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


def report_of(model: Any) -> GraphReport:
    return optimize(from_onnx(model), TARGET)[1]


def groups(model: Any) -> dict[str, int]:
    """Count the groups but for the transpositions at the model's borders."""
    counts = report_of(model).groups()
    del counts["transpose"]
    return dict(counts)


ACTIVATIONS: dict[str, tuple[Callable[[Net, str], str], str]] = {
    "none": (lambda net, x: x, ""),
    "Relu": (lambda net, x: net.op("Relu", x), "+relu"),
    "LeakyRelu": (lambda net, x: net.op("LeakyRelu", x, alpha=0.1), "+leaky_relu"),
    "PRelu": (lambda net, x: net.op("PRelu", x, net.weight(8, 1, 1)), "+prelu"),
    "Sigmoid": (lambda net, x: net.op("Sigmoid", x), "+sigmoid"),
    "HardSigmoid": (lambda net, x: net.op("HardSigmoid", x), "+clip"),  # Its scale and shift fold into the weights.
    "HardSwish": (lambda net, x: net.op("HardSwish", x), "+hard_swish"),
    "SiLU": (lambda net, x: net.op("Mul", x, net.op("Sigmoid", x)), "+silu"),
    "Gelu": (lambda net, x: net.op("Gelu", x), "+gelu"),
    "Tanh": (lambda net, x: net.op("Tanh", x), "+tanh"),
}


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("groups_of", [1, 2, 8])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_convolution_norm_and_activation_are_one_kernel(activation: str, groups_of: int, norm: bool) -> None:
    net = Net()
    value = net.conv("x", groups=groups_of)
    value = net.norm(value) if norm else value
    emit, ending = ACTIVATIONS[activation]
    assert groups(net.model(net.op("MaxPool", emit(net, value), kernel_shape=[2, 2]))) == {
        f"conv2d+bias{ending}": 1,
        "max_pool2d": 1,
    }


def test_a_residual_sum_joins_the_second_convolution() -> None:
    net = Net()
    first = net.op("Relu", net.norm(net.conv("x", bias=False)))
    second = net.norm(net.conv(first, bias=False))
    model = net.model(net.op("Relu", net.op("Add", second, first)))
    assert groups(model) == {"conv2d+bias+relu": 1, "conv2d+bias+add+relu": 1}


def test_a_gate_does_not_join_the_convolution_that_computes_it() -> None:
    net = Net()
    body = net.op("Relu", net.conv("x"))
    gate = net.op("Sigmoid", net.op("Conv", net.op("GlobalAveragePool", body), net.weight(8, 8, 1, 1), net.weight(8)))
    report = report_of(net.model(net.op("Mul", body, gate)))
    assert set(report.groups()) == {"transpose", "conv2d+bias+relu", "mean", "conv2d+bias+sigmoid", "multiply"}
    assert [(kept.node, kept.reason) for kept in report.unfused] == [
        ("multiply", "it spreads a small tensor over a large one")
    ]


def test_an_operator_whose_producer_has_other_readers_says_so() -> None:
    net = Net()
    value = net.conv("x")
    report = report_of(net.model(net.op("Relu", value), value))
    assert [kept.reason for kept in report.unfused] == ["its producer conv2d+bias has another consumer"]


def test_concatenations_stay_alone() -> None:
    net = Net()
    joined = net.op("Concat", net.conv("x"), net.op("Relu", net.conv("x")), axis=1)
    report = report_of(net.model(net.op("Relu", joined)))
    assert report.groups()["concatenate"] == 1
    assert [kept.reason for kept in report.unfused] == ["its producer concatenate takes no epilogue"]


def test_the_report_counts_batch_norms_and_bytes() -> None:
    net = Net()
    value = net.norm(net.conv("x"))
    report = report_of(net.model(net.op("Relu", net.norm(net.conv(net.op("Relu", value))))))
    assert any(str(entry) == "2 of 2 BatchNorm folded" for entry in report.passes)
    tensor = 8 * 6 * 6 * 4
    # The input in NHWC and both results; the second result takes the place of the input.
    assert report.memory() == {
        "arena": 2 * tensor,
        "naive": 3 * tensor,
        "outputs": tensor,
        "constants": 2 * (8 * 8 * 9 + 8) * 4,
    }


def test_each_phase_can_be_dumped(tmp_path: Path) -> None:
    net = Net()
    mod, _ = optimize(from_onnx(net.model(net.conv("x"))), TARGET, dump_ir=tmp_path)
    lower(mod, TARGET, dump_ir=tmp_path)
    names = [*PHASES, "lower"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"{number:02}-{name}.py" for number, name in enumerate(names, 1)
    ]


def test_a_dump_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(OutputError, match="cannot be written") as caught:
        optimize(from_onnx(Net().model()), TARGET, dump_ir=blocked / "dump")
    assert "--dump-ir" in caught.value.hint


class CountingLibrary:
    """A kernel library that schedules nothing and remembers what it was shown."""

    plans: Mapping[Any, str] = {}

    def legalize_map(self, target: Target, plans: Any = None) -> dict[str, Any]:
        return {"relax.nn.relu": self._legalize_relu}

    @staticmethod
    def _legalize_relu(builder: Any, call: Any) -> Any:
        return builder.call_te(topi.nn.relu, call.args[0], primfunc_name_hint="own_relu")

    def schedule_module(self, mod: Any, target: Target) -> tuple[Any, tuple[str, ...]]:
        names = [var.name_hint for var, function in mod.functions_items() if isinstance(function, tirx.PrimFunc)]
        return mod, tuple(sorted(names))


def test_a_kernel_library_legalizes_and_schedules_what_is_fused() -> None:
    net = Net()
    model = net.model(net.op("Relu", net.conv("x")))
    _, report = optimize(from_onnx(model), TARGET, kernels=cast(KernelLibrary, CountingLibrary()))
    assert report.groups()["conv2d+bias+own_relu"] == 1
    assert set(report.schedules) == {kernel.name for kernel in report.kernels}


def chained(net: Net, operator: str, count: int) -> str:
    """Apply an operator of two operands to a value and itself, again and again."""
    value = net.conv("x")
    for _ in range(count):
        value = net.op(operator, value, value)
    return value


@pytest.mark.parametrize("operator", ["Add", "Mul", "Sub", "Min"])
def test_a_chain_that_doubles_is_cut_into_kernels(operator: str) -> None:
    net = Net()
    report = report_of(net.model(net.op("Relu", chained(net, operator, 40))))
    for kernel in report.kernels:
        assert len([op for op in kernel.ops if op not in ("conv2d", "bias", "relu")]) <= 9
    assert any("conv2d" in kernel.ops and len(kernel.ops) > 3 for kernel in report.kernels)


@pytest.mark.parametrize("function", ["Sigmoid", "Tanh", "Exp", "Erf"])
def test_no_more_than_two_functions_come_to_stand_in_each_other(function: str) -> None:
    net = Net()
    value = net.conv("x")
    for _ in range(6):
        value = net.op(function, value)
    name = function.lower()
    assert groups(net.model(value)) == {f"conv2d+bias+{name}+{name}": 1, f"{name}+{name}": 2}


def test_a_value_that_both_parts_of_a_cut_read_is_computed_once() -> None:
    net = Net()
    first = net.conv("x")
    second = net.op("Sigmoid", first)
    third = net.op("Sigmoid", net.op("Mul", first, second))
    report = report_of(net.model(net.op("Add", net.op("Sigmoid", third), net.op("Add", first, second))))
    assert sum("conv2d" in kernel.ops for kernel in report.kernels) == 1
    assert sum(kernel.ops.count("sigmoid") * kernel.count for kernel in report.kernels) == 3
