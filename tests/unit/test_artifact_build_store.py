from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tvmbuild.artifact.build_store import BuildStore, files_of
from tvmbuild.support.cache import cache_root
from tvmbuild.support.errors import OptionError

INPUTS = {"the model": "1", "the toolchain": "gcc"}


@pytest.fixture(autouse=True)
def _cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def store() -> Iterator[BuildStore]:
    with BuildStore() as opened:
        yield opened


def writing(text: str, made: list[str]) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        made.append(text)
        (folder / "x.so").write_text(text)

    return make


def test_what_is_there_is_not_made_again_and_what_changed_is_said(store: BuildStore) -> None:
    made: list[str] = []
    first = store.get("net", INPUTS, writing("a", made))
    assert first.why == "it was never built here"
    again = store.get("net", dict(reversed(INPUTS.items())), writing("b", made))
    assert (again.why, again.folder, made) == ("", first.folder, ["a"])
    assert [path.read_text() for path in files_of(again)] == ["a"]
    other = store.get("net", {**INPUTS, "the model": "2", "the records": "r"}, writing("c", made))
    assert other.why == "the model, the records changed"


@pytest.mark.parametrize("damage", ["x.so", "entry.json"])
@pytest.mark.parametrize("how", ["change", "remove"])
def test_a_damaged_entry_is_noticed_and_made_again(store: BuildStore, damage: str, how: str) -> None:
    made: list[str] = []
    path = store.get("net", INPUTS, writing("a", made)).folder / damage
    path.write_text("damaged") if how == "change" else path.unlink()
    again = store.get("net", INPUTS, writing("b", made))
    assert again.why == "its cached files were damaged"
    assert files_of(again)[0].read_text() == "b"


def test_a_failure_leaves_no_entry(store: BuildStore) -> None:
    def fail(folder: Path) -> None:
        (folder / "x.so").write_text("half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        store.get("net", INPUTS, fail)
    assert store.get("net", INPUTS, writing("a", [])).why == "it was never built here"


def test_beyond_the_limit_what_was_used_longest_ago_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    with BuildStore() as store:
        folders = [store.get("net", {"n": str(n)}, writing("x" * 1000, made)).folder for n in range(3)]
    for age, folder in zip((100, 300, 200), folders, strict=True):
        os.utime(folder / "entry.json", (1e9 - age, 1e9 - age))
    monkeypatch.setenv("TVMBUILD_CACHE_SIZE", "3500")
    with BuildStore() as store:
        new = store.get("net", {"n": "new"}, writing("x" * 1000, made)).folder
        assert [folder.exists() for folder in (*folders, new)] == [True, False, True, True]
        monkeypatch.setenv("TVMBUILD_CACHE_SIZE", "10 GB")
        with pytest.raises(OptionError, match="number of bytes"):
            store.get("net", {"n": "another"}, writing("", made))


def test_what_a_command_uses_stays_whatever_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVMBUILD_CACHE_SIZE", "1")
    with BuildStore() as mine, BuildStore() as other:
        folders = [mine.get("net", {"n": str(n)}, writing("x", [])).folder for n in range(3)]
        other.get("net", {"n": "0"}, writing("x", []))
        other.get("net", {"n": "other"}, writing("x", []))
        assert all(folder.exists() for folder in folders)
    with BuildStore() as later:
        assert later.get("net", {"n": "last"}, writing("x", [])).folder.exists()
        assert not any(folder.exists() for folder in folders)
    # Not even the files that were locked while they were made.
    assert len(list((cache_root() / "store").glob("??/.*.lock"))) == 1


@pytest.mark.parametrize("text", ["inf", "-1", "9" * 5000, "\u00b2", "1.5"])
def test_a_limit_that_is_no_number_is_refused(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVMBUILD_CACHE_SIZE", text)
    with pytest.raises(OptionError, match="TVMBUILD_CACHE_SIZE"), BuildStore() as store:
        store.get("a", {}, lambda _folder: None)
