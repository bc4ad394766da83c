"""Rules that choose tiles and algorithms, packing, and Winograd's algebra: nothing here is compiled."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvmbuild.schedules.gemm.packing import pack_conv2d, pack_matrix
from tvmbuild.schedules.gemm.partial_sums import part_count
from tvmbuild.schedules.gemm.register_tile import choose_tile, vector_unit
from tvmbuild.schedules.gemm.tile_plan import lane_step, padded_depth, plan_conv2d, plan_matmul
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize import conv2d_plan
from tvmbuild.schedules.strassen import compute as strassen_compute
from tvmbuild.schedules.winograd import plan as winograd_plan
from tvmbuild.schedules.winograd.transform import (
    Filtering,
    pack_kernel,
    phase_kernel,
    relative_error,
    transform_kernel,
)
from tvmbuild.target.target import load_target

RPI4, RPI5 = load_target("rpi4"), load_target("rpi5")


@given(
    columns=st.integers(1, 300), channels=st.integers(1, 2048), exact=st.booleans(), board=st.sampled_from([RPI4, RPI5])
)
def test_tile_fits_the_registers(columns, channels, exact, board):
    tile = choose_tile(columns, channels, board, exact)
    unit = vector_unit(board)
    vectors = tile.channels // unit.lanes
    assert tile.channels % unit.lanes == 0
    assert tile.columns * vectors + tile.columns + 2 * vectors <= unit.registers
    assert tile.columns * tile.channels * 4 < 1024
    assert not exact or columns % tile.columns == 0


@pytest.mark.parametrize(("width", "channels"), [(56, 64), (28, 128), (14, 256), (7, 512), (13, 1000), (27, 32)])
def test_common_layers_waste_no_column(width, channels):
    plan = plan_conv2d(Conv2dGeometry(1, width, width, 64, channels, (1, 1)), RPI4)
    assert plan.columns == width
    assert plan.tile.columns * plan.tile.channels >= 7 * 4 * RPI4.core.fma_per_cycle


def test_prime_width_is_rounded_up_to_whole_tiles():
    plan = plan_conv2d(Conv2dGeometry(1, 17, 17, 64, 256, (1, 1)), RPI4)
    assert plan.columns > 17
    assert plan.columns % plan.tile.columns == 0


def test_channels_are_rounded_to_vectors_but_not_within_groups():
    assert padded_depth(7, 1, RPI4) == 8
    assert padded_depth(7, 2, RPI4) == 7
    assert padded_depth(3, 1, RPI4) == 3
    assert lane_step(9, RPI4) == 3
    assert lane_step(7, RPI4) == 1


def test_vector_product_keeps_every_accumulator_in_channels():
    plan = plan_matmul(1, 2048, 1000, RPI4)
    assert plan.tile.columns == 1
    assert plan.tile.channels >= 28


@given(
    out=st.integers(1, 20), depth=st.integers(1, 5), block=st.sampled_from([4, 8, 12]), groups=st.sampled_from([1, 2])
)
def test_packed_weights_are_the_weights(out, depth, block, groups):
    weight = np.random.default_rng(out).standard_normal((out * groups, depth, 2, 3)).astype(np.float32)
    packed = pack_conv2d(weight, block, groups)
    blocks = -(-out // block)
    assert packed.shape == (groups * blocks, 2, 3, depth, block)
    unpacked = packed.transpose(0, 4, 3, 1, 2).reshape(groups, blocks * block, depth, 2, 3)
    np.testing.assert_array_equal(unpacked[:, :out].reshape(weight.shape), weight)
    assert not unpacked[:, out:].any()


def test_packed_matrix_is_the_matrix():
    matrix = np.arange(3 * 10, dtype=np.float32).reshape(3, 10)
    packed = pack_matrix(matrix, 4)
    assert packed.shape == (3, 3, 4)
    np.testing.assert_array_equal(packed.transpose(1, 0, 2).reshape(3, 12)[:, :10], matrix)


@pytest.mark.parametrize(
    ("m", "taps", "stride"),
    [
        *((2, 3, 1), (3, 3, 1), (4, 3, 1), (5, 3, 1), (3, 4, 1), (4, 4, 1), (2, 2, 1), (3, 2, 1), (4, 2, 1), (5, 2, 1)),
        *((2, 5, 1), (3, 5, 1), (2, 3, 2), (3, 3, 2), (4, 3, 2), (5, 3, 2)),
    ],
)
def test_winograd_equals_convolution(m, taps, stride):
    rng = np.random.default_rng(1)
    filtering = Filtering(m, taps, stride)
    rows = (m - 1) * stride + taps
    assert filtering.rows == rows
    tile, kernel = rng.standard_normal((rows, rows)), rng.standard_normal((taps, taps))
    inputs = np.stack(filtering.inputs(list(np.stack(filtering.inputs(list(tile))).T))).T
    place = np.minimum(np.arange(filtering.places), filtering.weights - 1)
    products = inputs * transform_kernel(kernel, filtering)[place[:, None], place]
    outputs = np.stack(filtering.outputs(list(np.stack(filtering.outputs(list(products))).T))).T
    starts = range(0, stride * m, stride)
    expected = [[(tile[i : i + taps, j : j + taps] * kernel).sum() for j in starts] for i in starts]
    np.testing.assert_allclose(outputs, expected, rtol=1e-12, atol=1e-12)


def test_a_stride_of_two_shares_the_weights_of_the_phase_of_one_tap():
    filtering = Filtering(4, 3, 2)
    assert (filtering.places, filtering.weights) == (9, 6)
    assert np.linalg.matrix_rank(filtering.matrix()) == 3


@pytest.mark.parametrize(("size", "stride"), [(7, 2), (3, 2), (5, 3), (3, 1)])
def test_a_stride_is_none_on_the_phases(size, stride):
    rng = np.random.default_rng(size)
    taps = -(-size // stride)
    data, kernel = rng.standard_normal((3, taps * stride, taps * stride)), rng.standard_normal((2, 3, size, size))
    phases = data.reshape(3, taps, stride, taps, stride).transpose(2, 4, 0, 1, 3).reshape(-1, taps, taps)
    expected = (kernel * data[:, :size, :size]).sum((1, 2, 3))
    np.testing.assert_allclose((phase_kernel(kernel, stride) * phases).sum((1, 2, 3)), expected)


@pytest.mark.parametrize("m", [2, 4])
def test_winograd_weights_are_packed_by_position_and_block(m):
    kernel = np.random.default_rng(2).standard_normal((10, 3, 3, 3)).astype(np.float32)
    packed = pack_kernel(kernel, Filtering(m, 3), 8)
    assert packed.shape == ((m + 2) ** 2, 2, 3, 8)
    np.testing.assert_allclose(
        packed[5, 1, 2, 1], transform_kernel(kernel[9, 2], Filtering(m, 3)).reshape(-1)[5], rtol=1e-6
    )
    assert not packed[:, 1, :, 2:].any()


def test_winograd_error_grows_with_the_tile_and_is_seen_where_weights_are_bad():
    kernel = np.random.default_rng(3).standard_normal((8, 64, 3, 3)).astype(np.float32)
    small, large = relative_error(kernel, Filtering(2, 3)), relative_error(kernel, Filtering(4, 3))
    assert 0 < small < large < conv2d_plan.MAX_ERROR["float32"]
    cancelling = np.zeros((8, 64, 3, 3), np.float32)
    cancelling[:, ::2], cancelling[:, 1::2] = 1.0, -1.0
    cancelling[..., 1, 1] += 1e-3
    assert relative_error(np.full_like(kernel, 0), Filtering(4, 3)) == 0


def test_in_float16_only_the_small_winograd_tile_stays_within_the_error():
    kernel = (np.random.default_rng(3).standard_normal((16, 320, 3, 3)) / 50).astype(np.float16)
    small, large = relative_error(kernel, Filtering(2, 3)), relative_error(kernel, Filtering(4, 3))
    assert 1e-4 < small < conv2d_plan.MAX_ERROR["float16"] < large
    wide = Conv2dGeometry(1, 56, 56, 64, 64, (3, 3), padding=(1, 1, 1, 1))
    assert {plan.m for plan in conv2d_plan.alternatives(wide, load_target("rpi5"), "float16")} == {2}


@pytest.mark.parametrize(
    ("depth", "step", "parts"), [(256, 16, 1), (512, 16, 2), (2048, 16, 8), (264, 8, 3), (257, 1, 1)]
)
def test_deep_sums_of_halves_are_cut_into_equal_parts(depth, step, parts):
    assert part_count(depth, step) == parts


def test_tiles_of_halves_hold_twice_the_channels_and_keep_their_columns_in_16_registers():
    board = load_target("rpi5")
    assert vector_unit(board, "float16").lanes == 2 * vector_unit(board).lanes
    for columns in (7, 13, 27, 112):
        tile = choose_tile(columns, 1000, board, dtype="float16")
        assert tile.channels % 8 == 0
        assert tile.columns <= 9
    assert (lane_step(64, board, "float16"), lane_step(12, board, "float16")) == (8, 4)


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": (7, 7)},
        {"kernel": (1, 1)},
        {"kernel": (3, 5)},
        {"stride": (2, 1)},
        {"stride": (3, 3)},
        {"dilation": (2, 2)},
        {"groups": 2},
        {"in_channels": 3},
        {"out_channels": 10},
    ],
)
def test_winograd_is_for_small_square_kernels_without_groups_only(changes):
    values = {"kernel": (3, 3), "in_channels": 64, "out_channels": 64, "padding": (1, 1, 1, 1)} | changes
    assert winograd_plan.possible(Conv2dGeometry(batch=1, height=56, width=56, **values), RPI4, "float32") == []


def test_winograd_tile_follows_the_cost():
    wide = Conv2dGeometry(1, 56, 56, 64, 64, (3, 3), padding=(1, 1, 1, 1))
    deep = Conv2dGeometry(1, 7, 7, 512, 512, (3, 3), padding=(1, 1, 1, 1))
    tiny = Conv2dGeometry(1, 3, 3, 1024, 1024, (3, 3))
    assert conv2d_plan.alternatives(wide, RPI4, "float32")[0].m == 4
    assert conv2d_plan.alternatives(deep, RPI4, "float32")[0].m == 2
    assert conv2d_plan.alternatives(tiny, RPI4, "float32") == []


def test_strassen_equals_the_product_with_its_packed_weights():
    rng = np.random.default_rng(5)
    left, kernel = rng.standard_normal((2, 6)), rng.standard_normal((16, 6, 1, 1))
    packed = strassen_compute.pack_kernel(kernel, 8, 4)
    assert packed.shape == (7, 1, 3, 8)
    quarters = [[left[half : half + 1, :3], left[half : half + 1, 3:]] for half in (0, 1)]
    products = [a @ b[0] for a, b in zip(strassen_compute.transform_left(quarters), packed, strict=True)]
    results = strassen_compute.transform_back(products)
    exact = (left @ kernel[:, :, 0, 0].T).reshape(2, 2, 2, 4)
    for half in (0, 1):
        for side in (0, 1):
            np.testing.assert_allclose(results[2 * half + side][0], exact[half, :, side].reshape(-1), atol=1e-12)


def test_strassen_loses_little():
    kernel = np.random.default_rng(6).standard_normal((64, 256, 1, 1)).astype(np.float32)
    assert 0 < strassen_compute.relative_error(kernel) < 2e-6
    assert strassen_compute.relative_error(np.zeros_like(kernel)) == 0


@given(height=st.integers(1, 60), width=st.integers(1, 60))
def test_pairs_of_positions_cover_the_output_without_spanning_chunks(height, width):
    geometry = Conv2dGeometry(1, height, width, 64, 64, (1, 1))
    rows, pairs = strassen_compute.pair_rows(geometry)
    assert 0 <= 2 * rows * pairs - height * width <= 1
    assert rows == 1 or (height % rows == 0 and 2 * pairs == height // rows * width)


def test_strassen_is_for_deep_1x1_layers_with_few_weights_of_a_core_that_has_the_caches_for_itself():
    alone = dataclasses.replace(RPI4, cores=1)

    def kinds(target=alone, **values):
        plans = conv2d_plan.alternatives(Conv2dGeometry(batch=1, kernel=(1, 1), **values), target, "float32")
        return [type(plan) for plan in plans]

    strassen = [strassen_compute.StrassenPlan]
    assert kinds(height=28, width=28, in_channels=512, out_channels=256) == strassen
    assert kinds(height=56, width=56, in_channels=512, out_channels=256, stride=(2, 2)) == strassen
    assert kinds(height=28, width=28, in_channels=512, out_channels=256, target=RPI4) == []
    assert kinds(height=56, width=56, in_channels=16, out_channels=64) == []
    assert kinds(height=7, width=7, in_channels=512, out_channels=2048, target=RPI4) == []
    assert kinds(height=28, width=28, in_channels=512, out_channels=257) == []
    assert kinds(height=28, width=28, in_channels=512, out_channels=256, padding=(1, 1, 1, 1)) == []


def test_geometry_survives_its_numbers():
    geometry = Conv2dGeometry(2, 5, 7, 6, 8, (3, 1), (2, 1), (1, 3), (0, 1, 2, 3), 2)
    assert Conv2dGeometry.from_numbers(geometry.numbers()) == geometry
    assert (geometry.out_height, geometry.out_width) == (3, 11)
    assert "stride 2x1" in geometry.workload
