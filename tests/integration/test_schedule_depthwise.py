"""Depthwise convolution against its definition in float64."""

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from schedule_harness import build_module, random_arrays, run
from tvm import relax

pytestmark = pytest.mark.integration


def definition(data, kernel, stride, dilation, padding):
    """data NHWC, kernel (channels, 1, rows, columns)."""
    top, left, bottom, right = padding
    padded = np.pad(data.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    _, _, rows, columns = kernel.shape
    height = (padded.shape[1] - dilation * (rows - 1) - 1) // stride + 1
    width = (padded.shape[2] - dilation * (columns - 1) - 1) // stride + 1
    total = np.zeros((data.shape[0], height, width, data.shape[3]))
    for i in range(rows):
        for j in range(columns):
            y, x = i * dilation, j * dilation
            window = padded[:, y : y + (height - 1) * stride + 1 : stride, x : x + (width - 1) * stride + 1 : stride]
            total += window * kernel[:, 0, i, j]
    return total


def check(shape, kernel, stride, dilation, padding, epilogue=True):
    channels = shape[3]
    weight, bias = random_arrays([(channels, 1, *kernel), (channels,)], seed=1)

    def body(x):
        y = relax.op.nn.conv2d(
            x,
            relax.const(weight),
            strides=stride,
            dilation=dilation,
            padding=padding,
            groups=channels,
            data_layout="NHWC",
            kernel_layout="OIHW",
        )
        return relax.op.nn.relu(relax.op.add(y, relax.const(bias))) if epilogue else y

    arguments = random_arrays([shape])
    result, kinds = run(build_module([shape], body), arguments)
    expected = definition(arguments[0], weight, stride, dilation, padding)
    assert kinds == ("depthwise",)
    # At most 49 products of standard normal numbers are summed in float32.
    np.testing.assert_allclose(result, np.maximum(expected + bias, 0) if epilogue else expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize(
    ("shape", "kernel", "stride", "dilation", "padding"),
    [
        ((1, 14, 14, 32), (3, 3), 1, 1, (1, 1, 1, 1)),
        ((1, 7, 9, 33), (3, 3), 1, 1, (1, 1, 1, 1)),
        ((1, 9, 11, 24), (3, 3), 2, 1, (1, 1, 1, 1)),
        ((1, 9, 11, 16), (5, 5), 1, 1, (2, 2, 2, 2)),
        ((1, 12, 20, 16), (3, 3), 1, 5, (5, 5, 5, 5)),
        ((1, 1, 1, 8), (3, 3), 1, 1, (1, 1, 1, 1)),
        ((1, 5, 3, 16), (3, 3), 1, 1, (0, 1, 2, 0)),
        ((1, 5, 40, 16), (3, 3), 2, 1, (0, 0, 1, 1)),
        ((1, 2, 13, 5), (1, 1), 1, 1, (0, 0, 0, 0)),
        ((1, 1, 41, 12), (1, 7), 1, 1, (0, 3, 0, 3)),
        ((2, 40, 40, 64), (7, 7), 1, 1, (3, 3, 3, 3)),
    ],
)
def test_agrees_with_the_definition(shape, kernel, stride, dilation, padding):
    check(shape, kernel, stride, dilation, padding)


def test_without_an_epilogue():
    check((1, 10, 13, 20), (3, 3), 1, 1, (1, 1, 1, 1), epilogue=False)


@settings(max_examples=12, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 12), st.integers(1, 23), st.integers(2, 40)),
    kernel=st.tuples(st.integers(1, 5), st.integers(1, 5)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 3),
    padding=st.tuples(*[st.integers(0, 4)] * 4),
)
def test_any_geometry(shape, kernel, stride, dilation, padding):
    for axis in (0, 1):
        reach = dilation * (kernel[axis] - 1) + 1
        assume(shape[1 + axis] + padding[axis] + padding[axis + 2] >= reach)
    check(shape, kernel, stride, dilation, padding)
