"""Folding into linear operators: counts, numbers against NumPy, refusals. Nothing is compiled here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from seeded import rng
from tvm import relax

from tvmbuild.graph.fold.batch_norm import fold_batch_norm
from tvmbuild.graph.fold.constant_scales import fold_affine
from tvmbuild.graph.rewriter import array, flat_bindings, is_constant, op_name

EPSILON = 1e-5


def floats(*shape: int) -> np.ndarray[Any, Any]:
    return rng().uniform(0.5, 2.0, shape).astype("float32")


def const(value: np.ndarray[Any, Any]) -> Any:
    return relax.const(value, str(value.dtype))


def build(shape: tuple[int, ...], body: Callable[[relax.BlockBuilder, Any], Any], *extra: Any) -> Any:
    """Build ``main`` of one input; ``body`` returns the result."""
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(shape, "float32"))
    with builder.function("main", [data, *extra]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, data))
        builder.emit_func_output(result)
    return builder.finalize()


def ops(mod: Any) -> list[str]:
    return [op_name(value) for _, value in flat_bindings(mod["main"])]


def calls(mod: Any, name: str) -> list[Any]:
    return [value for _, value in flat_bindings(mod["main"]) if op_name(value) == name]


class Norm:
    """Parameters of one BatchNorm and what it does to an array."""

    def __init__(self, channels: int) -> None:
        self.gamma, self.beta, self.mean, self.variance = (floats(channels) for _ in range(4))

    @property
    def scale(self) -> np.ndarray[Any, Any]:
        return self.gamma / np.sqrt(self.variance.astype("float64") + EPSILON)

    @property
    def shift(self) -> np.ndarray[Any, Any]:
        return self.beta - self.scale * self.mean

    def emit(self, builder: relax.BlockBuilder, data: Any, axis: int = 1) -> Any:
        parameters = [const(value) for value in (self.gamma, self.beta, self.mean, self.variance)]
        norm = builder.emit(relax.op.nn.batch_norm(data, *parameters, axis=axis, epsilon=EPSILON, training=False))
        return builder.emit(norm[0])


def weighted(op: Any, weight: np.ndarray[Any, Any], **attrs: Any) -> Any:
    return lambda data: (op(data, const(weight), **attrs), weight)


CASES = {
    "conv1d": ((1, 4, 9), 6, weighted(relax.op.nn.conv1d, floats(6, 4, 3), padding=1)),
    "conv2d": ((1, 4, 9, 9), 6, weighted(relax.op.nn.conv2d, floats(6, 4, 3, 3), padding=1)),
    "conv2d groups": ((1, 4, 9, 9), 6, weighted(relax.op.nn.conv2d, floats(6, 2, 3, 3), groups=2)),
    "conv2d depthwise": ((1, 4, 9, 9), 4, weighted(relax.op.nn.conv2d, floats(4, 1, 3, 3), groups=4)),
    "conv3d": ((1, 4, 5, 5, 5), 6, weighted(relax.op.nn.conv3d, floats(6, 4, 3, 3, 3))),
    "conv1d_transpose": ((1, 4, 9), 6, weighted(relax.op.nn.conv1d_transpose, floats(4, 6, 3))),
    "conv2d_transpose": ((1, 4, 5, 5), 6, weighted(relax.op.nn.conv2d_transpose, floats(4, 6, 2, 2), strides=2)),
    "conv2d_transpose groups": ((1, 4, 5, 5), 6, weighted(relax.op.nn.conv2d_transpose, floats(4, 3, 2, 2), groups=2)),
    "matmul": ((5, 4), 6, weighted(relax.op.matmul, floats(4, 6))),
}


def scaled(name: str, weight: np.ndarray[Any, Any], scale: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Scale each output channel of a weight, one channel at a time."""
    result = weight.astype("float64").copy()
    for channel, factor in enumerate(scale):
        if name == "matmul":
            result[:, channel] *= factor
        elif "transpose" in name:
            groups = len(scale) // weight.shape[1]
            group, inner = divmod(channel, weight.shape[1])
            rows = weight.shape[0] // groups
            result[group * rows : (group + 1) * rows, inner] *= factor
        else:
            result[channel] *= factor
    return result


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_batch_norm_vanishes_in_a_linear_operator(name: str, bias: bool) -> None:
    shape, channels, emit = CASES[name]
    norm, added = Norm(channels), floats(channels)
    rank = len(shape)

    def body(builder: relax.BlockBuilder, data: Any) -> Any:
        call, _ = emit(data)
        result = builder.emit(call)
        if bias:
            result = builder.emit(relax.op.add(result, const(added.reshape(1, -1, *[1] * (rank - 2)))))
        return norm.emit(builder, result)

    mod, report = fold_batch_norm(build(shape, body))
    assert (report.applied, report.kept) == (1, ())
    core, total = flat_bindings(mod["main"])[0][1], calls(mod, "add")[0]
    assert len(ops(mod)) == 2
    weight = emit(relax.Var("data", relax.TensorType(shape, "float32")))[1]
    np.testing.assert_allclose(array(core.args[1]), scaled(name, weight, norm.scale), rtol=1e-6)
    expected = norm.shift + (norm.scale * added if bias else 0)
    np.testing.assert_allclose(array(total.args[1]).ravel(), expected, rtol=1e-5, atol=1e-6)


