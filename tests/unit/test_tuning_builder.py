"""The compiling processes: what stops them is not what their candidates are judged by. No compiler runs here."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from tvmbuild.records.trial import Failure
from tvmbuild.tuning.builder import Builder
from tvmbuild.tuning.task import Variant
from tvmbuild.tuning.worker import leave_group
from tvmbuild.tuning.worker_pool import WorkerPool

HERE = Path(__file__).parent
VARIANT = Variant("a", ())
pytestmark = pytest.mark.subprocess


class SourcelessBuilder(Builder):
    """Needs no PrimFunc."""

    def _source(self, variant: Variant) -> Path:
        return Path("none")


def slow_linker(connection: Any, *_: object) -> None:
    """A worker whose linker takes a while."""
    leave_group()
    while True:
        job = connection.recv()
        linked = subprocess.run(["sleep", "1"], check=False).returncode
        job.output.write_text("")
        connection.send(Failure("compile", f"the linker ended with {linked}") if linked else None)


def dies_at_first(connection: Any, mark: Path, *_: object) -> None:
    """A worker that ends upon the first job of all."""
    leave_group()
    while True:
        job = connection.recv()
        if not mark.exists():
            mark.write_text("")
            os._exit(1)
        job.output.write_text("")
        connection.send(None)


def never(connection: Any, *_: object) -> None:
    """A worker that never answers."""
    leave_group()
    connection.recv()
    time.sleep(600)


@pytest.mark.parametrize("after", [0.0, 0.3, 0.9])
def test_a_signal_to_the_whole_group_fails_no_candidate(after: float) -> None:
    """At the start of a worker, while Python imports, and while it links."""
    script = f"""
        import os, signal, threading, time
        from test_tuning_builder import VARIANT, SourcelessBuilder, slow_linker
        if __name__ == "__main__":
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, lambda *_: None)
            def stop():
                time.sleep({after})
                for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                    os.killpg(0, number)
            threading.Thread(target=stop).start()
            with SourcelessBuilder(None, None, 1, entry=slow_linker) as builder:
                print(builder.build(VARIANT, {{}}))
    """
    environment = {**os.environ, "PYTHONPATH": f"{HERE}:{HERE.parents[1]}"}
    command = [sys.executable, "-c", textwrap.dedent(script)]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, start_new_session=True, timeout=120
    )
    assert "candidate-1.so" in done.stdout, done.stdout + done.stderr


def test_a_worker_that_somebody_ended_is_asked_again(tmp_path: Path) -> None:
    with SourcelessBuilder(tmp_path / "mark", None, 1, entry=dies_at_first) as builder:  # type: ignore[arg-type]
        assert isinstance(builder.build(VARIANT, {}), Path)


def test_a_candidate_that_takes_too_long_is_said_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvmbuild.tuning.builder._START_SECONDS", 0.0)
    with SourcelessBuilder(None, None, 1, seconds=0.1, entry=never) as builder:  # type: ignore[arg-type]
        failure = builder.build(VARIANT, {})
    assert isinstance(failure, Failure)
    assert "took over" in failure.message


def test_what_the_end_of_a_run_broke_off_is_not_kept() -> None:
    kept: list[object] = []
    builder = SourcelessBuilder(None, None, 1, entry=never)  # type: ignore[arg-type]
    pool = WorkerPool(workers=1, boards=1)
    answer = pool.send(lambda: builder.build(VARIANT, {}), lambda library: pytest.fail("measured"), kept.append)
    time.sleep(0.1)
    pool.close()
    builder.close()
    assert answer.result(30.0) is None
    assert kept == []
