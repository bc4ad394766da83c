"""What rules take to stay in a board's caches, and what they charge for what does not."""

from __future__ import annotations

import dataclasses

import pytest

from tvmbuild.schedules.cache import CACHE_SHARE, caches, collide
from tvmbuild.schedules.gemm.tile_plan import direct_cost, plan_conv2d
from tvmbuild.schedules.gemm.traffic import Traffic, cheapest_order, moving_cycles
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.strassen.plan import plan_strassen, strassen_cost
from tvmbuild.target.target import load_target

PI4, PI5, HOST = load_target("rpi4"), load_target("rpi5"), load_target("host")
KIB = CACHE_SHARE * 1024


def test_cores_share_the_second_level_of_a_pi_4() -> None:
    found = caches(PI4)
    assert found.lost(PI4.l2_kib * KIB) == 0
    assert found.lost(0, PI4.l2_kib * KIB / 4) == 0
    assert found.lost(1000, PI4.l2_kib * KIB / 4) > 0
    assert found.lost(0, PI4.l2_kib * KIB / 2, 2) == 0
    assert found.lost(2 * PI4.l2_kib * KIB) == 1


def test_cores_of_a_pi_5_have_a_second_level_each_and_a_third_one_together() -> None:
    found = caches(PI5)
    assert found.lost(0, PI5.l2_kib * KIB) == 0
    assert found.lost(PI5.l3_kib * KIB) == 0
    assert found.lost(PI5.l3_kib * KIB, 1000) > 0


def test_a_line_from_memory_keeps_all_cores_waiting() -> None:
    costs = PI4.core.costs
    pace = PI4.max_mhz / costs.mhz
    assert caches(PI4).far * 64 == pytest.approx(4 * costs.bus_line * pace)
    alone = caches(dataclasses.replace(PI4, cores=1))
    assert alone.far * 64 == pytest.approx(costs.memory_line * pace)
    assert alone.launch == 0


def test_a_board_of_which_nothing_is_known_keeps_the_judgement_of_its_row() -> None:
    found = caches(HOST)
    assert not found.is_known
    assert found.stream * 64 == HOST.core.shared_memory_line


def test_an_order_is_the_cheapest_of_all() -> None:
    traffic = Traffic(rows=12, strips=4, blocks=16, weight_bytes=20_000, row_bytes=50_000, tile_bytes=12_000)
    best = cheapest_order(traffic, PI4)
    every = [moving_cycles(traffic, rows, held, PI4) for rows in (1, 2, 3, 4, 6, 12) for held in (0, 1)]
    assert best.cycles == min(every)
    assert best.cycles == moving_cycles(traffic, best.rows, best.weight_stationary, PI4)


def test_weights_that_do_not_stay_are_read_again_by_each_round_of_chunks() -> None:
    def far(weights: int) -> float:
        traffic = Traffic(rows=16, strips=1, blocks=1, weight_bytes=weights, row_bytes=64, tile_bytes=64)
        near = 16 * (weights + 64) * caches(PI4).near
        return moving_cycles(traffic, 1, 0, PI4) - near - weights * caches(PI4).stream

    assert far(10_000) == pytest.approx(0)
    # Sixteen chunks, four at a time: three more rounds than the first.
    assert far(1 << 21) == pytest.approx(3 * (1 << 21) * caches(PI4).far)


@pytest.mark.parametrize(
    ("step", "count", "expected"),
    [(8192, 7, True), (8192, 4, False), (4096, 7, False), (16384, 3, True), (3072, 16, False), (64, 16, False)],
)
def test_columns_collide_where_a_set_would_hold_more_than_it_has_ways(step: int, count: int, expected: bool) -> None:
    # 32 KiB of two ways: addresses 16 KiB apart share a set.
    assert collide(step, count, PI4) is expected


def test_an_input_whose_columns_collide_is_copied_apart() -> None:
    deep = Conv2dGeometry(1, 7, 7, 2048, 512, (1, 1))
    plan = plan_conv2d(deep, PI4)
    assert plan.channels == 2048 + 16
    # One of 6 MB goes to memory and back to be copied, and is read once.
    assert plan_conv2d(Conv2dGeometry(1, 28, 28, 2048, 4, (1, 1)), PI4).channels == 2048
    assert plan_conv2d(dataclasses.replace(deep, in_channels=2000), PI4).channels == 2000


def test_on_four_cores_temporaries_that_leave_the_cache_cost_more_than_the_products_they_save() -> None:
    """Strassen's seven products of a deep layer: cheaper for one core, dearer for four that share one way to memory."""
    layer = Conv2dGeometry(1, 14, 14, 1024, 256, (1, 1))
    alone = dataclasses.replace(PI4, cores=1)

    def gain(target: object) -> float:
        plan = plan_strassen(layer, target)  # type: ignore[arg-type]
        return direct_cost(layer, target) / strassen_cost(layer, plan, target)  # type: ignore[arg-type]

    assert gain(alone) > 1 > gain(PI4)


def test_a_chunk_that_all_blocks_of_weights_pass_is_one_that_stays() -> None:
    """28 rows of 57 kB: four cores with seven rows each would fetch 1.6 MB for each of 32 blocks."""
    traffic = Traffic(rows=28, strips=4, blocks=32, weight_bytes=16_384, row_bytes=57_344, tile_bytes=14_336)
    order = cheapest_order(traffic, PI4)
    assert order.weight_stationary == 0
    assert caches(PI4).lost(0, order.rows * traffic.row_bytes, min(4, 28 // order.rows)) < 0.2
