"""Shared by all tests: unit tests may not compile or reach the network, and no test depends on how fast it runs."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
from pathlib import Path

import pytest
import seeded
import typer.main
from hypothesis import settings

# Typer makes the whole command line anew for each run, which a process does once and the tests some 700 times.
typer.main.get_command = functools.cache(typer.main.get_command)

settings.register_profile("tvmbuild", deadline=None)
settings.load_profile("tvmbuild")


@pytest.fixture(autouse=True)
def _emulated_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under scripts/test_as.py, start libraries on the emulated CPU too: a child would escape to the real one."""
    emulator = os.environ.get("TVMBUILD_TEST_EMULATOR", "").split()
    if emulator:
        from tvmbuild.device import local

        run_with = local.run_with
        monkeypatch.setattr(
            local, "run_with", lambda launcher, *rest, **more: run_with([*emulator, *launcher], *rest, **more)
        )


@pytest.fixture(autouse=True)
def _own_numbers() -> None:
    """Give each test random numbers of its own."""
    seeded.restart()


@pytest.fixture(autouse=True)
def _no_real_work(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make compiling, linking and the network fail in unit tests, so that they stay quick and honest."""
    if "unit" not in Path(request.node.path).parts:
        return

    def refuse(*arguments: object, **_options: object) -> None:
        raise AssertionError(f"a unit test does real work: {arguments[:2]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    if request.node.get_closest_marker("subprocess") is None:
        monkeypatch.setattr(subprocess, "Popen", refuse)


@pytest.fixture
def in_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test in an empty working folder, away from any project file."""
    monkeypatch.chdir(tmp_path)
    return tmp_path
