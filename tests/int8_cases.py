"""Integer layers with requantizing epilogues, and what NumPy computes for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import relax, te, tirx

from tvmbuild import schedules
from tvmbuild.graph.pipeline import make_kernels
from tvmbuild.schedules import KernelReport, emit_conv2d, emit_matmul
from tvmbuild.target.target import Target

Array = NDArray[Any]


@dataclass(frozen=True)
class Layer:
    """A convolution (or, with no kernel, a matrix product) whose sums are rounded to int8, or kept when ``raw``.

    Attributes:
        shape: of the input, NHWC or (..., depth).
        out: output channels.
        kernel: rows and columns of the kernel; empty for a matrix product.
        extreme: whether inputs and weights are only -128 and 127: the largest sums there are.
        least: lowest weight; -128 makes two products of bytes overflow 16 bits.
        residual: whether an int8 tensor is added before rounding.
        low: lowest code of the output, above -128 where the layer ends in a ReLU.
    """

    shape: tuple[int, ...]
    out: int
    kernel: tuple[int, ...] = ()
    stride: tuple[int, int] = (1, 1)
    padding: tuple[int, int, int, int] = (0, 0, 0, 0)
    dilation: tuple[int, int] = (1, 1)
    groups: int = 1
    pad_value: int = 0
    extreme: bool = False
    least: int = -127
    residual: bool = False
    low: int = -128
    raw: bool = False

    def expected_sums(self, data: Array, weight: Array) -> Array:
        """Return the exact sums, int32."""
        if not self.kernel:
            return np.asarray(data.astype(np.int64) @ weight.astype(np.int64), np.int32)
        top, left, bottom, right = self.padding
        pads = ((0, 0), (top, bottom), (left, right), (0, 0))
        image = np.pad(data.astype(np.int64), pads, constant_values=self.pad_value)
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        height, width = ((image.shape[i + 1] - reach[i]) // self.stride[i] + 1 for i in range(2))
        sums = np.zeros((data.shape[0], height, width, self.out), np.int64)
        depth, share = weight.shape[1], self.out // self.groups
        for i, j in np.ndindex(*self.kernel):
            rows = slice(i * self.dilation[0], i * self.dilation[0] + (height - 1) * self.stride[0] + 1, self.stride[0])
            columns = slice(
                j * self.dilation[1], j * self.dilation[1] + (width - 1) * self.stride[1] + 1, self.stride[1]
            )
            for g in range(self.groups):
                taken = slice(g * share, (g + 1) * share)
                window = image[:, rows, columns, g * depth : (g + 1) * depth]
                sums[..., taken] += window @ weight[taken, :, i, j].astype(np.int64).T
        return np.asarray(sums, np.int32)


@dataclass
class Network:
    """Layers side by side in one module, with their inputs and what they must give."""

    module: Any
    reports: tuple[KernelReport, ...]
    inputs: list[Array] = field(default_factory=list)
    expected: list[Array] = field(default_factory=list)


def make_network(layers: Sequence[Layer], target: Target, choices: Any = None) -> Network:
    """Build a scheduled module of layers."""
    rng = np.random.default_rng(5)
    builder = relax.BlockBuilder()
    inputs, expected, results = [], [], []
    prepared = [_prepare(layer, rng) for layer in layers]
    variables = []
    for index, (layer, (data, _, sums, residual)) in enumerate(zip(layers, prepared, strict=True)):
        inputs.append(data)
        variables.append(relax.Var(f"x{index}", relax.TensorType(data.shape, "int8")))
        if layer.residual:
            inputs.append(residual)
            variables.append(relax.Var(f"r{index}", relax.TensorType(sums.shape, "int8")))
    arguments = iter(variables)
    with builder.function("main", variables):
        with builder.dataflow():
            for layer, (_, weight, sums, residual) in zip(layers, prepared, strict=True):
                value = builder.emit(_product(builder, layer, next(arguments), weight, target))
                if layer.raw:
                    results.append(value)
                    expected.append(sums)
                    continue
                other = next(arguments) if layer.residual else None
                call, codes = _requantize(builder, layer, value, other, sums, residual, rng)
                results.append(builder.emit(call))
                expected.append(codes)
            result = builder.emit_output(relax.Tuple(results))
        builder.emit_func_output(result)
    fused = make_kernels(builder.get(), target, schedules)
    return Network(*schedules.schedule_module(fused, target, choices), inputs, expected)


def _prepare(layer: Layer, rng: np.random.Generator) -> tuple[Array, Array, Array, Array]:
    def codes(shape: tuple[int, ...], least: int) -> Array:
        if layer.extreme:
            return rng.choice(np.array([least, 127], np.int8), shape)
        return rng.integers(least, 128, shape).astype(np.int8)

    depth = layer.shape[-1]
    shape = (layer.out, depth // layer.groups, *layer.kernel) if layer.kernel else (depth, layer.out)
    data, weight = codes(layer.shape, -128), codes(shape, layer.least)
    weight.flat[0] = layer.least
    sums = layer.expected_sums(data, weight)
    return data, weight, sums, codes(sums.shape, -128)


def _product(builder: Any, layer: Layer, data: Any, weight: Array, target: Target) -> Any:
    if not layer.kernel:
        return emit_matmul(builder, data, relax.const(weight), target=target)
    return emit_conv2d(
        builder,
        data,
        relax.const(weight),
        strides=layer.stride,
        padding=layer.padding,
        dilation=layer.dilation,
        groups=layer.groups,
        pad_value=layer.pad_value,
        target=target,
    )


def _requantize(
    builder: Any, layer: Layer, sums: Any, other: Any, exact: Array, residual: Array, rng: np.random.Generator
) -> tuple[Any, Array]:
    """Return an epilogue and what it gives; scales make a tenth of the outputs saturate."""
    offset = rng.integers(-1000, 1000, layer.out).astype(np.int32)
    usual = max(1.0, float(np.quantile(np.abs(exact), 0.9)))
    scale = (rng.uniform(0.5, 1.5, layer.out) * (128 / usual)).astype(np.float32)
    zero = int(rng.integers(-20, 20))
    # A power of two makes the product exact, so that it does not matter whether the sum is fused.
    share = np.float32(0.5)

    def codes(acc: Any, shift: Any, factor: Any, *more: Any) -> Any:
        def element(*index: Any) -> Any:
            real = (acc(*index) + shift[index[-1]]).astype("float32") * factor[index[-1]]
            if more:
                term = more[0](*index).astype("float32") * tirx.const(float(share), "float32")
                real = tirx.call_llvm_pure_intrin("float32", "llvm.fma", term, tirx.const(1.0, "float32"), real)
            least, most = float(layer.low - zero), float(127 - zero)
            real = te.max(te.min(real, tirx.const(most, "float32")), tirx.const(least, "float32"))
            return (te.nearbyint(real).astype("int32") + zero).astype("int8")

        return te.compute(acc.shape, element, name="requantize")

    tensors = [sums, relax.const(offset), relax.const(scale), *([] if other is None else [other])]
    call = builder.call_te(codes, *tensors, primfunc_name_hint="requantize")
    real = (exact + offset).astype(np.float32) * scale
    if other is not None:
        real = real + residual.astype(np.float32) * share
    clipped = np.clip(real, np.float32(layer.low - zero), np.float32(127 - zero))
    return call, (np.rint(clipped).astype(np.int32) + zero).astype(np.int8)
