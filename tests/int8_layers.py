"""Quantized layers as ONNX models, and the integer arithmetic that they must give, in NumPy.

A layer reads int8 or uint8 codes and writes codes: dequantize, convolution or matrix product, bias, residual addition,
ReLU, quantize. The reference computes in integers what the kernels do: int32 sums of products with the zero point
and the bias folded in, one float32 factor a channel, rounding to nearest even, saturation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """A quantized convolution, or a matrix product where ``kernel`` is 0.

    Attributes:
        size: rows and columns of the input; rows of a matrix product come first.
        channels: input channels of a group, output channels of a group, groups.
        kernel: side of the kernel.
        stride: step in rows and columns.
        dilation: distance between taps.
        padding: added at the top, left, bottom and right.
        dtypes: of the input's and the output's codes.
        zeros: zero points of the input, the residual and the output, as int8.
        fill: "random", or the extreme that every input and weight has.
        weight_zero: zero point of the weights, which are uint8 unless it is 0.
        residual: whether a second tensor is added.
        relu: whether negative results become zero.
        per_channel: whether each output channel has a scale.
        seed: of codes, weights and scales.
    """

    size: tuple[int, int]
    channels: tuple[int, int, int]
    kernel: int
    stride: tuple[int, int] = (1, 1)
    dilation: int = 1
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dtypes: tuple[str, str] = ("int8", "int8")
    zeros: tuple[int, int, int] = (0, 0, 0)
    fill: str = "random"
    weight_zero: int = 0
    residual: bool = False
    relu: bool = False
    per_channel: bool = True
    seed: int = 0


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    """Draw a layer."""
    kernel = draw(st.sampled_from([0, 1, 1, 2, 3, 3, 5]))
    dilation = draw(st.sampled_from([1, 1, 2])) if kernel > 1 else 1
    reach = max(1, (kernel - 1) * dilation + 1)
    size = draw(st.tuples(st.integers(reach, reach + 8), st.integers(reach, reach + 8)))
    depthwise = kernel > 1 and draw(st.booleans())
    channel = st.integers(1, 40)
    if depthwise:
        channels = (1, 1, draw(channel))
    else:
        channels = (draw(channel), draw(channel), draw(st.sampled_from([1, 1, 1, 2])) if kernel else 1)
    zero = st.one_of(st.sampled_from([-128, 0, 127]), st.integers(-128, 127))
    return Layer(
        size,
        channels,
        kernel,
        stride=draw(st.tuples(st.integers(1, 2), st.integers(1, 2))) if kernel else (1, 1),
        dilation=dilation,
        padding=draw(st.tuples(*[st.integers(0, kernel // 2)] * 4)) if kernel else (0, 0, 0, 0),
        dtypes=draw(st.tuples(*[st.sampled_from(["int8", "uint8"])] * 2)),
        zeros=draw(st.tuples(zero, zero, zero)),
        fill=draw(st.sampled_from(["random", "random", "-128", "127"])),
        weight_zero=draw(st.sampled_from([0, 0, 0, 100, 140])),
        residual=draw(st.booleans()),
        relu=draw(st.booleans()),
        per_channel=draw(st.booleans()),
        seed=draw(st.integers(0, 2**16)),
    )


@dataclass(frozen=True)
class Numbers:
    """The arrays of a layer: codes as int8 whatever their dtype, weights less their zero point, OIHW or [K, N]."""

    codes: Array
    residual: Array
    weights: Array
    bias: Array
    scales: tuple[np.float32, np.float32, np.float32]
    weight_scale: Array


def numbers(layer: Layer) -> Numbers:
    """Draw the arrays of a layer from its seed."""
    rng = np.random.default_rng(layer.seed)
    inner, outer, groups = layer.channels
    if layer.kernel:
        shape: tuple[int, ...] = (1, inner * groups, *layer.size)
        weight_shape: tuple[int, ...] = (outer * groups, inner, layer.kernel, layer.kernel)
    else:
        shape, weight_shape = (layer.size[0], inner), (inner, outer)
    codes, weights = (
        rng.integers(low, 128, each).astype(np.int8) for low, each in ((-128, shape), (-127, weight_shape))
    )
    if layer.fill != "random":
        codes[:] = int(layer.fill)
        # The largest sums of either sign; neighbours stay equal, so that pairs of products add up.
        weights[:] = np.where(rng.random() < 0.5, 127, -127)
    if layer.weight_zero:
        weights = (rng.integers(0, 256, weight_shape) - layer.weight_zero).astype(np.int16)
    channels = outer * groups
    weight_scale = rng.uniform(0.001, 0.02, channels if layer.per_channel else ()).astype(np.float32)
    bias = rng.integers(-(2**14), 2**14, channels).astype(np.int32)
    depth = weights[0].size if layer.kernel else inner
    scales = np.float32(0.02), np.float32(0.05), np.float32(0.02 * 0.01 * 50 * np.sqrt(depth))
    result = _sums(layer, codes.astype(np.int64), weights.astype(np.int64))
    residual = rng.integers(-128, 128, result.shape).astype(np.int8)
    return Numbers(codes, residual, weights, bias, scales, weight_scale)


def expected(layer: Layer, given: Numbers) -> Array:
    """Return the layer's output codes as int8."""
    x_scale, r_scale, y_scale = (float(scale) for scale in given.scales)
    x_zero, r_zero, y_zero = layer.zeros
    weight_scale = given.weight_scale.astype(np.float64)
    shape = (1, -1, 1, 1) if layer.kernel else (1, -1)
    sums = _sums(layer, given.codes.astype(np.int64) - x_zero, given.weights.astype(np.int64))
    sums += given.bias.astype(np.int64).reshape(shape)
    assert np.abs(sums).max() < 2**31
    factor = (x_scale * weight_scale * (1.0 / y_scale)).astype(np.float32)
    steps = sums.astype(np.int32).astype(np.float32) * np.broadcast_to(factor, given.bias.shape).reshape(shape)
    if layer.residual:
        second = np.float32(r_scale * (1.0 / y_scale))
        # A fused multiply-add: the product is exact in float64.
        other = given.residual.astype(np.float64) - r_zero
        steps = (other * np.float64(second) + steps.astype(np.float64)).astype(np.float32)
    if layer.relu:
        steps = np.maximum(steps, 0)
    return np.asarray(np.clip(np.rint(steps).astype(np.int64) + y_zero, -128, 127).astype(np.int8))


