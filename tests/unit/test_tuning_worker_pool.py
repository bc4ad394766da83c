"""Compiling and measuring side by side, and who waits for whom: clocks and threads, no compilers or boards."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks import tune_rate
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.tuning.waits import Meter, Waits, limit_of, limit_text
from tvmbuild.tuning.worker_pool import WorkerPool

LIBRARY = Path("candidate.so")
#: Seconds after which a thread that should have come has not.
PATIENCE = 30.0


Send = Callable[[Callable[[], Any], Callable[[Path], Any]], Future[Any]]


def sender(pool: WorkerPool) -> Send:
    return lambda build, measure: pool.send(build, measure, lambda outcome: outcome)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_all_boards_measure_at_once_while_the_builder_goes_on() -> None:
    pool = WorkerPool(workers=2, boards=3)
    # Three measurements and two compilations meet here, or none of them ends.
    together = threading.Barrier(5)

    def measure(library: Path) -> Measurement:
        together.wait(PATIENCE)
        return Measurement((1.0,))

    def build() -> Path:
        together.wait(PATIENCE)
        return LIBRARY

    first = [sender(pool)(lambda: LIBRARY, measure) for _ in range(3)]
    later = [sender(pool)(build, lambda library: Measurement((2.0,))) for _ in range(2)]
    assert [answer.result(PATIENCE) for answer in first] == [Measurement((1.0,))] * 3
    assert [answer.result(PATIENCE) for answer in later] == [Measurement((2.0,))] * 2
    pool.close()


def test_a_slow_board_holds_up_its_own_candidate_alone() -> None:
    pool = WorkerPool(workers=1, boards=2)
    slow = threading.Event()

    def waiting(library: Path) -> Measurement:
        slow.wait(PATIENCE)
        return Measurement((9.0,))

    held = sender(pool)(lambda: LIBRARY, waiting)
    others = [sender(pool)(lambda: LIBRARY, lambda library: Measurement((1.0,))) for _ in range(5)]
    assert all(answer.result(PATIENCE) == Measurement((1.0,)) for answer in others)
    assert not held.done()
    slow.set()
    assert held.result(PATIENCE) == Measurement((9.0,))
    pool.close()


def test_what_is_dropped_is_neither_compiled_nor_measured() -> None:
    pool = WorkerPool(workers=1, boards=1)
    started, go = threading.Event(), threading.Event()

    def measure(library: Path) -> Measurement:
        started.set()
        go.wait(PATIENCE)
        return Measurement((1.0,))

    running = sender(pool)(lambda: LIBRARY, measure)
    waiting = sender(pool)(lambda: LIBRARY, lambda library: pytest.fail("measured"))
    assert started.wait(PATIENCE)
    pool.drop()
    later = sender(pool)(lambda: pytest.fail("compiled"), lambda library: pytest.fail("measured"))
    go.set()
    assert running.result(PATIENCE) == Measurement((1.0,))
    assert waiting.result(PATIENCE) is None
    assert later.result(PATIENCE) is None
    pool.close()


def test_what_fails_while_a_run_ends_is_not_kept() -> None:
    """A signal to the group, or a folder that is gone, may have made it fail."""
    kept: list[object] = []
    for step in ("build", "measure"):
        pool = WorkerPool(workers=1, boards=1)
        started, go = threading.Event(), threading.Event()

        def fail(go: threading.Event = go, started: threading.Event = started) -> Failure:
            started.set()
            go.wait(PATIENCE)
            return Failure("crash", "SIGINT")

        build = fail if step == "build" else lambda: LIBRARY
        answer = pool.send(build, partial(lambda fail, library: fail(), fail), kept.append)
        assert started.wait(PATIENCE)
        pool.drop()
        go.set()
        assert answer.result(PATIENCE) is None
        pool.close()
    assert kept == []


def test_nothing_is_kept_once_the_run_is_over() -> None:
    pool = WorkerPool(workers=1, boards=1)
    started, go = threading.Event(), threading.Event()
    kept: list[object] = []

    def measure(library: Path) -> Measurement:
        started.set()
        go.wait(PATIENCE)
        return Measurement((1.0,))

    answer = pool.send(lambda: LIBRARY, measure, kept.append)
    assert started.wait(PATIENCE)
    pool.close()
    go.set()
    assert answer.result(PATIENCE) is None
    assert kept == []


def test_an_outcome_is_kept_at_once_and_not_when_it_is_asked_for() -> None:
    pool = WorkerPool(workers=1, boards=1)
    kept = threading.Event()
    answer = pool.send(lambda: LIBRARY, lambda library: Measurement((1.0,)), lambda outcome: kept.set())
    assert kept.wait(PATIENCE)
    assert answer.result(PATIENCE) is None

    def full(outcome: object) -> None:
        raise OSError("the disk is full")

    with pytest.raises(OSError, match="disk is full"):
        pool.send(lambda: LIBRARY, lambda library: Measurement((1.0,)), full).result(PATIENCE)
    pool.close()


def test_failures_and_errors_come_back_and_leave_nobody_busy() -> None:
    pool = WorkerPool(workers=1, boards=1)
    failure = Failure("compile", "no")

    def broken(library: Path) -> Measurement:
        raise ValueError("a bug")

    assert sender(pool)(lambda: failure, lambda library: Measurement((1.0,))).result(PATIENCE) == failure
    with pytest.raises(ValueError, match="a bug"):
        sender(pool)(lambda: LIBRARY, broken).result(PATIENCE)
    assert sender(pool)(lambda: LIBRARY, lambda library: Measurement((1.0,))).result(PATIENCE) == Measurement((1.0,))
    pool.close()


def test_boards_wait_for_the_builder_while_it_compiles_what_they_get_next() -> None:
    clock = Clock()
    meter = Meter(workers=1, boards=2, clock=clock)
    meter.change(to_build=2)
    meter.change(to_build=-1, building=1)
    clock.now += 6.0
    meter.change(building=-1, measuring=1)
    meter.change(to_build=-1, building=1)
    clock.now += 2.0
    waits = meter.waits()
    assert waits.seconds == 8.0
    # Of 16 seconds of the boards: both waited for six, then one for two, while the other measured.
    assert waits.boards_waited == pytest.approx(14 / 16)
    assert waits.boards_busy == pytest.approx(2 / 16)
    assert (waits.builder_busy, waits.builder_waited) == (1.0, 0.0)


def test_the_builder_waits_for_boards_only_when_nothing_else_is_missing() -> None:
    clock = Clock()
    meter = Meter(workers=2, boards=1, clock=clock)
    meter.change(measuring=1)
    clock.now += 3.0
    with meter.searching():
        clock.now += 1.0
    meter.change(measuring=-1)
    clock.now += 4.0
    waits = meter.waits()
    assert waits.builder_waited == pytest.approx(3 / 8)
    assert waits.boards_busy == pytest.approx(4 / 8)
    assert waits.boards_waited == 0.0


def shares(seconds: float = 60.0, *, busy: float = 0.5, waited: float = 0.0, compiled: float = 0.5, idle: float = 0.0):
    return Waits(seconds, 4, 2, busy, waited, compiled, idle)


@pytest.mark.parametrize(
    ("waits", "cores", "limit", "words"),
    [
        (
            shares(waited=0.43),
            0,
            "builder",
            "boards waited for the builder 43% of the time: more boards would not help",
        ),
        (shares(idle=0.6), 0, "boards", "the builder waited for boards 60% of the time: another board would help"),
        (shares(busy=0.3, idle=0.5, compiled=0.1), 2, "machine", "more cores would"),
        (shares(busy=0.1, idle=0.9, compiled=0.1), 2, "boards", "another board would help"),
        (shares(busy=0.3, idle=0.5, compiled=0.1), 8, "boards", "another board would help"),
        (shares(waited=0.05, idle=0.04), 0, "", ""),
        (shares(3.0, waited=0.9), 0, "", ""),
    ],
)
def test_the_limit_is_named_with_what_would_help(waits: Waits, cores: int, limit: str, words: str) -> None:
    assert limit_of(waits, cores) == limit
    assert words in limit_text(waits, limit)
    assert bool(limit_text(waits, limit)) == bool(limit)


def test_the_tables_row_says_how_much_more_several_boards_do() -> None:
    def run(boards: int, a_minute: float, limit: str) -> dict[str, Any]:
        waits = vars(shares(waited=0.1 * boards))
        return {"boards": boards, "a_minute": a_minute, "waits": waits, "limit": limit, "failed": 1}

    built = {"candidates": 60, "seconds": 12.0, "workers": 2, "a_second": 5.0, "start_seconds": 8.0}
    body = tune_rate.render(built, {"emulated": [], "waiting": [run(1, 27.0, ""), run(4, 94.5, "builder")]}, 2.0)
    assert "**5.0 a second**" in body
    assert "| 1, wait 2 s a candidate | 27 | 1.0 | 50% | 10% | 50% | 0% | - |" in body
    assert "| 4, wait 2 s a candidate | 94 | 3.5 | 50% | 40% | 50% | 0% | builder |" in body
    assert body.endswith("Failed trials: 2.")
