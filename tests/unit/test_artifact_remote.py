"""The remote behind the store: what is taken from it, what is not, and that it never makes a build fail."""

from __future__ import annotations

import io
import json
import tarfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from tvmbuild.artifact import patience
from tvmbuild.artifact.build_store import BuildStore, StoreEntry, files_of
from tvmbuild.artifact.remote import Remote, RemoteSettings
from tvmbuild.releases.signing import Signer, load_signer, new_keys

INPUTS = {"the model": "1"}


class Machine:
    """A machine with a cache of its own."""

    def __init__(self, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = cache
        self.monkeypatch = monkeypatch
        self.warnings: list[str] = []
        self.made: list[str] = []

    def remote(self, url: str, trusts: Any, sign: Any = None, seconds: float = 10.0) -> Remote:
        return Remote(RemoteSettings(url, trusts, sign, seconds), self.warnings.append)

    def get(self, remote: Remote, inputs: dict[str, str] = INPUTS, text: str = "built") -> StoreEntry:
        def make(folder: Path) -> None:
            self.made.append(text)
            (folder / "x.so").write_text(text)
            (folder / "x.so").chmod(0o755)

        self.monkeypatch.setenv("XDG_CACHE_HOME", str(self.cache))
        with BuildStore(remote) as store:
            return store.get("net", inputs, make)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Machine]:
    return lambda name: Machine(tmp_path / name, monkeypatch)


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return load_signer(new_keys(tmp_path / "keys")[0])


