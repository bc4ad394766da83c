"""Each index of the stages of every Winograd plan, proven in its buffer before a schedule drops what none needs."""

from __future__ import annotations

import pytest
from kernel_bounds import Prover
from kernel_cases import CASES, LARGE_CASES, Case
from tvm import te

from tvmbuild.schedules.gemm.register_tile import choose_tile
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.winograd import compute
from tvmbuild.schedules.winograd.compute import WinogradPlan
from tvmbuild.schedules.winograd.plan import possible
from tvmbuild.target.target import Target, load_target

WINOGRAD = {name: case for name, case in {**LARGE_CASES, **CASES}.items() if name.startswith("winograd")}


def geometry_of(case: Case) -> Conv2dGeometry:
    _, attributes, (weight, _) = case.steps[0]
    batch, channels, height, width = case.inputs[0]
    assert weight is not None
    rows, columns = attributes.get("strides", (1, 1))
    top, left, bottom, right = attributes.get("pads", (0, 0, 0, 0))
    return Conv2dGeometry(
        *(batch, height, width, channels, weight.shape[0], weight.shape[2:]),
        stride=(rows, columns),
        padding=(top, left, bottom, right),
    )


def rounded(g: Conv2dGeometry, plan: WinogradPlan, target: Target) -> WinogradPlan:
    """Return a plan whose last register tile may reach beyond the tiles of outputs, whatever the rules prefer."""
    rows, wide = -(-g.out_height // plan.m), -(-g.out_width // plan.m)
    tile = choose_tile(rows * wide, g.out_channels, target)
    tiles = -(-rows * wide // tile.columns) * tile.columns
    return WinogradPlan(tile, tiles, rows, -(-g.out_channels // tile.channels), plan.m, plan.phases)


@pytest.mark.parametrize("board", ["rpi4", "rpi5", "host"])
def test_no_tile_reads_beyond_its_padded_rows(board: str) -> None:
    target = load_target(board)
    rounded_up = 0
    for name, case in WINOGRAD.items():
        g = geometry_of(case)
        plans = possible(g, target, "float32")
        for plan in (*plans, *(rounded(g, plan, target) for plan in plans)):
            filtering = compute.filtering_of(g, plan.m, plan.phases)
            depth, channels = compute.depth_of(g, plan.phases), plan.tile.channels
            data = te.placeholder((g.batch, g.height, g.width, g.in_channels), name="data")
            packed = te.placeholder((filtering.weights**2, -(-g.out_channels // channels), depth, channels), name="w")
            prover = Prover()
            prover.walk(te.create_prim_func([data, packed, compute.conv2d(data, packed, g, plan)]))
            assert prover.unproven == [], (name, plan)
            assert prover.count > 100
            rounded_up += plan.tiles > -(-g.out_height // plan.m) * -(-g.out_width // plan.m)
    # Tiles that only fill a register tile are the ones that could read too far.
    assert rounded_up > 0
