"""Integer kernels give what NumPy's integers give, bit for bit, on this machine and on both emulated cores."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tvm
from int8_cases import Layer, Network, make_network
from tvm import relax

from tvmbuild import schedules
from tvmbuild.codegen.link import export_objects, link_library
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.graph.pipeline import make_kernels
from tvmbuild.target.target import load_target

ALL = (1, 1, 1, 1)
LAYERS = {
    "one_of_all": Layer((1, 1, 1, 1), 1, (1, 1)),
    "1x1": Layer((1, 7, 13, 16), 8, (1, 1)),
    "1x1_odd": Layer((1, 7, 13, 17), 11, (1, 1), raw=True),
    "1x1_one_position": Layer((1, 1, 1, 64), 100, (1, 1)),
    "1x1_stride": Layer((1, 9, 9, 8), 16, (1, 1), (2, 2)),
    "1x1_batch": Layer((2, 8, 8, 24), 24, (1, 1), residual=True),
    "1x1_blocks": Layer((1, 20, 20, 48), 96, (1, 1), low=0, residual=True),
    "1x1_deep": Layer((1, 3, 3, 1024), 20, (1, 1), extreme=True, raw=True),
    "first": Layer((1, 23, 19, 3), 16, (3, 3), (2, 2), ALL, pad_value=-7),
    "first_7x7": Layer((1, 32, 33, 3), 24, (7, 7), (2, 2), (3, 3, 3, 3), pad_value=-128, low=3),
    "first_no_padding": Layer((1, 21, 21, 3), 16, (3, 3), (2, 2)),
    "one_input_channel": Layer((1, 11, 13, 1), 5, (5, 3), padding=(2, 1, 2, 1), pad_value=3),
    "one_output_channel": Layer((1, 11, 13, 5), 1, (5, 3), padding=(2, 1, 2, 1)),
    "asymmetric": Layer((1, 10, 10, 12), 21, (3, 3), padding=(0, 1, 2, 0), pad_value=-5),
    "dilation": Layer((1, 31, 31, 4), 8, (3, 3), padding=(7, 7, 7, 7), dilation=(7, 7), pad_value=9),
    "groups": Layer((1, 12, 12, 12), 18, (3, 3), padding=ALL, groups=3, pad_value=2),
    "groups_whole_blocks": Layer((1, 12, 12, 32), 32, (3, 3), padding=ALL, groups=2, pad_value=127),
    "groups_stride": Layer((1, 12, 12, 10), 4, (3, 3), (2, 2), groups=2, raw=True),
    "larger_than_image": Layer((1, 3, 3, 6), 8, (5, 5), padding=(2, 2, 2, 2), pad_value=1),
    "row": Layer((1, 1, 40, 16), 24, (1, 9), padding=(0, 4, 0, 4)),
    "strides_differ": Layer((1, 17, 13, 7), 19, (2, 3), (3, 2)),
    "3x3": Layer((1, 13, 13, 48), 64, (3, 3), padding=ALL, pad_value=-3),
    "3x3_extreme": Layer((1, 9, 9, 64), 32, (3, 3), padding=ALL, pad_value=-128, extreme=True, raw=True),
    "3x3_least_weights": Layer((1, 9, 9, 32), 16, (3, 3), padding=ALL, extreme=True, least=-128, raw=True),
    "depthwise": Layer((1, 13, 11, 32), 32, (3, 3), padding=ALL, groups=32, pad_value=4),
    "depthwise_odd": Layer((1, 13, 11, 33), 33, (3, 3), padding=ALL, groups=33, residual=True),
    "depthwise_stride": Layer((1, 15, 14, 24), 24, (3, 3), (2, 2), (0, 0, 1, 1), groups=24, pad_value=-9),
    "depthwise_dilation": Layer((1, 19, 17, 7), 7, (5, 5), padding=(6,) * 4, dilation=(3, 3), groups=7),
    "depthwise_multiplier": Layer((1, 9, 9, 5), 10, (3, 3), padding=ALL, groups=5, pad_value=3),
    "depthwise_7x7": Layer((2, 9, 10, 16), 16, (7, 7), padding=(3, 3, 3, 3), groups=16, extreme=True, raw=True),
    "depthwise_least": Layer((1, 9, 9, 16), 16, (3, 3), groups=16, extreme=True, least=-128, raw=True),
    "matmul": Layer((13, 17), 19),
    "matmul_vector": Layer((1, 257), 101, low=-20),
    "matmul_leading": Layer((2, 7, 24), 5),
    "matmul_extreme": Layer((5, 2048), 16, extreme=True, raw=True),
}


def run_on_board(network: Network, board: str, folder: Path) -> list[np.ndarray]:
    target = load_target(board)
    objects = export_objects(tvm.compile(network.module, target.to_tvm()), folder)
    link_library(objects, folder / "kernels.so", target, find_toolchain(target))
    request = RunRequest(folder / "kernels.so", network.inputs, threads=2)
    return list(open_device("emulated", target).run(request).outputs)


def run_here(network: Network) -> list[np.ndarray]:
    machine = relax.VirtualMachine(tvm.compile(network.module, load_target("host").to_tvm()), tvm.cpu())
    return [output.numpy() for output in machine["main"](*map(tvm.runtime.tensor, network.inputs))]


@pytest.mark.parametrize("board", ["rpi4", "rpi5", "host"])
def test_layers_equal_numpy_bit_for_bit(board: str, tmp_path: Path) -> None:
    """One library with every layer: starting the emulated board costs more than running it."""
    network = make_network(list(LAYERS.values()), load_target(board))
    assert {report.kind for report in network.reports} == {"conv2d.int8", "matmul.int8", "depthwise.int8"}
    outputs = run_here(network) if board == "host" else run_on_board(network, board, tmp_path)
    for name, output, expected in zip(LAYERS, outputs, network.expected, strict=True):
        np.testing.assert_array_equal(output, expected, err_msg=name)


def test_cases_saturate_and_reach_the_largest_sums() -> None:
    network = make_network([LAYERS["3x3"], LAYERS["1x1_deep"], LAYERS["3x3_least_weights"]], load_target("host"))
    codes, sums, least = network.expected
    assert {codes.min(), codes.max()} == {-128, 127}
    assert np.abs(sums).max() > 128 * 127 * 64
    assert least.max() > 2**15


@pytest.mark.parametrize("name", ["1x1_blocks", "depthwise"])
def test_the_least_of_every_knob_computes_the_same(name: str) -> None:
    target, layer = load_target("host"), LAYERS[name]
    report = max(make_network([layer], target).reports, key=lambda kernel: kernel.macs)
    assert report.schedule
    for knob in report.schedule:
        network = make_network([layer], target, {report.name: {knob: 1}})
        assert all(not kernel.note for kernel in network.reports)
        np.testing.assert_array_equal(run_here(network)[0], network.expected[0])


def test_max_pooling_of_codes_is_vectorized_like_that_of_numbers() -> None:
    target = load_target("host")
    data = np.random.default_rng(0).integers(-128, 128, (1, 13, 13, 40)).astype(np.int8)
    variable = relax.Var("x", relax.TensorType(data.shape, "int8"))
    builder = relax.BlockBuilder()
    with builder.function("main", [variable]):
        with builder.dataflow():
            pooled = relax.op.nn.max_pool2d(variable, (3, 3), (2, 2), (1, 1, 1, 1), layout="NHWC")
            result = builder.emit_output(builder.normalize(pooled))
        builder.emit_func_output(result)
    fused = make_kernels(builder.get(), target, schedules)
    network = Network(*schedules.schedule_module(fused, target), [data])
    assert [report.kind for report in network.reports] == ["pool"]
    padded = np.pad(data, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-128)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    machine = relax.VirtualMachine(tvm.compile(network.module, target.to_tvm()), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(data)).numpy(), windows.max(axis=(4, 5)))
