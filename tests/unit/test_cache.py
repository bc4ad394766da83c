from __future__ import annotations

import fcntl
import threading
from pathlib import Path

import pytest

from tvmbuild.support.cache import cache_root, cached_folder, remove_lock
from tvmbuild.support.errors import OutputError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "tvmbuild"


def test_a_folder_is_made_once(cache: Path) -> None:
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        (folder / "file").write_text("content")

    assert cached_folder("thing-1", make) == cached_folder("thing-1", make) == cache / "thing-1"
    assert len(made) == 1
    assert (cache / "thing-1/file").read_text() == "content"


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_was_not_finished_is_not_there(cache: Path, error: BaseException) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").write_text("")
        raise error

    with pytest.raises(type(error)):
        cached_folder("thing", fail)
    assert [path.name for path in cache.iterdir()] == [".thing.lock"]


def test_of_several_one_makes_it_and_the_others_wait() -> None:
    inside = threading.Event()
    go_on = threading.Event()
    made = []

    def make(folder: Path) -> None:
        made.append(folder)
        inside.set()
        assert go_on.wait(10)

    threads = [threading.Thread(target=cached_folder, args=("thing", make)) for _ in range(3)]
    for thread in threads:
        thread.start()
    assert inside.wait(10)
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert len(made) == 1


def test_who_waited_for_a_lock_that_was_removed_takes_the_new_one(cache: Path) -> None:
    cache.mkdir()
    with (cache / ".thing.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        waiting = threading.Thread(target=cached_folder, args=("thing", lambda folder: None))
        waiting.start()
        waiting.join(0.05)
        (cache / ".thing.lock").unlink()
    waiting.join(10)
    assert (cache / "thing").is_dir()
    assert (cache / ".thing.lock").exists()


def test_an_unused_lock_is_removed_and_one_in_use_stays(cache: Path) -> None:
    cached_folder("thing", lambda _: remove_lock(cache / "thing"))
    assert (cache / ".thing.lock").exists()
    remove_lock(cache / "thing")
    remove_lock(cache / "thing")
    assert [path.name for path in cache.iterdir()] == ["thing"]


def test_a_cache_that_cannot_be_written_is_a_plain_error(cache: Path) -> None:
    cache.write_text("a file where the folder belongs")
    with pytest.raises(OutputError) as caught:
        cached_folder("thing", lambda _: None)
    assert "XDG_CACHE_HOME" in caught.value.hint


def test_a_relative_cache_home_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_root() == Path.home() / ".cache/tvmbuild"
