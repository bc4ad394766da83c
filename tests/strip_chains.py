"""Random chains of layers, NumPy's answer to a layer, and an interpreter of chains that run strip by strip."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from tvm import relax

from tvmbuild.graph.rewriter import array, is_constant, op_name, shape_of
from tvmbuild.graph.strips.emit import Order
from tvmbuild.graph.strips.stage import Stage
from tvmbuild.schedules.strips.chain import Chain, Role, Strip

Array = np.ndarray[Any, Any]


class RandomLayers:
    """Draws layers in NHWC one after another; tensors drawn before may be read again.

    Constants are small integers, whose sums are exact in any order, unless ``floats``.
    """

    def __init__(self, draw: Any, *, floats: bool = False) -> None:
        self.draw = draw
        self.floats = floats
        self.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
        self.builder = relax.BlockBuilder()
        self.shape = (1, draw(st.integers(5, 18)), draw(st.integers(4, 7)), 4 * draw(st.integers(1, 2)))

    def module(self) -> Any:
        data = relax.Var("x", relax.TensorType(self.shape, "float32"))
        with self.builder.function("main", [data]):
            with self.builder.dataflow():
                tensors = [data]
                for _ in range(self.draw(st.integers(2, 6))):
                    # Mostly the newest, so that chains get long.
                    tensors.append(self.layer(tensors))
                result = self.builder.emit_output(tensors[-1])
            self.builder.emit_func_output(result)
        return self.builder.finalize()

    def layer(self, tensors: list[Any]) -> Any:
        newest = tensors[-1]
        alike = [tensor for tensor in tensors[:-1] if shape_of(tensor) == shape_of(newest)]
        beside = [tensor for tensor in tensors[:-1] if shape_of(tensor)[1:3] == shape_of(newest)[1:3]]
        kinds = (
            ["convolution", "depthwise", "pool", "relu", "bias", "enlarged", "gated"]
            + ["add"] * bool(alike)
            + ["concat"] * bool(beside)
        )
        kind = self.draw(st.sampled_from(kinds))
        if kind == "add":
            return self.builder.emit(relax.op.add(newest, self.draw(st.sampled_from(alike))))
        if kind == "concat":
            other = self.draw(st.sampled_from(beside))
            return self.builder.emit(relax.op.concat(relax.Tuple([other, newest]), axis=3))
        return self.builder.emit(getattr(self, kind)(newest))

    def window(self, data: Any) -> dict[str, Any]:
        rows, columns = shape_of(data)[1:3]
        kernel = self.draw(st.integers(1, min(3, rows)))
        dilation = self.draw(st.integers(1, 2)) if (kernel - 1) * 2 < rows else 1
        reach = dilation * (kernel - 1) + 1
        top, bottom = self.draw(st.integers(0, min(1, reach - 1))), self.draw(st.integers(0, reach - 1))
        wide = min(kernel, columns)
        return {
            "kernel": (kernel, wide),
            "strides": [self.draw(st.integers(1, 2)), 1],
            "dilation": [dilation, 1],
            "padding": [top, wide // 2, bottom, wide // 2],
        }

    def convolution(self, data: Any) -> Any:
        attributes, channels = self.window(data), 4 * self.draw(st.integers(1, 2))
        weight = self.constant(channels, shape_of(data)[3], *attributes.pop("kernel"))
        return relax.op.nn.conv2d(data, weight, data_layout="NHWC", kernel_layout="OIHW", **attributes)

    def depthwise(self, data: Any) -> Any:
        attributes, channels = self.window(data), shape_of(data)[3]
        weight = self.constant(channels, 1, *attributes.pop("kernel"))
        return relax.op.nn.conv2d(data, weight, data_layout="NHWC", kernel_layout="OIHW", groups=channels, **attributes)

    def pool(self, data: Any) -> Any:
        attributes = self.window(data)
        return relax.op.nn.max_pool2d(data, attributes.pop("kernel"), layout="NHWC", **attributes)

    def enlarged(self, data: Any) -> Any:
        rows, columns = shape_of(data)[1:3]
        times = self.draw(st.integers(1, 2)) if rows < 40 else 1
        how = self.draw(st.sampled_from([("asymmetric", "floor"), ("half_pixel", "round")]))
        return relax.op.image.resize2d(
            data,
            (rows * times, columns),
            layout="NHWC",
            method="nearest_neighbor",
            coordinate_transformation_mode=how[0],
            rounding_method=how[1],
        )

    def gated(self, data: Any) -> Any:
        """Channels weighed by what a whole image says, of which no strip knows."""
        weights = self.builder.emit(relax.op.max(data, axis=[1, 2], keepdims=True))
        return relax.op.multiply(data, self.builder.emit(relax.op.nn.relu(weights)))

    def bias(self, data: Any) -> Any:
        return relax.op.add(data, self.constant(shape_of(data)[3]))

    @staticmethod
    def relu(data: Any) -> Any:
        return relax.op.nn.relu(data)

    def constant(self, *shape: int) -> Any:
        values = self.rng.standard_normal(shape) / 3 if self.floats else self.rng.integers(-2, 3, shape)
        return relax.const(values.astype("float32"))


def whole(bindings: Sequence[tuple[Any, Any]], data: Mapping[Any, Array]) -> dict[Any, Array]:
    """Return the values of all tensors of a function, layer by layer."""
    values = dict(data)
    for var, call in bindings:
        if isinstance(call, relax.Var):
            values[var] = values[call]
            continue
        values[var] = layer(call, [_value(argument, values) for argument in call.args], None)
    return values


def _value(argument: Any, values: Mapping[Any, Array]) -> Any:
    if isinstance(argument, relax.Tuple):
        return [values[field] for field in argument.fields]
    return array(argument) if is_constant(argument) else values.get(argument)


def layer(call: Any, arguments: Sequence[Any], rows: tuple[int, int] | None) -> Array:
    """Compute a layer; ``rows`` is the padding at the top and bottom where it is not the layer's own."""
    name = op_name(call)
    if name == "nn.relu":
        return np.maximum(arguments[0], 0)
    if name == "add":
        return np.asarray(arguments[0] + arguments[1])
    if name == "image.resize2d":
        return np.repeat(arguments[0], shape_of(call)[1] // shape_of(call.args[0])[1], axis=1)
    if name == "multiply":
        return np.asarray(arguments[0] * arguments[1])
    if name == "max":
        return np.max(arguments[0], axis=(1, 2), keepdims=True)
    if name == "concat":
        return np.concatenate(arguments[0], axis=3)
    attrs = call.attrs
    top, left, bottom, right = (int(value) for value in attrs.padding)
    top, bottom = rows or (top, bottom)
    is_pool = name == "nn.max_pool2d"
    size = [int(extent) for extent in (attrs.pool_size if is_pool else shape_of(call.args[1])[2:])]
    fill = -np.inf if is_pool else 0
    data = np.pad(arguments[0], ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    (down, across), (row_step, column_step) = map(list, (attrs.strides, attrs.dilation))
    windows = np.lib.stride_tricks.sliding_window_view(
        data, (int(row_step) * (size[0] - 1) + 1, int(column_step) * (size[1] - 1) + 1), axis=(1, 2)
    )
    taps = windows[:, :: int(down), :: int(across), :, :: int(row_step), :: int(column_step)]
    if is_pool:
        return np.asarray(taps.max(axis=(4, 5)))
    weight = arguments[1]
    if int(attrs.groups) > 1:
        return np.einsum("nhwcij,cij->nhwc", taps, weight[:, 0])
    return np.einsum("nhwcij,ocij->nhwo", taps, weight)


@dataclasses.dataclass(frozen=True)
class Reference:
    """A kernel as the interpreter runs it: a stage on some of its rows, by NumPy."""

    stage: Stage
    order: Order

    def __call__(self, sources: Sequence[Array]) -> Array:
        given = {source.place: value for source, value in zip(self.stage.sources, sources, strict=True)}
        values: dict[Any, Array] = {}
        for number, (var, call) in enumerate(self.stage.bindings):
            arguments = []
            for place, argument in enumerate(call.args):
                if isinstance(argument, relax.Tuple):
                    arguments.append([given[number, index] for index in range(len(argument.fields))])
                else:
                    arguments.append(given.get((number, place), _value(argument, values)))
            padding = self.order.reads[0][1:] if number == 0 else None
            values[var] = layer(call, arguments, padding)
        return values[self.stage.output]


def run(chain: Chain, inputs: Sequence[Array]) -> Array:
    """Run a chain whose kernels are ``Reference``; rows that nobody made are NaN."""
    tensors: dict[int, Array] = dict(zip(chain.indices(Role.INPUT), inputs, strict=True))
    output = chain.indices(Role.OUTPUT)[0]
    tensors[output] = np.full(chain.tensors[output].shape, np.nan, "float32")
    for strips in chain.cores:
        for index in chain.indices(Role.SCRATCH):
            tensors[index] = np.full(chain.tensors[index].shape, np.nan, "float32")
        for strip in strips:
            _run_strip(chain, strip, tensors)
    return tensors[output]


def _run_strip(chain: Chain, strip: Strip, tensors: dict[int, Array]) -> None:
    for keep in strip.keeps:
        moved = tensors[keep.tensor][:, keep.row : keep.row + keep.rows].copy()
        tensors[keep.tensor][:] = np.nan
        tensors[keep.tensor][:, : keep.rows] = moved
    for step in strip.steps:
        kernel = chain.kernels[step.kernel]
        *sources, target = step.operands
        counts = [read[0] for read in kernel.order.reads]
        slices = [
            tensors[operand.tensor][:, operand.row : operand.row + count]
            for operand, count in zip(sources, counts, strict=True)
        ]
        assert all(part.shape[1] == count for part, count in zip(slices, counts, strict=True)), "beyond a tensor's end"
        result = kernel(slices)
        assert result.shape[1] == kernel.order.rows
        assert target.row + result.shape[1] <= tensors[target.tensor].shape[1], "beyond a tensor's end"
        tensors[target.tensor][:, target.row : target.row + result.shape[1]] = result
