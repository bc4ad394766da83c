from __future__ import annotations

import gzip
import hashlib
import io
import os
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvmbuild.artifact.archive import extract_archive, read_member, write_archive
from tvmbuild.artifact.checksums import SUMS_NAME, check_sums, sums_text
from tvmbuild.artifact.members import Limits
from tvmbuild.artifact.open import open_artifacts
from tvmbuild.artifact.relink import extract_objects
from tvmbuild.codegen.link import write_library_tar
from tvmbuild.support.errors import ArtifactError

Change = Callable[[tarfile.TarInfo], None]


def bundle(folder: Path) -> Path:
    (folder / "in").mkdir(parents=True)
    (folder / "in" / "a").write_bytes(b"A" * 100_000)
    (folder / "in" / "b").write_bytes(b"")
    files = {"x.json": folder / "in" / "a", "golden/b": folder / "in" / "b"}
    write_archive(folder / "n-1.tar.gz", "n-1", files, frozenset({"x.json"}))
    return folder / "n-1.tar.gz"


def hostile(folder: Path, change: Change, *, count: int = 1, content: bytes = b"evil") -> Path:
    """Write an archive of members that are made to be other than they should."""
    path = folder / "hostile.tar.gz"
    with tarfile.open(path, "w:gz", format=tarfile.USTAR_FORMAT) as archive:
        for index in range(count):
            member = tarfile.TarInfo(f"n/{index}")
            member.size = len(content)
            change(member)
            archive.addfile(member, io.BytesIO(content) if member.isreg() else None)
    return path


def setting(**values: object) -> Change:
    def change(member: tarfile.TarInfo) -> None:
        for name, value in values.items():
            setattr(member, name, value)

    return change


def test_an_archive_is_what_tar_and_gzip_read(tmp_path: Path) -> None:
    with tarfile.open(bundle(tmp_path), "r:gz") as archive:
        assert [(m.name, m.size, m.mode) for m in archive] == [
            ("n-1/golden/b", 0, 0o644),
            ("n-1/x.json", 100_000, 0o755),
        ]
        assert {(m.mtime, m.uid, m.gid, m.uname, m.gname) for m in archive} == {(0, 0, 0, "", "")}


def test_the_fixed_bytes_of_an_archive(tmp_path: Path) -> None:
    """The form is promised to users who compare checksums: changing it is a choice, not an accident."""
    assert hashlib.sha256(bundle(tmp_path).read_bytes()).hexdigest()[:16] == "47a0b37e3ca607bb"


def test_unpacking_gives_the_files_and_their_modes(tmp_path: Path) -> None:
    archive = bundle(tmp_path)
    (tmp_path / "out").mkdir()
    assert extract_archive(archive, tmp_path / "out") == "n-1"
    assert (tmp_path / "out/n-1/x.json").read_bytes() == b"A" * 100_000
    assert (tmp_path / "out/n-1/x.json").stat().st_mode & 0o777 == 0o755
    assert (tmp_path / "out/n-1/golden/b").read_bytes() == b""
    assert read_member(archive, ".json", 1 << 20) == b"A" * 100_000
    with pytest.raises(ArtifactError, match="larger than any real one"):
        read_member(archive, ".json", 10)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (setting(name="../evil"), "leaves its folder"),
        (setting(name="n/../../evil"), "leaves its folder"),
        (setting(name="/tmp/evil"), "leaves its folder"),
        (setting(name="n//evil"), "leaves its folder"),
        (setting(name="evil"), "one folder"),
        (setting(type=tarfile.SYMTYPE, linkname="/etc"), "no plain file"),
        (setting(type=tarfile.LNKTYPE, linkname="/etc/passwd"), "no plain file"),
        (setting(type=tarfile.CHRTYPE), "no plain file"),
        (setting(type=tarfile.BLKTYPE), "no plain file"),
        (setting(type=tarfile.FIFOTYPE), "no plain file"),
        (setting(type=tarfile.DIRTYPE), "no plain file"),
        (setting(name="n/\x1b[2J"), "can be shown"),
        (setting(type=tarfile.GNUTYPE_LONGNAME), "no plain file"),
        (setting(type=tarfile.XHDTYPE), "no plain file"),
    ],
)
def test_hostile_members_are_refused_and_write_nothing_outside(tmp_path: Path, change: Change, words: str) -> None:
    archive = hostile(tmp_path, change)
    out = tmp_path / "deep" / "out"
    out.mkdir(parents=True)
    with pytest.raises(ArtifactError, match=words):
        extract_archive(archive, out)
    assert not list(out.rglob("*"))
    assert list((tmp_path / "deep").iterdir()) == [out]


def test_a_name_that_comes_twice_and_a_file_as_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="twice"):
        extract_archive(hostile(tmp_path, setting(name="n/same"), count=2), tmp_path / "out")


