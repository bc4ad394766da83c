"""MobileNetV2 (Sandler et al., 2018, "Inverted Residuals and Linear Bottlenecks", table 2) with random weights.

The structure is the paper's at width 1.0; batch normalization is taken as folded into the convolutions, whose weights
are He-initialised (normal, variance 2 / fan-in; 1 / fan-in before a linear bottleneck).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

#: The paper's table 2: expansion, output channels, repetitions, stride of the first repetition.
BLOCKS = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
FIRST, LAST, CLASSES = 32, 1280, 1000
OPSET = 17


class _Builder:
    """Collects nodes and weights of a chain of layers; ``value`` is the name of the newest tensor."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = [
            helper.make_node("Constant", [], ["low"], value_float=0.0),
            helper.make_node("Constant", [], ["high"], value_float=6.0),
        ]
        self.weights: list[onnx.TensorProto] = []
        self.value = "image"

    def add(self, kind: str, inputs: list[str], **attributes: Any) -> str:
        """Append a node and make its output the newest tensor."""
        self.value = f"{kind.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [self.value], **attributes))
        return self.value

    def weight(self, shape: tuple[int, ...], variance: float) -> str:
        """Append a weight of normally distributed values."""
        name = f"weight_{len(self.weights)}"
        values = self.rng.normal(0.0, np.sqrt(variance), shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def convolve(
        self, sizes: tuple[int, int], kernel: int = 1, *, stride: int = 1, groups: int = 1, clip: bool = True
    ) -> None:
        """Append a convolution from ``sizes[0]`` to ``sizes[1]`` channels with bias and, with ``clip``, ReLU6."""
        shape = (sizes[1], sizes[0] // groups, kernel, kernel)
        weight = self.weight(shape, (2.0 if clip else 1.0) / float(np.prod(shape[1:])))
        bias = self.weight(shape[:1], 0.01)
        pads, strides = [kernel // 2] * 4, [stride] * 2
        self.add("Conv", [self.value, weight, bias], group=groups, pads=pads, strides=strides)
        if clip:
            self.add("Clip", [self.value, "low", "high"])

    def bottleneck(self, sizes: tuple[int, int], expansion: int, stride: int) -> None:
        """Append an inverted residual: expand, depthwise 3x3, project linearly, and add where the shapes allow."""
        before, width = self.value, sizes[0] * expansion
        if expansion > 1:
            self.convolve((sizes[0], width))
        self.convolve((width, width), 3, stride=stride, groups=width)
        self.convolve((width, sizes[1]), clip=False)
        if stride == 1 and sizes[0] == sizes[1]:
            self.add("Add", [self.value, before])


def mobilenet_v2(seed: int = 0, size: int = 224) -> onnx.ModelProto:
    """Return the network: ``image`` float32[1, 3, size, size] to float32[1, 1000], the same for the same seed."""
    net = _Builder(seed)
    net.convolve((3, FIRST), 3, stride=2)
    channels = FIRST
    for expansion, width, repetitions, stride in BLOCKS:
        for index in range(repetitions):
            net.bottleneck((channels, width), expansion, stride if index == 0 else 1)
            channels = width
    net.convolve((channels, LAST))
    net.add("GlobalAveragePool", [net.value])
    net.add("Flatten", [net.value])
    result = net.add(
        "Gemm", [net.value, net.weight((CLASSES, LAST), 1.0 / LAST), net.weight((CLASSES,), 0.01)], transB=1
    )
    graph = helper.make_graph(
        net.nodes,
        "mobilenet_v2",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, size, size])],
        [helper.make_tensor_value_info(result, TensorProto.FLOAT, [1, CLASSES])],
        net.weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return model