def _sums(layer: Layer, codes: Array, weights: Array) -> Array:
    """Return the products' sums as int64; a border of zeros stands for the code of zero."""
    if not layer.kernel:
        return np.asarray(codes @ weights)
    top, left, bottom, right = layer.padding
    padded = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))
    reach = layer.dilation * (layer.kernel - 1) + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (reach, reach), axis=(2, 3))
    windows = windows[:, :, :: layer.stride[0], :: layer.stride[1], :: layer.dilation, :: layer.dilation]
    inner, outer, groups = layer.channels
    parts = [
        np.einsum("nchwyx,ocyx->nohw", windows[:, g * inner : (g + 1) * inner], weights[g * outer : (g + 1) * outer])
        for g in range(groups)
    ]
    return np.concatenate(parts, axis=1)


def make_model(cases: Sequence[Layer]) -> tuple[ModelProto, dict[str, Array], dict[str, Array]]:
    """Make one model of independent layers.

    Returns:
        The model, its inputs by name and the expected outputs by name.
    """
    maker = _Maker()
    for index, layer in enumerate(cases):
        maker.add(index, layer)
    graph = helper.make_graph(maker.nodes, "layers", maker.inputs, maker.outputs, maker.weights)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return proto, maker.arrays, maker.wanted


class _Maker:
    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.weights: list[TensorProto] = []
        self.arrays: dict[str, Array] = {}
        self.wanted: dict[str, Array] = {}

    def add(self, index: int, layer: Layer) -> None:
        given = numbers(layer)
        name = f"layer{index}"
        x = self._dequantized(f"{name}_x", given.codes, given.scales[0], layer.zeros[0], layer.dtypes[0])
        kind = np.uint8 if layer.weight_zero else np.int8
        weight = self._constant(f"{name}_w", (given.weights + layer.weight_zero).astype(kind))
        axis = 0 if layer.kernel else 1
        weight = self._op(
            "DequantizeLinear",
            weight,
            self._constant(f"{name}_ws", given.weight_scale),
            self._constant(f"{name}_wz", np.full_like(given.weight_scale, layer.weight_zero, kind)),
            axis=axis,
        )
        bias_scale = np.broadcast_to(given.scales[0] * given.weight_scale, given.bias.shape).astype(np.float32)
        bias = self._constant(f"{name}_b", given.bias)
        bias = self._op("DequantizeLinear", bias, self._constant(f"{name}_bs", bias_scale), axis=0)
        real = (
            self._conv(layer, x, weight, bias) if layer.kernel else self._op("Add", self._op("MatMul", x, weight), bias)
        )
        if layer.residual:
            other = self._dequantized(f"{name}_r", given.residual, given.scales[1], layer.zeros[1], layer.dtypes[0])
            real = self._op("Add", real, other)
        real = self._op("Relu", real) if layer.relu else real
        self._quantized(name, real, layer, given)

    def _conv(self, layer: Layer, x: str, weight: str, bias: str) -> str:
        return self._op(
            "Conv",
            *(x, weight, bias),
            strides=layer.stride,
            dilations=[layer.dilation] * 2,
            pads=layer.padding,
            group=layer.channels[2],
        )

    def _quantized(self, name: str, real: str, layer: Layer, given: Numbers) -> None:
        dtype, wanted = layer.dtypes[1], expected(layer, given)
        scale = self._constant(f"{name}_ys", np.array(given.scales[2]))
        zero = self._constant(f"{name}_yz", shifted(np.array(layer.zeros[2], np.int8), dtype))
        self.nodes.append(helper.make_node("QuantizeLinear", [real, scale, zero], [name]))
        self.outputs.append(helper.make_tensor_value_info(name, _kind(dtype), wanted.shape))
        self.wanted[name] = shifted(wanted, dtype)

    def _dequantized(self, name: str, codes: Array, scale: np.float32, zero: int, dtype: str) -> str:
        self.inputs.append(helper.make_tensor_value_info(name, _kind(dtype), codes.shape))
        self.arrays[name] = shifted(codes, dtype)
        zero_point = self._constant(f"{name}z", shifted(np.array(zero, np.int8), dtype))
        return self._op("DequantizeLinear", name, self._constant(f"{name}s", np.array(scale)), zero_point)

    def _constant(self, name: str, array: Array) -> str:
        self.weights.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def _op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name


def shifted(codes: Array, dtype: str) -> Array:
    """Return int8 codes as the codes of ``dtype`` that mean the same with a zero point moved alike."""
    return codes if dtype == "int8" else np.asarray((codes.astype(np.int16) + 128).astype(np.uint8))


def _kind(dtype: str) -> int:
    return int(TensorProto.INT8 if dtype == "int8" else TensorProto.UINT8)
