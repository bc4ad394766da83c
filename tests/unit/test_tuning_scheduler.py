from __future__ import annotations

from tvmbuild.tuning.scheduler import Progress, gradient, next_task


def progress(best: list[float], weight: int = 1, macs: int = 0, exhausted: bool = False) -> Progress:
    return Progress(weight, macs, "conv2d.direct", best, exhausted)


def test_an_untried_task_comes_first() -> None:
    assert next_task([progress([1.0]), progress([])]) == 1


def test_the_task_with_the_larger_share_of_the_time_comes_first() -> None:
    assert next_task([progress([1.0]), progress([1.0], weight=5)]) == 1


def test_exhausted_tasks_get_nothing() -> None:
    assert next_task([progress([1.0], weight=9, exhausted=True), progress([0.1])]) == 0 + 1
    assert next_task([progress([1.0], exhausted=True)]) is None


def test_a_task_that_still_falls_comes_before_one_that_is_flat() -> None:
    falling = progress([2.0, 1.8, 1.6, 1.4, 1.2, 1.0])
    flat = progress([1.0] * 6)
    assert gradient(falling, [falling, flat]) > gradient(flat, [falling, flat])


def test_a_task_far_below_what_similar_ones_reach_promises_more() -> None:
    fast = progress([1.0] * 4, macs=1000)
    slow = progress([1.0] * 4, macs=100)
    assert gradient(slow, [fast, slow]) > gradient(fast, [fast, slow])


def test_a_task_that_only_failed_promises_nothing() -> None:
    assert gradient(progress([float("inf")] * 3), []) == 0.0