@pytest.fixture(params=["memory", "file"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    MemoryFileSystem.store.clear()
    MemoryFileSystem.pseudo_dirs[:] = [""]
    yield "memory://bucket/cache" if request.param == "memory" else f"file://{tmp_path}/remote"
    MemoryFileSystem.store.clear()


def entries(url: str) -> tuple[Any, list[str]]:
    files, top = fsspec.core.url_to_fs(url)
    return files, [path for path in files.find(top) if files.isfile(path)] if files.exists(top) else []


def test_what_one_machine_built_another_takes(machine: Any, url: str, signer: Signer) -> None:
    first, second = machine("first"), machine("second")
    trusts = signer.verifier().accepts
    assert first.get(first.remote(url, trusts, signer.sign)).why == "it was never built here"
    found = second.get(second.remote(url, trusts))
    assert (found.why, found.fetched, second.made) == ("", True, [])
    assert [(path.name, path.read_text(), path.stat().st_mode & 0o777) for path in files_of(found)] == [
        ("x.so", "built", 0o755)
    ]
    # From now on it is here.
    assert not second.get(second.remote(url, trusts)).fetched
    other = second.get(second.remote(url, trusts), {"the model": "2"})
    assert (other.why, other.fetched) == ("the model changed", False)
    assert len(entries(url)[1]) == 1
    assert not first.warnings + second.warnings


def test_only_who_holds_a_key_writes(machine: Any, url: str, signer: Signer) -> None:
    reader = machine("reader")
    assert reader.get(reader.remote(url, signer.verifier().accepts)).why
    assert entries(url)[1] == []
    unsigned, second = machine("unsigned"), machine("second")
    unsigned.get(unsigned.remote(url, None))
    assert second.get(second.remote(url, None)).fetched


def sign_by_another(content: bytes) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.generate().sign(content)


@pytest.mark.parametrize("sign", [None, sign_by_another])
def test_what_no_trusted_key_signed_is_not_taken_and_replaced(
    machine: Any, url: str, signer: Signer, sign: Any
) -> None:
    hostile, honest, third = machine("hostile"), machine("honest"), machine("third")
    hostile.get(hostile.remote(url, None if sign is None else sign, sign), text="hostile")
    trusts = signer.verifier().accepts
    found = honest.get(honest.remote(url, trusts, signer.sign))
    assert files_of(found)[0].read_text() == "built"
    assert len(honest.warnings) == 1
    assert ("it is not signed" if sign is None else "no trusted key") in honest.warnings[0]
    assert third.get(third.remote(url, trusts)).fetched


def test_an_entry_under_the_name_of_another_is_not_taken(machine: Any, url: str, signer: Signer) -> None:
    first = machine("first")
    trusts = signer.verifier().accepts
    for number in ("1", "2"):
        first.get(first.remote(url, trusts, signer.sign), {"the model": number}, f"model {number}")
    files, (one, two) = entries(url)
    swapped = files.cat_file(one), files.cat_file(two)
    files.pipe_file(one, swapped[1])
    files.pipe_file(two, swapped[0])
    for sort, words in ((trusts, "no trusted key"), (None, "it is another entry")):
        second = machine(f"second {sort}")
        assert second.get(second.remote(url, sort), {"the model": "1"}, "model 1").why
        assert words in second.warnings[0]


def damaged(content: bytes, how: str) -> bytes:
    if how == "empty":
        return b""
    if how == "cut off":
        return content[: len(content) // 2]
    if how == "changed":
        return content.replace(b"built", b"Built")
    return content + b"more"


@pytest.mark.parametrize("how", ["empty", "cut off", "changed", "longer"])
@pytest.mark.parametrize("signed", [True, False])
def test_a_damaged_entry_is_built_again(machine: Any, url: str, signer: Signer, how: str, signed: bool) -> None:
    first, second = machine("first"), machine("second")
    trusts, sign = (signer.verifier().accepts, signer.sign) if signed else (None, None)
    first.get(first.remote(url, trusts, sign))
    files, (path,) = entries(url)
    files.pipe_file(path, damaged(files.cat_file(path), how))
    found = second.get(second.remote(url, trusts))
    assert (found.fetched, [one.name for one in files_of(found)]) == (False, ["x.so"])
    assert "is not used" in second.warnings[0]


def archive_of(members: dict[str, bytes], link: str = "") -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            if link:
                member.type, member.linkname, member.size = tarfile.SYMTYPE, link, 0
            archive.addfile(member, io.BytesIO(content))
    return packed.getvalue()


@pytest.mark.parametrize(
    ("members", "link"),
    [
        ({"KEY/../../evil": b"x"}, ""),
        ({"/evil": b"x"}, ""),
        ({"KEY/x.so": b""}, "/etc/passwd"),
        ({"KEY/entry.json": b'{"../evil": "0"}'}, ""),
        ({"KEY/entry.json": b"[" * 100_000}, ""),
        ({"KEY/entry.json": b"{}", "KEY/more": b"x"}, ""),
        ({"KEY/entry.json": b"{}", "KEY/sub/more": b"x"}, ""),
        ({"KEY/entry.json": json.dumps({"x.so": "0" * 64}).encode(), "KEY/x.so": b"x"}, ""),
    ],
)
def test_a_hostile_entry_writes_nothing_anywhere(
    machine: Any, tmp_path: Path, members: dict[str, bytes], link: str
) -> None:
    url = f"file://{tmp_path}/remote"
    first, second = machine("first"), machine("second")
    first.get(first.remote(url, None))
    files, (path,) = entries(url)
    before = {one for one in tmp_path.rglob("*") if one.is_file()}
    key = path.rpartition("/")[2]
    content = archive_of({name.replace("KEY", key): content for name, content in members.items()}, link)
    files.pipe_file(path, content + b"tvmbuild-entry 1 " + b"-" * 128 + b"\n")
    found = second.get(second.remote(url, None))
    assert [one.name for one in files_of(found)] == ["x.so"]
    assert len(second.warnings) == 1
    new = {one for one in tmp_path.rglob("*") if one.is_file()} - before
    assert all(one.is_relative_to(second.cache / "tvmbuild" / "store") for one in new)


class Hanging(MemoryFileSystem):
    """A file system that never answers."""

    protocol = "hanging"
    release = threading.Event()

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        self.release.wait(30)
        raise OSError("too late")


class Trickling(MemoryFileSystem):
    """A file system that takes and gives a byte at a time, slowly."""

    protocol = "trickling"

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        class File(io.BytesIO):
            def read(self, _: int | None = -1) -> bytes:
                threading.Event().wait(0.02)
                return b"x"

        return File()


class Refusing(MemoryFileSystem):
    """A file system that may only be read."""

    protocol = "refusing"

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        if mode == "wb":
            raise PermissionError("no permission to write")
        raise FileNotFoundError(path)


class Broken(MemoryFileSystem):
    """A file system whose driver has errors of its own."""

    protocol = "broken"

    def _open(self, path: str, mode: str = "rb", *_: Any, **__: Any) -> Any:
        raise RuntimeError("no route to\nhost")


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Hanging, "no answer in 0.1 s"),
        (Trickling, "too slow"),
        (Broken, "no route to host"),
        (Refusing, "no permission"),
    ],
)
def test_a_remote_that_fails_is_named_once_and_left_alone(machine: Any, kind: Any, words: str) -> None:
    fsspec.register_implementation(kind.protocol, kind, clobber=True)
    one = machine("one")
    remote = one.remote(f"{kind.protocol}://user:secret@bucket", None, None, 0.1)
    for number in ("1", "2", "3"):
        assert one.get(remote, {"the model": number}).why
    assert len(one.warnings) == 1
    assert words in one.warnings[0]
    assert "secret" not in one.warnings[0]
    Hanging.release.set()


def test_the_time_grows_with_what_was_moved(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "SLOWEST", 10)

    def work(moved: patience.Moved) -> str:
        for _ in range(4):
            threading.Event().wait(0.05)
            moved.add(1)
        return "done"

    assert patience.within(0.1, work) == "done"


def test_two_writers_of_one_entry_leave_it_whole(machine: Any, tmp_path: Path, signer: Signer) -> None:
    url = f"file://{tmp_path}/remote"
    source = machine("source")
    trusts = signer.verifier().accepts
    folder = source.get(source.remote(url, None)).folder
    remotes = [source.remote(url, trusts, signer.sign) for _ in range(4)]
    threads = [threading.Thread(target=remote.offer, args=(folder.name, folder)) for remote in remotes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    other = machine("other")
    assert other.get(other.remote(url, trusts)).fetched
    assert len(entries(url)[1]) == 1
    assert not source.warnings


def test_a_killed_upload_is_no_entry(machine: Any, url: str) -> None:
    first, second = machine("first"), machine("second")
    first.get(first.remote(url, None))
    files, (path,) = entries(url)
    folder, _, name = path.rpartition("/")
    files.mv(path, f"{folder}/.{name}.0")
    found = second.get(second.remote(url, None))
    assert (found.fetched, second.warnings) == (False, [])
