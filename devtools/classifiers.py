"""Well-known classifiers of pictures as tables of blocks, with seeded random weights, for benchmarks.

Structures are the papers'; batch normalization is taken as folded into the convolutions, whose weights are
He-initialised (normal, variance 2 / fan-in; 1 / fan-in where no rectifier follows).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

CLASSES = 1000
#: HardSwish came with 14.
OPSET = 17


@dataclass(frozen=True)
class Blocks:
    """Blocks of one stage.

    Attributes:
        channels: that each gives.
        repeated: number of blocks.
        stride: of the first one.
        kernel: height and width of the depthwise (or of each dense) convolution.
        expansion: channels inside of an inverted residual, for each that comes in.
        squeezed: channels inside of squeeze and excitation, by those that come in and those that it weighs; None for
            none.
        activation: name of a function of ``_ACTIVATIONS``.
    """

    channels: int
    repeated: int = 1
    stride: int = 1
    kernel: int = 3
    expansion: float = 1.0
    squeezed: Callable[[int, int], int] | None = None
    activation: str = "relu"


@dataclass(frozen=True)
class Network:
    """A classifier.

    Attributes:
        block: name of the kind of its blocks, a method of ``_Builder``.
        stages: in order.
        first: channels of the first convolution, of stride 2.
        last: channels of a 1x1 convolution after the blocks; 0 for none.
        hidden: channels of a layer between it and the classes; 0 for none.
        activation: of the layers outside of the blocks.
        first_kernel: of the first convolution; one of 7 is followed by a pool of stride 2.
        gates: "HardSigmoid" or "Sigmoid", after squeeze and excitation.
    """

    block: str
    stages: tuple[Blocks, ...]
    first: int = 32
    last: int = 0
    hidden: int = 0
    activation: str = "relu"
    first_kernel: int = 3
    gates: str = "Sigmoid"


def _quarter_of_width(_channels: int, width: int) -> int:
    """MobileNetV3: a quarter of what is weighed, in multiples of 8, and not over 10 % less than that."""
    rounded = max(8, (width // 4 + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * (width // 4) else rounded + 8


def _quarter_of_input(channels: int, _width: int) -> int:
    """EfficientNet: a quarter of what comes into the block."""
    return channels // 4


def _v3(kernel: int, width: float, channels: int, activation: str, stride: int = 1, *, gated: bool = False) -> Blocks:
    return Blocks(channels, 1, stride, kernel, width, _quarter_of_width if gated else None, activation)


def _b0(expansion: float, channels: int, repeated: int, stride: int, kernel: int) -> Blocks:
    return Blocks(channels, repeated, stride, kernel, expansion, _quarter_of_input, "swish")


_V2 = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))

#: By name. All take ``image`` float32[1, 3, size, size] and give float32[1, 1000].
NETWORKS: Mapping[str, Network] = {
    # Howard et al., 2017, "MobileNets", table 1.
    "mobilenet_v1": Network(
        "separable",
        (
            Blocks(64),
            Blocks(128, 2, 2),
            Blocks(256, 2, 2),
            Blocks(512, 6, 2),
            Blocks(1024, 2, 2),
        ),
    ),
    # Sandler et al., 2018, "Inverted Residuals and Linear Bottlenecks", table 2.
    "mobilenet_v2": Network(
        "inverted",
        tuple(
            Blocks(channels, repeated, stride, expansion=expansion, activation="relu6")
            for expansion, channels, repeated, stride in _V2
        ),
        last=1280,
        activation="relu6",
    ),
    # Howard et al., 2019, "Searching for MobileNetV3", table 1.
    "mobilenet_v3_large": Network(
        "inverted",
        (
            _v3(3, 1, 16, "relu"),
            _v3(3, 4, 24, "relu", 2),
            _v3(3, 3, 24, "relu"),
            _v3(5, 3, 40, "relu", 2, gated=True),
            _v3(5, 3, 40, "relu", gated=True),
            _v3(5, 3, 40, "relu", gated=True),
            _v3(3, 6, 80, "hardswish", 2),
            _v3(3, 2.5, 80, "hardswish"),
            _v3(3, 2.3, 80, "hardswish"),
            _v3(3, 2.3, 80, "hardswish"),
            _v3(3, 6, 112, "hardswish", gated=True),
            _v3(3, 6, 112, "hardswish", gated=True),
            _v3(5, 6, 160, "hardswish", 2, gated=True),
            _v3(5, 6, 160, "hardswish", gated=True),
            _v3(5, 6, 160, "hardswish", gated=True),
        ),
        first=16,
        last=960,
        hidden=1280,
        activation="hardswish",
        gates="HardSigmoid",
    ),
    # He et al., 2016, "Deep Residual Learning", table 1.
    "resnet18": Network(
        "residual",
        (Blocks(64, 2), Blocks(128, 2, 2), Blocks(256, 2, 2), Blocks(512, 2, 2)),
        first=64,
        first_kernel=7,
    ),
    # Tan and Le, 2019, "EfficientNet", table 1.
    "efficientnet_b0": Network(
        "inverted",
        (
            _b0(1, 16, 1, 1, 3),
            _b0(6, 24, 2, 2, 3),
            _b0(6, 40, 2, 2, 5),
            _b0(6, 80, 3, 2, 3),
            _b0(6, 112, 3, 1, 5),
            _b0(6, 192, 4, 2, 5),
            _b0(6, 320, 1, 1, 3),
        ),
        last=1280,
        activation="swish",
    ),
}


class _Builder:
    """Collects nodes and weights of layers; ``value`` is the name of the newest tensor, of ``channels`` channels."""

    def __init__(self, network: Network, seed: int) -> None:
        self.network = network
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self.value, self.channels = "image", 3

    def add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """Append a node and make its output the newest tensor."""
        self.value = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [self.value], **attributes))
        return self.value

    def weight(self, shape: tuple[int, ...], variance: float) -> str:
        """Append a weight of normally distributed values."""
        name = f"weight_{len(self.weights)}"
        values = self.rng.normal(0.0, np.sqrt(variance), shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def activate(self, name: str) -> None:
        """Append an activation; "" is none."""
        before = self.value
        if name == "relu6":
            bounds = [self.add("Constant", value_float=value) for value in (0.0, 6.0)]
            self.add("Clip", before, *bounds)
        elif name == "swish":
            self.add("Mul", before, self.add("Sigmoid", before))
        elif name:
            self.add({"relu": "Relu", "hardswish": "HardSwish"}[name], before)

    def convolve(
        self, channels: int, kernel: int = 1, *, stride: int = 1, depthwise: bool = False, activation: str = ""
    ) -> None:
        """Append a convolution with bias and an activation."""
        groups = self.channels if depthwise else 1
        shape = (channels, self.channels // groups, kernel, kernel)
        weight = self.weight(shape, (2.0 if activation else 1.0) / float(np.prod(shape[1:])))
        bias = self.weight(shape[:1], 0.01)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        self.add("Conv", self.value, weight, bias, group=groups, pads=pads, strides=strides)
        self.channels = channels
        self.activate(activation)

    def separable(self, stage: Blocks, stride: int) -> None:
        """Append a depthwise and a 1x1 convolution."""
        self.convolve(self.channels, stage.kernel, stride=stride, depthwise=True, activation=stage.activation)
        self.convolve(stage.channels, activation=stage.activation)

    def inverted(self, stage: Blocks, stride: int) -> None:
        """Append an inverted residual: expand, depthwise, weigh, project, and add where the shapes allow."""
        before, channels = self.value, self.channels
        width = round(channels * stage.expansion)
        if width != channels:
            self.convolve(width, activation=stage.activation)
        self.convolve(width, stage.kernel, stride=stride, depthwise=True, activation=stage.activation)
        if stage.squeezed is not None:
            self.squeeze(stage.squeezed(channels, width), "swish" if stage.activation == "swish" else "relu")
        self.convolve(stage.channels)
        if stride == 1 and channels == stage.channels:
            self.add("Add", self.value, before)

    def squeeze(self, squeezed: int, activation: str) -> None:
        """Append squeeze and excitation: each channel is weighed by what all channels' means say."""
        weighed, channels = self.value, self.channels
        self.add("GlobalAveragePool", weighed)
        self.convolve(squeezed, activation=activation)
        self.convolve(channels)
        steps = {"alpha": 1 / 6, "beta": 0.5} if self.network.gates == "HardSigmoid" else {}
        self.add("Mul", weighed, self.add(self.network.gates, self.value, **steps))

    def residual(self, stage: Blocks, stride: int) -> None:
        """Append two dense convolutions beside a way around them, and their sum."""
        before, channels = self.value, self.channels
        self.convolve(stage.channels, stage.kernel, stride=stride, activation=stage.activation)
        self.convolve(stage.channels, stage.kernel)
        branch = self.value
        if stride > 1 or channels != stage.channels:
            self.value, self.channels = before, channels
            self.convolve(stage.channels, stride=stride)
            before = self.value
        self.add("Add", branch, before)
        self.activate(stage.activation)

    def classify(self) -> str:
        """Append the pool and the dense layers; return the name of the result."""
        self.add("GlobalAveragePool", self.value)
        self.add("Flatten", self.value)
        for width in filter(None, (self.network.hidden, CLASSES)):
            weight, bias = self.weight((width, self.channels), 1.0 / self.channels), self.weight((width,), 0.01)
            self.add("Gemm", self.value, weight, bias, transB=1)
            self.channels = width
            if width != CLASSES:
                self.activate(self.network.activation)
        return self.value


def classifier(name: str, seed: int = 0, size: int = 224) -> onnx.ModelProto:
    """Return a network of ``NETWORKS``, the same for the same name, seed and size.

    Its input is ``image`` float32[1, 3, size, size], its output float32[1, 1000].
    """
    network = NETWORKS[name]
    net = _Builder(network, seed)
    net.convolve(network.first, network.first_kernel, stride=2, activation=network.activation)
    if network.first_kernel > 3:
        net.add("MaxPool", net.value, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    for stage in network.stages:
        for index in range(stage.repeated):
            getattr(net, network.block)(stage, stage.stride if index == 0 else 1)
    if network.last:
        net.convolve(network.last, activation=network.activation)
    result = net.classify()
    graph = helper.make_graph(
        net.nodes,
        name,
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, [1, CLASSES])],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model
