"""A kill at any step of publishing leaves the old or the new release, and the next run leaves nothing else behind."""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from test_artifact import write_artifact

from tvmbuild.artifact.build_store import BuildStore
from tvmbuild.artifact.checksums import SUMS_NAME, check_sums, sums_text
from tvmbuild.artifact.open import open_artifact
from tvmbuild.commands.app import run
from tvmbuild.support.atomic import aside, moves, staging
from tvmbuild.support.atomic.staging import clean, staged, staged_folder
from tvmbuild.support.cache import cache_root
from tvmbuild.support.errors import OutputError

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
    with BuildStore() as store:
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


NAMES = ("m.json", "m.so", "m.tar")


def put(folder: Path, content: str, names: tuple[str, ...] = NAMES) -> None:
    with staged(folder, "m.json") as made:
        for name in names:
            (made / name).write_text(content)


def contents(folder: Path) -> list[str | None]:
    return [(folder / name).read_text() if (folder / name).exists() else None for name in NAMES]


def broken_at(step: int, folder: Path, how: Callable[[], None]) -> bool:
    """Write a set in a process that calls ``how`` at one of its steps; False if it ended before that."""
    child = os.fork()
    if child == 0:
        left = [step]

        def hook(event: str, _: object) -> None:
            if event in ("open", "os.rename", "os.link", "os.mkdir"):
                left[0] -= 1
                if left[0] == 0:
                    how()

        sys.addaudithook(hook)
        try:
            put(folder, "new")
        except OutputError as error:
            os._exit(10 + ("Nothing in it was changed" in error.message))
        os._exit(0 if left[0] > 0 else 1)
    _, status = os.waitpid(child, 0)
    # An error that says something else than what is so.
    assert status == signal.SIGKILL or (os.WEXITSTATUS(status) == 11) == (contents(folder) != ["new"] * 3)
    return status != 0


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def fill_the_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("before", ["old", None])
@pytest.mark.parametrize("how", [kill, fill_the_disk])
def test_a_set_is_replaced_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: Callable[[], None], before: str | None
) -> None:
    monkeypatch.setattr(moves.os, "fsync", lambda _: None)
    seen, mixed = set(), 0
    for step in itertools.count(1):
        folder = tmp_path / f"dist{step}"
        folder.mkdir()
        if before:
            put(folder, before)
        if not broken_at(step, folder, how):
            break
        mixed += len(set(contents(folder))) > 1
        clean(folder)
        assert contents(folder) in ([before] * 3, ["new"] * 3)
        seen.add(contents(folder)[0])
        assert set(os.listdir(folder)) <= set(NAMES)  # noqa: PTH208
    assert seen == {before, "new"}
    # A kill between two moves is one of the steps, and only a kill leaves something to mend.
    assert (mixed > 0) == (how is kill)


def test_an_artifact_whose_moves_a_kill_broke_off_is_whole_when_it_is_opened(tmp_path: Path) -> None:
    folder = tmp_path / "dist"
    folder.mkdir()
    write_artifact(folder)
    ready = folder / moves.READY
    ready.mkdir()
    (folder / "net-rpi4.json").rename(ready / "net-rpi4.json")
    (folder / "net-rpi4.json").write_text((ready / "net-rpi4.json").read_text().replace('"sha256": "', '"sha256": "f'))
    assert open_artifact(folder / "net-rpi4.so").archive.read_bytes() == b"archive"
    assert not ready.exists()