def test_a_chain_of_constants_after_a_convolution_becomes_its_bias() -> None:
    weight, scale, shift = floats(6, 4, 1, 1), floats(1, 6, 1, 1), floats(1)

    def body(builder: relax.BlockBuilder, data: Any) -> Any:
        result = builder.emit(relax.op.nn.conv2d(data, const(weight)))
        result = builder.emit(relax.op.multiply(const(scale), result))
        result = builder.emit(relax.op.subtract(const(shift), result))
        result = builder.emit(relax.op.divide(result, relax.const(np.float32(2.0))))
        return builder.emit(relax.op.negative(result))

    mod, report = fold_affine(build((1, 4, 5, 5), body))
    assert report.applied == 4
    assert sorted(ops(mod)) == ["add", "nn.conv2d"]
    np.testing.assert_allclose(array(calls(mod, "nn.conv2d")[0].args[1]), weight * scale.reshape(6, 1, 1, 1) / 2, 1e-6)
    np.testing.assert_allclose(array(calls(mod, "add")[0].args[1]).ravel(), np.full(6, -shift[0] / 2), 1e-6)


def norm_after(make: Callable[[relax.BlockBuilder, Any], Any], axis: int = 1, channels: int = 4) -> Any:
    return build((1, 4, 8, 8), lambda builder, data: Norm(channels).emit(builder, make(builder, data), axis))


def conv(builder: relax.BlockBuilder, data: Any) -> Any:
    return builder.emit(relax.op.nn.conv2d(data, const(floats(4, 4, 1, 1))))


REFUSALS = {
    "its input is an input of the model": lambda builder, data: data,
    "it follows relu, which is not a convolution or matrix product": lambda builder, data: builder.emit(
        relax.op.nn.relu(conv(builder, data))
    ),
    "the constant added to the conv2d is not one per channel": lambda builder, data: builder.emit(
        relax.op.add(conv(builder, data), const(floats(1, 4, 8, 8)))
    ),
}


@pytest.mark.parametrize("reason", REFUSALS)
def test_a_batch_norm_that_cannot_fold_becomes_multiply_and_add(reason: str) -> None:
    mod, report = fold_batch_norm(norm_after(REFUSALS[reason]))
    assert [kept.reason for kept in report.kept] == [reason]
    assert ops(mod)[-2:] == ["multiply", "add"]
    assert all(is_constant(call.args[1]) for call in (calls(mod, "multiply")[-1], calls(mod, "add")[-1]))


def test_a_convolution_that_others_read_is_left_alone() -> None:
    def body(builder: relax.BlockBuilder, data: Any) -> Any:
        shared = conv(builder, data)
        return builder.emit(relax.op.add(Norm(4).emit(builder, shared), shared))

    _, report = fold_batch_norm(build((1, 4, 8, 8), body))
    assert [kept.reason for kept in report.kept] == ["the conv2d before it has another consumer"]


def test_the_channels_must_be_the_normalized_axis() -> None:
    _, report = fold_batch_norm(norm_after(conv, axis=2, channels=8))
    assert "axis 2" in report.kept[0].reason


def test_weights_computed_at_run_time_are_refused() -> None:
    kernel = relax.Var("kernel", relax.TensorType((4, 4, 1, 1), "float32"))

    def body(builder: relax.BlockBuilder, data: Any) -> Any:
        return Norm(4).emit(builder, builder.emit(relax.op.nn.conv2d(data, kernel)))

    _, report = fold_batch_norm(build((1, 4, 8, 8), body, kernel))
    assert [kept.reason for kept in report.kept] == ["the weights of the conv2d are not constant"]


def test_division_by_a_zero_is_kept() -> None:
    divisor = const(np.array([1, 0, 1, 1], dtype="float32").reshape(1, 4, 1, 1))
    _, report = fold_affine(
        build((1, 4, 8, 8), lambda builder, data: builder.emit(relax.op.divide(conv(builder, data), divisor)))
    )
    assert [kept.reason for kept in report.kept] == ["its constant has a zero"]
