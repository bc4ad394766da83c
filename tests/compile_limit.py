"""Work of a property test that may never end, under a limit that saves and names what it was drawn."""

from __future__ import annotations

import multiprocessing
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest

#: Seconds for one small net, on a busy machine; it takes one.
SECONDS = 60.0


def within_limit(work: Callable[[], None], model: onnx.ModelProto, seconds: float = SECONDS) -> None:
    """Do ``work`` (compiling ``model``) in a child process, since nothing else can end TVM's C++ in the middle.

    The child is forked: it has all that was imported, and must not use TVM's threads. A model that is too slow is
    saved, and the test fails with its path.
    """

    def child() -> None:
        try:
            work()
        except BaseException:
            (scratch / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            raise

    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join(seconds)
        slow = process.is_alive()
        if slow:
            process.kill()
            process.join()
        elif process.exitcode == 0:
            return
        said = scratch / "error.txt"
        reason = f"took over {seconds:.0f} s" if slow else said.read_text("utf-8") if said.exists() else "its end"
    with tempfile.NamedTemporaryFile(
        prefix="slow-net-" if slow else "failed-net-", suffix=".onnx", delete=False
    ) as file:
        file.write(model.SerializeToString())
    pytest.fail(f"compiling {file.name} ({', '.join(node.op_type for node in model.graph.node)}): {reason}")
