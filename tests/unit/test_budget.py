"""Limits of reading a model, and the child process that keeps to them."""

from __future__ import annotations

import faulthandler
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from tvmbuild.support.budget import Budget, Limits, parse_limits
from tvmbuild.support.errors import LimitError, ModelError, OptionError, PreparationError

PATH = Path("m.onnx")


def test_limits_are_parsed_with_units() -> None:
    assert parse_limits(()) == Limits()
    assert parse_limits(("bytes=16G", "seconds=60")) == Limits(bytes=16 << 30, seconds=60)


@pytest.mark.parametrize(
    "text", ["bytes", "bytes=", "bytes=0", "bytes=-1", "bytes=1.5G", "bytes=1T", "bytes=" + "9" * 30]
)
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(OptionError, match="no whole number"):
        parse_limits((text,))


def test_unknown_and_repeated_limits_are_refused() -> None:
    with pytest.raises(OptionError, match="no limit 'second'") as caught:
        parse_limits(("second=1",))
    assert "seconds" in caught.value.hint
    with pytest.raises(OptionError, match="given twice"):
        parse_limits(("nodes=1", "nodes=2"))


def test_counts_over_a_limit_name_the_flag_that_raises_it() -> None:
    budget = Budget(PATH, Limits(nodes=10, bytes=100))
    budget.check_nodes(10, "itself")
    budget.check_bytes(100, "weights")
    with pytest.raises(LimitError, match="11 nodes") as caught:
        budget.check_nodes(11, "itself")
    assert "--limit nodes=11" in caught.value.hint
    with pytest.raises(LimitError, match="take 101 bytes") as caught:
        budget.check_bytes(101, "weights")
    assert "--limit bytes=101" in caught.value.hint


def test_absurd_counts_are_shown_short() -> None:
    with pytest.raises(LimitError) as caught:
        Budget(PATH).check_nodes(2**4000, "itself")
    assert len(caught.value.message) < 200


def test_the_child_returns_what_the_function_returns() -> None:
    array = np.arange(6)
    assert np.array_equal(Budget(PATH).run("adding", 0, np.add, array, 1), array + 1)
    # A result larger than a pipe.
    assert len(Budget(PATH).run("making", 0, bytes, 1 << 22)) == 1 << 22


def _refuse(error: type[Exception]) -> None:
    raise error("no good", "a hint") if error is PreparationError else error("no good")


def test_what_the_child_raises_arrives() -> None:
    with pytest.raises(PreparationError, match="no good") as caught:
        Budget(PATH).run("preparing", 0, _refuse, PreparationError)
    assert caught.value.hint == "a hint"
    with pytest.raises(RuntimeError, match="KeyError: 'no good'") as other:
        Budget(PATH).run("preparing", 0, _refuse, KeyError)
    assert "_refuse" in str(other.value.__cause__)


def test_a_child_over_its_time_is_killed() -> None:
    with pytest.raises(LimitError, match=r"m\.onnx: waiting was not done") as caught:
        Budget(PATH, Limits(seconds=1)).run("waiting", 0, time.sleep, 600)
    assert "--limit seconds=" in caught.value.hint


def test_the_time_runs_over_all_steps_and_grows_with_the_nodes() -> None:
    budget = Budget(PATH, Limits(seconds=1))
    with pytest.raises(LimitError):
        budget.run("waiting", 0, time.sleep, 600)
    with pytest.raises(LimitError, match="waiting"):
        budget.run("waiting", 0, time.sleep, 600)
    budget.check_nodes(100_000, "itself")
    assert budget.run("adding", 0, max, 1, 2) == 2


def test_a_child_over_its_memory_is_refused() -> None:
    budget = Budget(PATH, Limits(memory=64 << 20))
    with pytest.raises(LimitError, match="takes more memory than the 67,108,864 bytes") as caught:
        budget.run("filling", 0, np.ones, 1 << 27)
    assert "--limit memory=134217728" in caught.value.hint
    with pytest.raises(LimitError, match="33,554,432"):
        budget.run("filling", 0, np.ones, 1 << 23, share=2)
    assert budget.run("filling", 1 << 27, np.ones, 1 << 23).size == 1 << 23


@pytest.mark.parametrize(
    ("number", "error", "text"),
    [
        (signal.SIGSEGV, ModelError, "crashed"),
        (signal.SIGABRT, LimitError, "memory"),
        (signal.SIGKILL, LimitError, "memory"),
    ],
)
def test_a_child_that_dies_is_an_error_of_the_model(number: signal.Signals, error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Budget(PATH).run("folding", 0, _die, number)


def _die(number: int) -> None:
    faulthandler.disable()
    os.kill(os.getpid(), number)
    time.sleep(600)


def test_a_signal_ends_the_parent_and_the_child(tmp_path: Path) -> None:
    def stop(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    started = tmp_path / "pid"
    before = signal.signal(signal.SIGTERM, stop)
    waiter = threading.Thread(target=_terminate_when, args=(started,))
    waiter.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Budget(PATH).run("waiting", 0, _say_and_wait, started)
    finally:
        signal.signal(signal.SIGTERM, before)
        waiter.join()
    with pytest.raises(ProcessLookupError):
        os.kill(int(started.read_text()), 0)


def _terminate_when(started: Path) -> None:
    deadline = time.monotonic() + 60
    while not (started.exists() and started.read_text()) and time.monotonic() < deadline:
        time.sleep(0.01)
    # On a busy machine the child runs before os.fork has ended in the parent, where errors in its hooks are swallowed.
    time.sleep(0.5)
    os.kill(os.getpid(), signal.SIGTERM)


def _say_and_wait(started: Path) -> None:
    # No signal handler of Python's can run while a library computes; ignoring is the same for this test.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    started.write_text(str(os.getpid()))
    time.sleep(600)
