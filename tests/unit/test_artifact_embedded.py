from __future__ import annotations

import contextlib
import io
import tarfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given
from hypothesis import strategies as st
from test_artifact import MANIFEST

from tvmbuild.artifact.embedded import SYMBOL, manifest_object, read_embedded, write_manifest_object
from tvmbuild.artifact.open import open_artifact
from tvmbuild.codegen.link import write_library_tar
from tvmbuild.support.errors import ArtifactError, CompileError

AARCH64, X86_64 = 183, 62
OBJECT = manifest_object(MANIFEST.to_json(), AARCH64)


@pytest.mark.parametrize(("machine", "name"), [(AARCH64, "EM_AARCH64"), (X86_64, "EM_X86_64")])
def test_the_object_is_elf_as_another_reader_sees_it(machine: int, name: str) -> None:
    elf = ELFFile(io.BytesIO(manifest_object('{"ü": 1}', machine)))
    assert (elf["e_machine"], elf["e_type"]) == (name, "ET_REL")
    symbols = elf.get_section_by_name(".symtab").get_symbol_by_name(SYMBOL)
    section = elf.get_section(symbols[0]["st_shndx"])
    assert section.data() == '{"ü": 1}'.encode() + b"\0"
    assert symbols[0]["st_size"] == len(section.data())
    assert elf.get_section_by_name(".note.GNU-stack")["sh_flags"] == 0


def test_a_lone_library_or_archive_says_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "lib0.o").write_bytes(OBJECT)
    (tmp_path / "renamed.so").write_bytes(OBJECT)
    write_library_tar([write_manifest_object(MANIFEST.to_json(), tmp_path / "lib0.o")], tmp_path / "renamed.tar")
    for ending in (".so", ".tar"):
        artifact = open_artifact(tmp_path / f"renamed{ending}")
        assert artifact.manifest == MANIFEST
        assert artifact.library == tmp_path / "renamed.so"


def test_libraries_of_others_and_files_that_are_none_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.so").write_bytes(OBJECT.replace(b".tvmbuild.manifest", b".tvmbuild.Manifest"))
    with pytest.raises(ArtifactError, match="carries no manifest"):
        open_artifact(tmp_path / "x.so")
    with tarfile.open(tmp_path / "x.tar", "w"):
        pass
    with pytest.raises(ArtifactError, match="carries no manifest"):
        open_artifact(tmp_path / "x.tar")
    (tmp_path / "x.tar").write_bytes(b"no archive at all")
    with pytest.raises(ArtifactError, match="no tar archive"):
        open_artifact(tmp_path / "x.tar")
    with pytest.raises(ArtifactError, match="No such file"):
        open_artifact(tmp_path / "none.so")


def test_a_machine_of_32_bits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "lib0.o").write_bytes(b"\x7fELF\x01\x01" + bytes(60))
    with pytest.raises(CompileError, match=r"lib0\.o"):
        write_manifest_object("{}", tmp_path / "lib0.o")


@given(
    st.lists(st.tuples(st.integers(0, len(OBJECT) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.integers(0)
)
def test_a_damaged_object_is_read_or_refused(changes: list[tuple[int, int]], cut: int) -> None:
    damaged = bytearray(OBJECT)
    for at, value in changes:
        damaged[at] = value
    with contextlib.suppress(ArtifactError):
        read_embedded(io.BytesIO(bytes(damaged[: max(1, cut % (2 * len(OBJECT)))])), "x.o")
