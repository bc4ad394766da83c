"""A kill at any step of publishing leaves the old or the new release, and the next run leaves nothing else behind."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from tvmbuild import aside
from tvmbuild.artifact import staging
from tvmbuild.artifact.checksums import SUMS_NAME, check_sums, sums_text
from tvmbuild.artifact.staging import clean, staged, staged_folder
from tvmbuild.artifact.store import Store
from tvmbuild.cache import cache_root

#: Python's audit events of everything that touches a file system, at which a kill can make a difference.
STEPS = ("open", "os.", "shutil.", "tempfile.", "fcntl.", "ctypes.dlopen")


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def publish(dist: Path, content: str) -> None:
    """Make an entry of the store and publish it, as ``release`` does."""

    def make(folder: Path) -> None:
        (folder / "net.so").write_text(content)

    clean(dist)
    with Store() as store:
        entry = store.get("net", {"content": content}, make)
        with staged_folder(dist / "1.0") as folder:
            shutil.copyfile(entry.folder / "net.so", folder / "net.so")
            (folder / SUMS_NAME).write_text(sums_text({"net.so": folder / "net.so"}))


def killed_at(step: int, dist: Path) -> bool:
    """Publish in a process that kills itself at one of its steps; False if it ended before that."""
    child = os.fork()
    if child == 0:
        left = [step]

        def hook(event: str, _: object) -> None:
            if event.startswith(STEPS):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        publish(dist, "new")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("exchange", [True, False])
def test_a_kill_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    # A kill loses nothing that was written; the disk is only slow.
    monkeypatch.setattr(staging.os, "fsync", lambda _: None)
    if not exchange:
        monkeypatch.setattr(staging.ctypes, "CDLL", lambda *_, **__: object())
    seen: set[str] = set()
    for step in itertools.count(1):
        shutil.rmtree(cache_root(), ignore_errors=True)
        dist = tmp_path / f"dist{step}"
        publish(dist, "old")
        if not killed_at(step, dist):
            break
        if not exchange:
            clean(dist)
        check_sums(dist / "1.0")
        seen.add((dist / "1.0" / "net.so").read_text())
        publish(dist, "new")
        assert (dist / "1.0" / "net.so").read_text() == "new"
        assert [path.name for path in dist.iterdir()] == ["1.0"]
        left = [path for path in (cache_root() / "store").glob("??/.*") if not path.name.endswith(".lock")]
        assert left == []
    assert step > 50
    assert seen == {"old", "new"}


def test_what_a_living_process_writes_stays(tmp_path: Path) -> None:
    with staged(tmp_path) as mine:
        (mine / "x").write_text("mine")
        with staged(tmp_path) as other:
            (other / "y").write_text("other")
        clean(tmp_path)
        aside.remove_abandoned(tmp_path)
        assert (mine / "x").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x", "y"]


def test_two_may_publish_one_release_for_the_first_time(tmp_path: Path) -> None:
    dist = tmp_path / "dist"
    with staged_folder(dist / "1.0") as slow:
        (slow / "net.so").write_text("slow")
        publish(dist, "quick")
    assert [path.name for path in dist.iterdir()] == ["1.0"]
    assert (dist / "1.0" / "net.so").read_text() == "slow"


def test_without_locks_on_folders_nothing_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".tvmbuild-aside-of-a-killed-one").mkdir()

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(aside.fcntl, "flock", refuse)
    with staged(tmp_path) as folder:
        (folder / "x").write_text("new")
    clean(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".tvmbuild-aside-of-a-killed-one", "x"]
