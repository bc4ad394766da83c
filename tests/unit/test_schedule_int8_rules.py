"""Packing of integer weights and the rules of integer tiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.int8 import packing as int8_packing
from tvmbuild.schedules.int8.form import int8_form
from tvmbuild.schedules.int8.plan import plan_conv2d, plan_matmul, rounded_depth
from tvmbuild.target.target import load_target

BOARDS = ("rpi3", "rpi4", "rpi5", "generic-aarch64")


@given(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.sampled_from([4, 8]), st.sampled_from([4, 8, 16]))
def test_every_weight_has_one_place_and_the_rest_are_zeros(
    groups: int, share: int, depth: int, block: int, run: int
) -> None:
    weight = np.arange(1, groups * share * depth * 2 + 1).reshape(groups * share, depth, 1, 2)
    blocks, runs = -(-share // block), -(-depth // run)
    packed = int8_packing.pack_conv2d(weight, block, run, runs, groups)
    assert packed.shape == (groups * blocks, 1, 2, runs, block, run)
    for out, channel, tap in np.ndindex(groups * share, depth, 2):
        group, within = divmod(out, share)
        place = (group * blocks + within // block, 0, tap, channel // run, within % block, channel % run)
        assert packed[place] == weight[out, channel, 0, tap]
    assert np.count_nonzero(packed) == weight.size


def test_a_window_is_packed_row_by_row() -> None:
    weight = np.arange(1, 28).reshape(1, 3, 3, 3)
    packed = int8_packing.pack_im2col(weight, 4, 16, 2)
    assert packed.shape == (1, 1, 1, 2, 4, 16)
    flat = packed[0, 0, 0, :, 0].reshape(-1)
    np.testing.assert_array_equal(flat[:27], weight[0].transpose(1, 2, 0).reshape(-1))
    assert not flat[27:].any()


def test_depthwise_weights_lie_in_vectors_of_channels() -> None:
    weight = np.arange(1, 19).reshape(9, 1, 1, 2)
    packed = int8_packing.pack_depthwise(weight, 8)
    assert packed.shape == (1, 2, 2, 8)
    np.testing.assert_array_equal(packed[0, 1].reshape(-1)[:9], weight[:, 0, 0, 1])


@pytest.mark.parametrize("board", BOARDS)
@given(st.integers(1, 200), st.integers(1, 600), st.integers(1, 300))
def test_a_tile_covers_the_depth_and_fits_the_registers(board: str, rows: int, depth: int, columns: int) -> None:
    form = int8_form(load_target(board))
    plan = plan_matmul(rows, depth, columns, form)
    assert plan.runs * plan.run == rounded_depth(depth, form) >= depth
    assert plan.runs % plan.vectors == 0
    assert plan.channels % form.lanes == 0
    assert plan.positions * plan.channels // form.lanes < form.registers


def test_the_form_follows_the_instruction_set() -> None:
    forms = {board: int8_form(load_target(board)).name for board in BOARDS}
    assert forms["rpi3"] == forms["rpi4"] == forms["generic-aarch64"] == "smull"
    assert forms["rpi5"] == "sdot"
    assert int8_form(load_target("rpi4")).safe.name == "smull_single"


@pytest.mark.parametrize("board", ["rpi4", "rpi5"])
def test_first_layers_copy_their_windows_and_others_do_not(board: str) -> None:
    form = int8_form(load_target(board))
    first = Conv2dGeometry(1, 224, 224, 3, 64, (7, 7), (2, 2), padding=(3, 3, 3, 3))
    later = Conv2dGeometry(1, 56, 56, 64, 64, (3, 3), padding=(1, 1, 1, 1))
    assert plan_conv2d(first, form).im2col
    assert not plan_conv2d(later, form).im2col
