"""What a prediction charges: computing, plus lines; threads share the one, and the way to memory."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvmbuild.predict.costs import Counts, cache_cycles, error_band, one_thread_cycles, shared_cycles, total, work
from tvmbuild.predict.predictor import MOST_THREADS, check_threads, share_out
from tvmbuild.predict.profile import Block, ParallelLoop, Profile
from tvmbuild.support.errors import OptionError
from tvmbuild.target.cores import CORES, Costs

COSTS = Costs(
    "made up", 1800, 1.1, pairwise_add=2, pairwise_add_most=3, divide_excess=7, l2_line=5, l3_line=11, memory_line=17,
    bus_line=23, launch_us=13, spread=0.05, shared_spread=0.1,
)  # fmt: skip
COUNTS = Counts(
    1000, pairwise_adds=10, divisions=4, l1_misses=100, l2_misses=60, memory_reads=30, memory_writes=20
)  # fmt: skip


def test_one_thread_pays_for_computing_and_for_every_line() -> None:
    assert work(COUNTS, COSTS) == pytest.approx(1.1 * 1020)
    assert cache_cycles(COUNTS, COSTS) == 40 * 5 + 30 * 11
    assert one_thread_cycles(COUNTS, COSTS, 1800) == pytest.approx(1.1 * 1020 + 530 + 50 * 17)
    # Memory keeps its pace when the core is slower; a clock that is not known is that of the costs.
    assert one_thread_cycles(COUNTS, COSTS, 900) == pytest.approx(1.1 * 1020 + 530 + 25 * 17)
    assert one_thread_cycles(COUNTS, COSTS, 0) == one_thread_cycles(COUNTS, COSTS, 1800)


def test_threads_share_the_computing_and_the_way_to_memory() -> None:
    shared = shared_cycles(COUNTS, COSTS, speedup=4, launches=2, mhz=1800)
    assert shared == pytest.approx((1.1 * 1020 + 530) / 4 + 50 * 23 + 2 * 13 * 1800)


def test_a_kernel_of_one_thread_has_the_memory_for_itself() -> None:
    alone = shared_cycles(COUNTS, COSTS, speedup=1, launches=0, mhz=1800)
    assert alone == pytest.approx(one_thread_cycles(COUNTS, COSTS, 1800))


@given(st.lists(st.tuples(*[st.integers(0, 1000)] * 7).map(lambda values: Counts(*values)), min_size=1, max_size=4))
def test_parts_cost_as_much_as_their_sum(parts: list[Counts]) -> None:
    apart = sum(one_thread_cycles(part, COSTS, 1800) for part in parts)
    assert one_thread_cycles(total(parts), COSTS, 1800) == pytest.approx(apart)


def test_the_band_is_twice_the_spread_and_what_is_not_known_of_the_pipes() -> None:
    least, most = error_band(2000, COUNTS, COSTS, 1) or (0, 0)
    assert least == pytest.approx((2000 - 1.1 * (20 + 28)) / math.exp(0.1))
    assert most == pytest.approx((2000 + 1.1 * 10) * math.exp(0.1))
    shared = error_band(2000, Counts(), COSTS, 4) or (0, 0)
    assert shared == pytest.approx((2000 / math.exp(0.2), 2000 * math.exp(0.2)))
    assert error_band(2000, COUNTS, Costs("never compared"), 1) is None


def test_every_core_that_was_compared_says_with_what() -> None:
    for core in CORES.values():
        assert core.costs.source
        assert not core.is_predicted or core.costs.memory_line > 0


def test_a_loop_gives_what_its_longest_task_leaves() -> None:
    """Loops of 400 and 100 instructions in four tasks, of which the longest take 100 and 70, and 20 outside of them."""
    blocks = (
        Block(0x1000, 10, "a", 0, ("00000000", "00000000")),
        Block(0x2000, 400, "a", 4096, ("00000000",)),
        Block(0x3000, 100, "a", 8192, ("00000000",)),
        Block(0x4000, 7, "b", 0, ("00000000",)),
    )
    loops = (ParallelLoop(0x2000, 1, 4, 400, 100), ParallelLoop(0x3000, 2, 8, 100, 70))
    found = share_out(Profile(527, 0, blocks, loops), lambda block: block.module, 4)
    assert set(found) == {"a"}
    assert found["a"].launches == 3
    assert found["a"].speedup == pytest.approx(520 / (20 + 100 + 70))


def test_more_threads_than_cores_that_are_modelled_are_refused() -> None:
    check_threads([1, MOST_THREADS])
    with pytest.raises(OptionError, match="at most 16"):
        check_threads([1, MOST_THREADS + 1])
