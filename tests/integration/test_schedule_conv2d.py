"""Convolutions and matrix products against NumPy in float64, on this machine.

Tolerance: float32 sums of n products differ from exact ones by about sqrt(n) ulp of the largest output; 2e-6 of it
covers the depths here. Winograd's rule lets a layer differ by 2e-5 in the mean case; its tests allow twice that.
"""

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from tvmbuild import schedules
from tvmbuild.graph.pipeline import make_kernels
from tvmbuild.schedules.legalize import conv2d_plan
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration

HOST = load_target("host")
DIRECT, FAST = 2e-6, 4e-5


def build(mod, target=HOST):
    mod, reports = schedules.schedule_module(make_kernels(mod, target, schedules), target)
    return tvm.compile(mod, target.to_tvm()), reports


def run(executable, *inputs):
    machine = relax.VirtualMachine(executable, tvm.cpu())
    return machine["main"](*(tvm.runtime.tensor(value) for value in inputs)).numpy()


def function(inputs, body):
    builder = relax.BlockBuilder()
    variables = [relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(inputs)]
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(builder.emit(body(*variables)))
        builder.emit_func_output(result)
    return builder.get()


def convolve(data, weight, stride, padding, dilation, groups):
    """Convolve NHWC by OIHW in float64; padding is top, left, bottom, right."""
    top, left, bottom, right = padding
    data = np.pad(data.astype(np.float64), ((0, 0), (top, bottom), (left, right), (0, 0)))
    out, depth, kernel_h, kernel_w = weight.shape
    height = (data.shape[1] - dilation * (kernel_h - 1) - 1) // stride + 1
    width = (data.shape[2] - dilation * (kernel_w - 1) - 1) // stride + 1
    result = np.zeros((data.shape[0], height, width, out))
    share = out // groups
    for i in range(kernel_h):
        for j in range(kernel_w):
            window = data[:, i * dilation :, j * dilation :][:, : (height - 1) * stride + 1 : stride]
            window = window[:, :, : (width - 1) * stride + 1 : stride]
            for g in range(groups):
                taken = slice(g * share, (g + 1) * share)
                result[..., taken] += window[..., g * depth : (g + 1) * depth] @ weight[taken, :, i, j].T
    return result