def test_whoever_ends_the_moves_of_another_moves_the_manifest_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reader that knows nothing of moves must find no new manifest beside an old library: "m.json" sorts first."""
    (tmp_path / "aside").mkdir()
    for name in ("m.json", "m.so", "m.tar"):
        (tmp_path / "aside" / name).write_text("new")

    def killed(path: Path, target: Path) -> Path:
        raise SystemExit

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed)
        # A kill undoes nothing.
        patch.setattr(moves, "_undo", lambda *_: None)
        patch.setattr(Path, "rename", lambda path, to: os.rename(path, to) if to.name == moves.READY else path)  # noqa: PTH104
        with pytest.raises(SystemExit):
            moves.move_all(tmp_path / "aside", tmp_path, last="m.json")
    order: list[str] = []
    real = Path.replace

    def noting(path: Path, target: Path) -> Path:
        order.append(path.name)
        return real(path, target)

    monkeypatch.setattr(Path, "replace", noting)
    assert moves.finish_moves(tmp_path)
    assert order == ["m.so", "m.tar", "m.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["m.json", "m.so", "m.tar"]


def test_what_another_user_left_where_all_may_write_is_not_moved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / moves.READY).mkdir()
    (tmp_path / moves.READY / "m.so").write_text("evil")
    tmp_path.chmod(0o1777)
    monkeypatch.setattr(aside.os, "geteuid", lambda: os.getuid() + 1)
    assert not moves.finish_moves(tmp_path)
    with pytest.raises(OutputError, match="in the way"):
        put(tmp_path, "mine")
    assert not (tmp_path / "m.so").exists()
    monkeypatch.undo()
    put(tmp_path, "mine")
    assert contents(tmp_path) == ["mine"] * 3


def test_moves_that_cannot_be_undone_are_ended_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path, "old")
    replace, calls = Path.replace, itertools.count()

    def once(path: Path, target: Path) -> Path:
        if next(calls):
            raise OSError(errno.EIO, "Input/output error")
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", once)
    with pytest.raises(OutputError, match="Some files in it are new"):
        put(tmp_path, "new")
    monkeypatch.undo()
    assert contents(tmp_path) == ["old", "new", "old"]
    assert moves.finish_moves(tmp_path)
    assert contents(tmp_path) == ["new"] * 3


def test_a_folder_in_the_place_of_a_file_changes_nothing(tmp_path: Path) -> None:
    put(tmp_path, "old", ("m.json", "m.so"))
    (tmp_path / "m.tar").mkdir()
    with pytest.raises(OutputError, match="Nothing in it was changed"):
        put(tmp_path, "new")
    assert [(tmp_path / name).read_text() for name in ("m.json", "m.so")] == ["old", "old"]


@pytest.fixture
def tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for temporary files, as /tmp is."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    folder.chmod(0o1777)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


def test_temporary_folders_of_a_killed_command_go_with_the_next(tmpdir: Path) -> None:
    mine = tmpdir / "tvmbuild-notes"
    mine.mkdir()
    child = os.fork()
    if child == 0:
        with aside.scratch():
            (Path(tempfile.mkdtemp(prefix="tvmbuild-run-")) / "input.npy").write_text("large")
            kill()
    os.waitpid(child, 0)
    (left,) = (path for path in tmpdir.iterdir() if path != mine)
    assert list(left.rglob("input.npy"))
    assert run(["targets", "-q"]) == 0
    assert list(tmpdir.iterdir()) == [mine]


def test_temporary_folders_of_a_living_command_and_of_others_stay(
    tmpdir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with aside.scratch():
        inner = tempfile.gettempdir()
        assert os.environ["TMPDIR"] == inner
        with tempfile.TemporaryDirectory() as folder:
            tempfile.tempdir = str(tmpdir)
            with aside.scratch():
                assert tempfile.gettempdir() != inner
            assert Path(folder).is_dir()
    assert tempfile.gettempdir() == os.environ["TMPDIR"] == str(tmpdir)
    assert list(tmpdir.iterdir()) == []
    (tmpdir / "tvmbuild-scratch-of-another-user").mkdir()
    monkeypatch.setattr(aside.os, "geteuid", lambda: os.getuid() + 1)
    aside.remove_abandoned(tmpdir, "tvmbuild-scratch-")
    assert len(list(tmpdir.iterdir())) == 1


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o755), (0o077, 0o700), (0o002, 0o775)])
def test_what_is_published_has_the_modes_that_the_user_wants(tmp_path: Path, mask: int, mode: int) -> None:
    """A release, an entry of the cache and a set of files: made in folders that are nobody else's."""
    before = os.umask(mask)
    try:
        publish(tmp_path / "dist", "new")
        put(tmp_path / "set", "new")
        with staged_folder(tmp_path / "deep" / "1.0") as folder:
            (folder / "include").mkdir()
    finally:
        os.umask(before)
    folders = (tmp_path / "dist" / "1.0", tmp_path / "set", tmp_path / "deep" / "1.0" / "include")
    assert [path.stat().st_mode & 0o777 for path in folders] == [mode] * 3
    files = (tmp_path / "dist" / "1.0" / SUMS_NAME, *(tmp_path / "set" / name for name in NAMES))
    assert {path.stat().st_mode & 0o777 for path in files} == {mode & 0o666}


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
