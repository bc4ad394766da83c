from __future__ import annotations

import os
import sys

import pytest

from tvmbuild.support.tvm_log import without_warnings

WARNING = b"[15:52:39] /project/include/tvm/topi/transform.h:1261: Warning: Fast mode segfaults\n"


def test_tvms_warnings_are_dropped_and_nothing_else_is(capfd: pytest.CaptureFixture[str]) -> None:
    with without_warnings():
        for line in (b"before\n", WARNING, b"[15:52:39] a fatal thing\n", b"no end of line"):
            os.write(2, line)
        print("a bar", end="", file=sys.stderr, flush=True)
    os.write(2, WARNING)
    said = capfd.readouterr().err
    assert sorted(said.replace("a bar", "").encode().splitlines()) == sorted(
        [b"before", b"[15:52:39] a fatal thing", b"no end of line" + WARNING.rstrip()]
    )
    assert "a bar" in said


def test_an_error_comes_through_and_the_screen_is_back(capfd: pytest.CaptureFixture[str]) -> None:
    before = sys.stderr

    @without_warnings()
    def fails() -> None:
        os.write(2, WARNING)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), without_warnings():
        fails()
    assert sys.stderr is before
    os.write(2, b"after\n")
    assert capfd.readouterr().err == "after\n"


def test_no_descriptor_is_left_open() -> None:
    with without_warnings():
        pass
    count = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with without_warnings():
        pass
    assert len(os.listdir("/proc/self/fd")) == count  # noqa: PTH208
