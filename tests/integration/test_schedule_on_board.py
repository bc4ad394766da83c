"""Kernels of matrix-product form on the emulated boards: code for Cortex-A72 and Cortex-A76 against NumPy."""

import numpy as np
import pytest
import tvm
from one_core import algorithms_of_one_core
from tvm import relax

from tvmbuild import schedules
from tvmbuild.codegen.link import export_objects, link_library
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.graph.pipeline import make_kernels
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration

#: As in test_schedule_conv2d: of the largest output.
DIRECT, WINOGRAD = 2e-6, 4e-5


def convolve(data, weight, stride, padding, groups):
    data = np.pad(data.astype(np.float64), ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    out, depth, kernel_h, kernel_w = weight.shape
    height, width = (data.shape[1] - kernel_h) // stride + 1, (data.shape[2] - kernel_w) // stride + 1
    result = np.zeros((data.shape[0], height, width, out))
    share = out // groups
    for i in range(kernel_h):
        for j in range(kernel_w):
            window = data[:, i : i + (height - 1) * stride + 1 : stride, j : j + (width - 1) * stride + 1 : stride]
            for g in range(groups):
                taken = slice(g * share, (g + 1) * share)
                result[..., taken] += window[..., g * depth : (g + 1) * depth] @ weight[taken, :, i, j].T
    return result


CONVOLUTIONS = [
    # input, output channels, kernel, stride, padding, groups
    ((1, 19, 17, 3), 12, 3, 2, 1, 1),
    ((1, 13, 13, 20), 24, 1, 1, 0, 1),
    ((1, 14, 14, 24), 33, 1, 1, 0, 1),
    ((1, 9, 11, 7), 10, 3, 1, 1, 1),
    ((1, 12, 12, 12), 10, 3, 1, 1, 2),
    ((1, 15, 15, 16), 8, 5, 2, 2, 1),
    ((1, 13, 13, 32), 64, 3, 1, 1, 1),
    ((1, 28, 27, 16), 32, 3, 1, 1, 1),
]


@pytest.mark.parametrize("board", ["rpi4", "rpi5"])
def test_convolutions_and_a_product_on_the_board(board, tmp_path):
    """One library with every layer: starting the emulated board costs more than running it."""
    target = load_target(board)
    rng = np.random.default_rng(0)
    builder = relax.BlockBuilder()
    inputs = [rng.standard_normal(layer[0]).astype(np.float32) for layer in CONVOLUTIONS]
    inputs.append(rng.standard_normal((21, 36)).astype(np.float32))
    variables = [relax.Var(f"x{i}", relax.TensorType(value.shape, "float32")) for i, value in enumerate(inputs)]
    expected, values = [], []
    with builder.function("main", variables):
        with builder.dataflow():
            for variable, data, (shape, out, kernel, stride, padding, groups) in zip(
                variables, inputs, CONVOLUTIONS, strict=False
            ):
                weight = rng.standard_normal((out, shape[3] // groups, kernel, kernel)).astype(np.float32)
                bias = rng.standard_normal((1, 1, 1, out)).astype(np.float32)
                attributes = {"strides": stride, "padding": padding, "groups": groups}
                value = relax.op.nn.conv2d(
                    variable, relax.const(weight), data_layout="NHWC", kernel_layout="OIHW", **attributes
                )
                values.append(builder.emit(relax.op.nn.relu(relax.op.add(value, relax.const(bias)))))
                expected.append(np.maximum(convolve(data, weight, stride, padding, groups) + bias, 0))
            matrix = rng.standard_normal((36, 50)).astype(np.float32)
            values.append(builder.emit(relax.op.matmul(variables[-1], relax.const(matrix))))
            expected.append(inputs[-1].astype(np.float64) @ matrix)
            result = builder.emit_output(relax.Tuple(values))
        builder.emit_func_output(result)
    with algorithms_of_one_core():
        mod, reports = schedules.schedule_module(make_kernels(builder.get(), target, schedules), target)
    kinds = {report.kind for report in reports if report.macs}
    assert kinds == {"conv2d.direct", "conv2d.winograd", "matmul"}
    objects = export_objects(tvm.compile(mod, target.to_tvm()), tmp_path)
    library = tmp_path / "kernels.so"
    link_library(objects, library, target, find_toolchain(target))
    outputs = open_device("emulated", target).run(RunRequest(library, inputs, threads=2)).outputs
    for layer, output, exact in zip([*CONVOLUTIONS, None], outputs, expected, strict=True):
        tolerance = WINOGRAD if layer and layer[2] == 3 and layer[3] == 1 else DIRECT
        assert np.abs(output - exact).max() <= tolerance * np.abs(exact).max(), layer
