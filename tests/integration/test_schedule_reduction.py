"""Softmax, normalisation, sums, maxima and pooling against NumPy."""

import numpy as np
import pytest
from schedule_harness import build_module, random_arrays, run
from tvm import relax

pytestmark = pytest.mark.integration

op = relax.op
SHAPES = [(1, 40, 120), (3, 7, 33), (1, 1, 5), (1, 3, 1), (2, 8, 40, 37)]


def check(shapes, body, expected, kind):
    arguments = random_arrays(shapes)
    result, kinds = run(build_module(shapes, body), arguments)
    assert kind in kinds
    assert "naive" not in kinds
    # Sums of up to some thousand terms in float32, in another order than NumPy's.
    np.testing.assert_allclose(result, expected(*(x.astype(np.float64) for x in arguments)), rtol=2e-5, atol=2e-5)


def softmax(x, axis):
    shifted = np.exp(x - x.max(axis, keepdims=True))
    return shifted / shifted.sum(axis, keepdims=True)


@pytest.mark.parametrize("shape", SHAPES)
def test_softmax(shape):
    check([shape], lambda x: op.nn.softmax(x, -1), lambda x: softmax(x, -1), "reduction")
    check([shape], lambda x: op.nn.softmax(x, 1), lambda x: softmax(x, 1), "reduction")


@pytest.mark.parametrize("shape", SHAPES)
def test_layer_norm(shape):
    def normalise(x, gain, bias):
        centred = x - x.mean(-1, keepdims=True)
        return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * gain + bias

    def decomposed(x, gain, bias):
        centred = op.subtract(x, op.mean(x, axis=[-1], keepdims=True))
        variance = op.mean(op.multiply(centred, centred), axis=[-1], keepdims=True)
        normal = op.divide(centred, op.sqrt(op.add(variance, relax.const(1e-5, "float32"))))
        return op.add(op.multiply(normal, gain), bias)

    shapes = [shape, shape[-1:], shape[-1:]]
    check(shapes, decomposed, normalise, "reduction")
    check(shapes, lambda x, g, b: op.nn.layer_norm(x, g, b, axes=[-1]), normalise, "reduction")


@pytest.mark.parametrize("shape", [(1, 14, 14, 64), (1, 7, 5, 33), (1, 1, 1, 3), (2, 3, 50, 48)])
@pytest.mark.parametrize("axes", [[-1], [1, 2], [0], [0, 1, 2, 3]])
def test_sum_and_maximum(shape, axes):
    check([shape], lambda x: op.sum(x, axes), lambda x: x.sum(tuple(axes)), "reduction")
    check([shape], lambda x: op.max(x, axes, keepdims=True), lambda x: x.max(tuple(axes), keepdims=True), "reduction")


def test_maximum_of_infinities():
    data = np.full((1, 37), -np.inf, "float32")
    result, _ = run(build_module([(1, 37)], lambda x: op.max(x, [-1])), [data])
    # TVM starts from the lowest finite float, as its own lowering does.
    assert result[0] <= np.finfo("float32").min


def windows(x, kernel, stride, padding, fill):
    top, left, bottom, right = padding
    padded = np.pad(x, ((0, 0), (top, bottom), (left, right), (0, 0)), constant_values=fill)
    view = np.lib.stride_tricks.sliding_window_view(padded, kernel, axis=(1, 2))
    return view[:, :: stride[0], :: stride[1]]


@pytest.mark.parametrize("shape", [(1, 14, 14, 64), (1, 7, 5, 33), (1, 9, 11, 3), (2, 28, 28, 24)])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"),
    [((3, 3), (2, 2), (1, 1, 1, 1)), ((2, 2), (2, 2), (0, 0, 0, 0)), ((3, 2), (2, 1), (0, 1, 1, 0))],
)
def test_pooling(shape, kernel, stride, padding):
    check(
        [shape],
        lambda x: op.nn.relu(op.nn.max_pool2d(x, kernel, stride, padding, layout="NHWC")),
        lambda x: np.maximum(windows(x, kernel, stride, padding, -np.inf).max((-1, -2)), 0),
        "pool",
    )
    check(
        [shape],
        lambda x: op.nn.avg_pool2d(x, kernel, stride, padding, layout="NHWC", count_include_pad=True),
        lambda x: windows(x, kernel, stride, padding, 0).mean((-1, -2)),
        "pool",
    )


def test_global_average_pool():
    check(
        [(1, 7, 9, 100)],
        lambda x: op.nn.adaptive_avg_pool2d(x, (1, 1), layout="NHWC"),
        lambda x: x.mean((1, 2), keepdims=True),
        "reduction",
    )