@pytest.mark.parametrize("names", [("n/a", "n/a/b"), ("n/a/b", "n/a"), ("n/a/b/c", "n/a")])
def test_a_file_above_a_file_is_refused(tmp_path: Path, names: tuple[str, str]) -> None:
    left = iter(names)
    archive = hostile(tmp_path, lambda member: setattr(member, "name", next(left)), count=2)
    (tmp_path / "out").mkdir()
    with pytest.raises(ArtifactError, match="'n/a' is a file and a folder"):
        extract_archive(archive, tmp_path / "out")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "n.tar.gz")
    for path in (tmp_path / "n.tar.gz", tmp_path):
        with pytest.raises(ArtifactError, match="no file"):
            extract_archive(path, tmp_path)
    with pytest.raises(ArtifactError, match="no file"):
        open_artifacts(tmp_path / "n.tar.gz")
    with pytest.raises(ArtifactError, match="does not exist"):
        open_artifacts(tmp_path / "none.tar.gz")


@pytest.mark.parametrize("name", ["../evil.o", "/evil.o", "sub/evil.o", "evil.so"])
def test_objects_come_from_the_same_reader(tmp_path: Path, name: str) -> None:
    archive = hostile(tmp_path, setting(name=name))
    (tmp_path / "deep").mkdir()
    with pytest.raises(ArtifactError, match="refused"):
        extract_objects(archive, tmp_path / "deep")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "hostile.tar.gz"]
    assert not list((tmp_path / "deep").iterdir())


def test_a_plain_archive_that_is_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    """Up to its end mark: what tar pads it with tells nothing."""
    whole = tmp_path / "whole.tar"
    (tmp_path / "a.o").write_bytes(b"A" * 700)
    write_library_tar([tmp_path / "a.o"], whole)
    content = whole.read_bytes()
    end = 512 + 1024 + 1024
    for size in (*range(0, end, 97), end - 1):
        (tmp_path / "cut.tar").write_bytes(content[:size])
        out = tmp_path / f"out{size}"
        out.mkdir()
        with pytest.raises(ArtifactError, match=r"cut off|no tar archive"):
            extract_objects(tmp_path / "cut.tar", out)


def test_bombs_are_refused_before_they_are_written(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    many = hostile(tmp_path, lambda _: None, count=20)
    with pytest.raises(ArtifactError, match="more than 10 files"):
        extract_archive(many, tmp_path / "out", Limits(files=10))
    large = hostile(tmp_path, setting(name="n/large"), content=bytes(2_000_000))
    with pytest.raises(ArtifactError, match="more than 1000000 bytes"):
        extract_archive(large, tmp_path / "out", Limits(bytes=1_000_000))
    assert not (tmp_path / "out/n/large").exists()
    # A header that promises a terabyte of a stream that holds four bytes.
    header = tarfile.TarInfo("n/terabyte")
    header.size = 1 << 40
    lying = tmp_path / "lying.tar.gz"
    lying.write_bytes(gzip.compress(header.tobuf(tarfile.GNU_FORMAT) + b"evil"))
    with pytest.raises(ArtifactError, match="unpacks to more"):
        extract_archive(lying, tmp_path / "out")


@settings(max_examples=300)
@given(data=st.data())
def test_any_damage_is_refused_or_unpacks_inside(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damage")
    archive = bundle(folder)
    content = bytearray(archive.read_bytes())
    # The headers are where damage could mislead; the contents are under gzip's checksum.
    at = data.draw(st.integers(0, 2000) | st.integers(0, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    archive.write_bytes(content[: data.draw(st.just(len(content)) | st.integers(0, len(content)))])
    out = folder / "outer" / "out"
    out.mkdir(parents=True)
    try:
        top = extract_archive(archive, out)
    except ArtifactError:
        assert list((folder / "outer").iterdir()) == [out]
    else:
        # gzip's header has bytes that mean nothing (its time, its system).
        assert (out / top / "x.json").read_bytes() == b"A" * 100_000


def test_checksums_name_all_that_is_wrong(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).write_text(name)
    sums = tmp_path / SUMS_NAME
    sums.write_text(sums_text({name: tmp_path / name for name in ("a", "b", "c")}))
    assert check_sums(tmp_path) == ["a", "b", "c"]
    (tmp_path / "a").write_text("x")
    (tmp_path / "b").unlink()
    (tmp_path / "c").unlink()
    (tmp_path / "c").symlink_to("/etc/hostname")
    (tmp_path / "d").write_text("")
    with pytest.raises(ArtifactError, match="b is missing; d is not listed; a differs; c differs"):
        check_sums(tmp_path)


@pytest.mark.parametrize("text", ["", "no line", f"{'0' * 64}  ../a\n", f"{'0' * 64}  /a\n", f"{'0' * 63}  a\n"])
def test_damaged_checksums_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / SUMS_NAME).write_text(text)
    with pytest.raises(ArtifactError, match="damaged"):
        check_sums(tmp_path)