def check(shape, out, kernel, stride=1, padding=(0, 0, 0, 0), dilation=1, groups=1, fused=True):
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((out, shape[3] // groups, *kernel)).astype(np.float32)
    data = rng.standard_normal(shape).astype(np.float32)
    expected = convolve(data, weight, stride, padding, dilation, groups)
    bias = rng.standard_normal((1, 1, 1, out)).astype(np.float32)
    residual = rng.standard_normal(expected.shape).astype(np.float32)

    def body(x, r):
        attributes = {"strides": stride, "padding": list(padding), "dilation": dilation, "groups": groups}
        y = relax.op.nn.conv2d(x, relax.const(weight), data_layout="NHWC", kernel_layout="OIHW", **attributes)
        return relax.op.nn.relu(relax.op.add(relax.op.add(y, relax.const(bias)), r)) if fused else y

    executable, reports = build(function([shape, expected.shape], body))
    result = run(executable, data, residual)
    expected = np.maximum(expected + bias + residual, 0) if fused else expected
    kinds = [report.kind for report in reports if report.macs]
    tolerance = DIRECT if kinds == ["conv2d.direct"] else FAST
    assert np.abs(result - expected).max() <= tolerance * np.abs(expected).max()
    return kinds


@pytest.mark.parametrize(
    ("shape", "out", "options"),
    [
        ((1, 1, 1, 1), 1, {"kernel": (1, 1)}),
        ((1, 1, 1, 64), 100, {"kernel": (1, 1)}),
        ((1, 13, 17, 7), 11, {"kernel": (1, 1)}),
        ((2, 8, 8, 16), 24, {"kernel": (1, 1)}),
        ((1, 9, 9, 8), 16, {"kernel": (1, 1), "stride": 2}),
        ((1, 23, 19, 3), 16, {"kernel": (3, 3), "stride": 2, "padding": (1, 1, 1, 1)}),
        ((1, 32, 32, 3), 24, {"kernel": (7, 7), "stride": 2, "padding": (3, 3, 3, 3)}),
        ((1, 11, 13, 5), 1, {"kernel": (5, 3), "padding": (2, 1, 2, 1)}),
        ((1, 10, 10, 12), 21, {"kernel": (3, 3), "padding": (0, 1, 2, 0)}),
        ((1, 31, 31, 4), 8, {"kernel": (3, 3), "dilation": 7, "padding": (7, 7, 7, 7)}),
        ((1, 12, 12, 12), 18, {"kernel": (3, 3), "groups": 3, "padding": (1, 1, 1, 1)}),
        ((1, 12, 12, 10), 4, {"kernel": (3, 3), "groups": 2, "stride": 2}),
        ((1, 28, 28, 72), 102, {"kernel": (1, 1), "groups": 3}),
        ((2, 9, 11, 8), 38, {"kernel": (3, 3), "groups": 2, "padding": (1, 1, 1, 1)}),
        ((3, 7, 5, 9), 33, {"kernel": (2, 2)}),
        ((1, 1, 40, 16), 24, {"kernel": (1, 9), "padding": (0, 4, 0, 4)}),
        ((1, 3, 3, 6), 8, {"kernel": (5, 5), "padding": (2, 2, 2, 2)}),
    ],
)
def test_direct_over_odd_shapes(shape, out, options, monkeypatch):
    monkeypatch.setattr(conv2d_plan, "alternatives", lambda *_: [])
    assert check(shape, out, **options) == ["conv2d.direct"]


@pytest.mark.parametrize(
    ("shape", "out", "padding"),
    [
        ((1, 56, 56, 64), 64, (1, 1, 1, 1)),
        ((1, 28, 28, 32), 128, (1, 1, 1, 1)),
        ((1, 13, 13, 64), 256, (1, 1, 1, 1)),
        ((2, 17, 19, 32), 36, (0, 0, 0, 0)),
        ((1, 14, 15, 32), 64, (0, 1, 2, 1)),
        ((1, 64, 20, 16), 20, (1, 1, 1, 1)),
        ((1, 120, 160, 32), 32, (1, 1, 1, 1)),
    ],
)
def test_winograd_over_odd_shapes(shape, out, padding):
    assert check(shape, out, (3, 3), padding=padding) == ["conv2d.winograd"]


@pytest.mark.parametrize(
    ("shape", "out", "options"),
    [
        ((1, 61, 50, 3), 32, {"kernel": (7, 7), "stride": 2, "padding": (3, 3, 3, 3)}),
        ((2, 33, 29, 4), 24, {"kernel": (7, 7), "stride": 2, "padding": (2, 3, 1, 0)}),
        ((1, 27, 31, 16), 20, {"kernel": (3, 3), "stride": 2, "padding": (1, 1, 1, 1)}),
        ((2, 22, 17, 8), 24, {"kernel": (3, 3), "stride": 2, "padding": (0, 1, 1, 0)}),
        ((1, 27, 31, 4), 20, {"kernel": (3, 3), "stride": 2, "padding": (1, 1, 1, 1)}),
        ((1, 16, 13, 16), 12, {"kernel": (3, 3), "padding": (1, 1, 1, 1)}),
        ((1, 15, 22, 5), 16, {"kernel": (6, 6), "stride": 4, "padding": (0, 1, 2, 0)}),
        ((1, 19, 17, 12), 24, {"kernel": (5, 5), "padding": (2, 2, 2, 2)}),
        ((1, 18, 21, 12), 24, {"kernel": (4, 4), "padding": (0, 0, 0, 0)}),
        ((1, 11, 13, 16), 12, {"kernel": (2, 2), "padding": (1, 0, 0, 1)}),
    ],
)
@pytest.mark.parametrize("size", range(4))
def test_winograd_of_other_kernels_and_strides(shape, out, options, size, monkeypatch):
    """``size``: which of the tiles that can be used, the largest first; some have fewer."""

    used = []

    def one(*arguments):
        plans = conv2d_plan.possible(*arguments)[size : size + 1]
        used.extend(plans)
        return plans

    monkeypatch.setattr(conv2d_plan, "alternatives", one)
    assert check(shape, out, **options) == ["conv2d.winograd" if used else "conv2d.direct"]
    assert used or size > 0


@pytest.mark.parametrize(
    ("shape", "out", "stride"),
    [
        ((1, 14, 14, 64), 128, 1),
        ((1, 13, 13, 48), 96, 1),
        ((2, 7, 9, 40), 160, 1),
        ((1, 10, 7, 64), 32, 1),
        ((1, 15, 11, 32), 64, 2),
        ((1, 1, 1, 64), 64, 1),
        ((1, 40, 56, 128), 256, 1),
    ],
)
def test_strassen_over_odd_shapes(shape, out, stride, monkeypatch):
    monkeypatch.setattr(conv2d_plan, "alternatives", conv2d_plan.possible)
    assert check(shape, out, (1, 1), stride) == ["conv2d.strassen"]


def test_without_epilogue():
    check((1, 9, 9, 8), 12, (3, 3), fused=False)
    check((1, 28, 28, 64), 64, (3, 3), padding=(1, 1, 1, 1), fused=False)


@settings(max_examples=15)
@given(
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    groups=st.integers(1, 3),
    depth=st.integers(1, 20),
    share=st.integers(1, 20),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
)
def test_any_convolution(height, width, groups, depth, share, kernel, stride, dilation, padding):
    height = max(height, dilation * (kernel[0] - 1) + 1)
    width = max(width, dilation * (kernel[1] - 1) + 1)
    depth = max(depth, 2)
    check((1, height, width, depth * groups), share * groups, kernel, stride, padding, dilation, groups)


def test_operator_fused_before_a_convolution():
    weight = np.random.default_rng(7).standard_normal((16, 8, 3, 3)).astype(np.float32)
    data = np.random.default_rng(8).standard_normal((1, 12, 12, 8)).astype(np.float32)
    bias = np.random.default_rng(9).standard_normal((1, 1, 1, 8)).astype(np.float32)

    def body(x):
        y = relax.op.nn.relu(relax.op.add(x, relax.const(bias)))
        return relax.op.nn.conv2d(y, relax.const(weight), padding=1, data_layout="NHWC", kernel_layout="OIHW")

    executable, reports = build(function([data.shape], body))
    assert "naive" not in [report.kind for report in reports]
    expected = convolve(np.maximum(data + bias, 0), weight, 1, (1, 1, 1, 1), 1, 1)
    assert np.abs(run(executable, data) - expected).max() <= FAST * np.abs(expected).max()


def test_nan_and_infinity_reach_only_the_outputs_that_see_them():
    data = np.ones((1, 9, 11, 6), np.float32)
    data[0, 2, 3, 1], data[0, 6, 8, 2] = np.nan, np.inf
    weight = np.random.default_rng(4).standard_normal((10, 6, 3, 3)).astype(np.float32)

    def body(x):
        return relax.op.nn.conv2d(x, relax.const(weight), padding=1, data_layout="NHWC", kernel_layout="OIHW")

    executable, _ = build(function([data.shape], body))
    expected = convolve(data, weight, 1, (1, 1, 1, 1), 1, 1)
    result = run(executable, data)
    np.testing.assert_array_equal(np.isnan(result), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(result), np.isinf(expected))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ((1, 7), (7, 1)),
        ((1, 512), (512, 1000)),
        ((197, 64), (64, 48)),
        ((13, 17), (17, 19)),
        ((1, 40, 24), (24, 97)),
        ((3, 5, 24), (24, 16)),
        ((2, 3, 10, 16), (16, 8)),
    ],
)
def test_matrix_product_with_constant_weights(left, right):
    rng = np.random.default_rng(5)
    weight = rng.standard_normal(right).astype(np.float32)
    bias = rng.standard_normal(right[-1:]).astype(np.float32)
    data = rng.standard_normal(left).astype(np.float32)
    mod = function([left], lambda x: relax.op.add(relax.op.matmul(x, relax.const(weight)), relax.const(bias)))
    executable, reports = build(mod)
    assert [report.kind for report in reports] == ["matmul"]
    expected = data.astype(np.float64) @ weight + bias
    assert np.abs(run(executable, data) - expected).max() <= DIRECT * np.abs(expected).max()


@pytest.mark.parametrize(
    ("left", "right"),
    [((5, 7), (7, 9)), ((2, 3, 17, 16), (2, 3, 16, 17)), ((4, 8, 32), (4, 32, 24)), ((1, 6, 8), (1, 8, 5))],
)
def test_matrix_product_of_two_inputs(left, right):
    rng = np.random.default_rng(6)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in (left, right))
    executable, reports = build(function([left, right], relax.op.matmul))
    assert [report.kind for report in reports] == ["matmul"]
    expected = a.astype(np.float64) @ b
    assert np.abs(run(executable, a, b) - expected).max() <= DIRECT * np.abs(expected).max()
