from __future__ import annotations

import errno
import hashlib
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from tvmbuild.codegen import link
from tvmbuild.codegen.elf import ElfFacts
from tvmbuild.codegen.link import export_objects, link_library, write_library_tar
from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.support.errors import CompileError, IncompatibleLibraryError, OutputError
from tvmbuild.target.target import load_target

RPI4 = load_target("rpi4")
GNU = Toolchain("gnu", ("g++",), ("g++",), "g++ 12", links_old_glibc=False)
FITS = ElfFacts("aarch64", ("libc.so.6",), ())


def objects_in(folder: Path, names: Sequence[str] = ("lib0.o", "devc.o")) -> list[Path]:
    folder.mkdir()
    for name in names:
        (folder / name).write_bytes(f"code of {name}".encode())
    return [folder / name for name in names]


@pytest.fixture
def linker(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Put a linker that copies its first object in place; returns what it is called with."""
    calls: list[list[str]] = []

    def run(command: Sequence[str], _what: str) -> None:
        calls.append(list(command))
        output = Path(command[command.index("-o") + 1])
        output.write_bytes(next(Path(word) for word in command if word.endswith(".o")).read_bytes())

    monkeypatch.setattr(link, "run_compiler", run)
    monkeypatch.setattr(link, "check_compatible", lambda *_: FITS)
    monkeypatch.setattr(link, "old_libm_options", lambda *_: [])
    return calls


def test_the_tar_depends_on_nothing_but_the_objects(tmp_path: Path) -> None:
    first = objects_in(tmp_path / "a")
    second = objects_in(tmp_path / "another")[::-1]
    for path in second:
        os.utime(path, (1e9, 1e9))
        path.chmod(0o600)
    write_library_tar(first, tmp_path / "one.tar")
    write_library_tar(second, tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_the_tar_holds_the_objects_and_no_name_or_time_of_this_machine(tmp_path: Path) -> None:
    write_library_tar(objects_in(tmp_path / "a"), tmp_path / "x.tar")
    with tarfile.open(tmp_path / "x.tar", "r:") as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == ["devc.o", "lib0.o"]
        for member in members:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            content = archive.extractfile(member)
            assert content is not None
            assert content.read() == f"code of {member.name}".encode()


def test_a_library_replaces_the_last_one_and_may_be_executed(tmp_path: Path, linker: list[list[str]]) -> None:
    (tmp_path / "x.so").write_text("the last build")
    assert link_library(objects_in(tmp_path / "a"), tmp_path / "x.so", RPI4, GNU) is FITS
    assert (tmp_path / "x.so").read_bytes() == b"code of lib0.o"
    assert (tmp_path / "x.so").stat().st_mode & 0o777 == 0o755
    assert linker[0][0] == "g++"
    assert "-Wl,--build-id=none" in linker[0]


@pytest.mark.parametrize("error", [CompileError("no", "x"), IncompatibleLibraryError("no", "x"), KeyboardInterrupt()])
def test_a_failed_link_leaves_the_last_library_alone(
    tmp_path: Path, linker: list[list[str]], monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(link, "check_compatible", fail)
    objects = objects_in(tmp_path / "a")
    (tmp_path / "x.so").write_text("the last build")
    before = sorted(path.name for path in tmp_path.iterdir())
    with pytest.raises(type(error)):
        link_library(objects, tmp_path / "x.so", RPI4, GNU)
    assert (tmp_path / "x.so").read_text() == "the last build"
    assert sorted(path.name for path in tmp_path.iterdir()) == before


@pytest.mark.parametrize("write", [write_library_tar, lambda objects, path: link_library(objects, path, RPI4, GNU)])
def test_a_folder_that_is_not_there_is_an_output_error(
    tmp_path: Path, linker: list[list[str]], write: Callable[[list[Path], Path], object]
) -> None:
    with pytest.raises(OutputError) as caught:
        write(objects_in(tmp_path / "a"), tmp_path / "none" / "x.out")
    assert "-o" in caught.value.hint


class FakeExecutable:
    """Exports what it is told to, as TVM's executable does."""

    def __init__(self, *names: str) -> None:
        self.names = names

    def export_library(self, path: str, *, fcompile: Callable[..., None], workspace_dir: str, **_: Any) -> None:
        assert fcompile.object_format == "o"  # type: ignore[attr-defined]
        fcompile(path, [f"{workspace_dir}/{name}" for name in self.names], options=None)


def test_objects_are_exported_in_tvms_order(tmp_path: Path) -> None:
    assert export_objects(FakeExecutable("lib0.o", "devc.o"), tmp_path) == [tmp_path / "lib0.o", tmp_path / "devc.o"]


def test_what_cannot_be_linked_is_named(tmp_path: Path) -> None:
    with pytest.raises(CompileError, match=r"lib1\.c"):
        export_objects(FakeExecutable("lib0.o", "lib1.c"), tmp_path)


def test_the_fixed_bytes_of_a_tar(tmp_path: Path) -> None:
    """The form of the tar is promised to users who compare checksums: changing it is a choice, not an accident."""
    write_library_tar(objects_in(tmp_path / "a"), tmp_path / "x.tar")
    digest = hashlib.sha256((tmp_path / "x.tar").read_bytes()).hexdigest()
    assert digest[:16] == "9b677a9f30450b92"


def test_a_full_disk_is_noticed_before_llvm_ends_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(OutputError, match="no room for object code"):
        export_objects(None, tmp_path)
    assert list(tmp_path.iterdir()) == []
