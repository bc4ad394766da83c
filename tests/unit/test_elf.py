from __future__ import annotations

import contextlib
import platform
from pathlib import Path

import numpy.linalg
import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tvmbuild.codegen import elf
from tvmbuild.codegen.elf import ElfFacts, VersionedSymbol, check_compatible, read_elf, version_key
from tvmbuild.support.errors import IncompatibleLibraryError
from tvmbuild.target.target import load_target

RPI4 = load_target("rpi4")
#: A real shared library of this machine.
REAL = Path(numpy.linalg._umath_linalg.__file__)
CONTENT = REAL.read_bytes()
LIBC = "libc.so.6"


def facts(machine: str = "aarch64", needed: tuple[str, ...] = (LIBC,), **symbols: str) -> ElfFacts:
    return ElfFacts(machine, needed, tuple(VersionedSymbol(name, version, LIBC) for name, version in symbols.items()))


@pytest.fixture
def check(monkeypatch: pytest.MonkeyPatch) -> object:
    """Check a library of which these facts are known."""

    def run(known: ElfFacts) -> ElfFacts:
        monkeypatch.setattr(elf, "read_elf", lambda _: known)
        return check_compatible(Path("dist/model.so"), RPI4)

    return run


def test_a_real_library_is_read() -> None:
    found = read_elf(REAL)
    assert found.machine == platform.machine()
    assert LIBC in found.needed
    assert version_key(found.glibc) >= (2, 2)
    assert any(symbol.library == LIBC and symbol.version.startswith("GLIBC_") for symbol in found.symbols)


def test_versions_compare_as_numbers() -> None:
    assert version_key("2.4") < version_key("2.31") < version_key("2.31.1") < version_key("PRIVATE")
    assert facts(a="GLIBC_2.4", b="GLIBC_2.31", c="GLIBCXX_3.4.29").glibc == "2.31"
    assert facts().glibc == ""


def test_a_library_that_fits_passes(check: object) -> None:
    known = facts(exp="GLIBC_2.29", memcpy="GLIBC_2.17")
    assert check(known) is known  # type: ignore[operator]


@pytest.mark.parametrize(
    ("known", "words"),
    [
        (facts("x86_64"), ("is for x86_64", "rpi4 is aarch64")),
        (facts(exp="GLIBC_2.29", __libc_start_main="GLIBC_2.34"), ("__libc_start_main@GLIBC_2.34", "2.31")),
        (facts(_Znwm="GLIBCXX_3.4.30"), ("_Znwm@GLIBCXX_3.4.30",)),
        (facts(needed=(LIBC, "libopenblas.so.0")), ("libopenblas.so.0",)),
    ],
)
def test_a_library_that_does_not_fit_says_why(check: object, known: ElfFacts, words: tuple[str, ...]) -> None:
    with pytest.raises(IncompatibleLibraryError) as caught:
        check(known)  # type: ignore[operator]
    assert all(word in caught.value.message for word in words)
    assert caught.value.hint


def test_missing_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(IncompatibleLibraryError, match="cannot be read"):
        read_elf(tmp_path / "none.so")
    with pytest.raises(IncompatibleLibraryError, match="cannot be read"):
        read_elf(tmp_path)
    (tmp_path / "text.so").write_text("INPUT(libm.so.6)")
    with pytest.raises(IncompatibleLibraryError, match="not a whole ELF file"):
        read_elf(tmp_path / "text.so")


def test_a_table_of_entries_without_size_is_refused(tmp_path: Path) -> None:
    damaged = bytearray(CONTENT)
    with REAL.open("rb") as stream:
        elf_file = ELFFile(stream)
        names = [section.name for section in elf_file.iter_sections()]
        header = elf_file["e_shoff"] + names.index(".gnu.version") * elf_file["e_shentsize"]
    damaged[header + 56 : header + 64] = bytes(8)  # sh_entsize of Elf64_Shdr
    path = tmp_path / "sizeless.so"
    path.write_bytes(damaged)
    with pytest.raises(IncompatibleLibraryError, match="not a whole ELF file"):
        read_elf(path)


def test_a_version_table_that_points_back_at_itself_ends(tmp_path: Path) -> None:
    damaged = bytearray(CONTENT)
    with REAL.open("rb") as stream:
        elf_file = ELFFile(stream)
        number, needs = next(
            (number, section)
            for number, section in enumerate(elf_file.iter_sections())
            if section.name == ".gnu.version_r"
        )
        header = elf_file["e_shoff"] + number * elf_file["e_shentsize"]
        table = needs["sh_offset"]
    # sh_info, the number of entries, of Elf64_Shdr; vn_next of Elf64_Verneed, the way to the next.
    damaged[header + 44 : header + 48] = b"\xff" * 4
    damaged[table + 12 : table + 16] = bytes(4)
    path = tmp_path / "loop.so"
    path.write_bytes(damaged)
    with pytest.raises(IncompatibleLibraryError, match="not a whole ELF file"):
        read_elf(path)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    length=st.integers(0, len(CONTENT)),
    # The headers and, at the end, the section table are where damage matters.
    holes=st.lists(st.one_of(st.integers(0, 1000), st.integers(len(CONTENT) - 3000, len(CONTENT) - 1)), max_size=4),
    byte=st.integers(0, 255),
)
def test_damage_is_never_a_traceback(tmp_path: Path, length: int, holes: list[int], byte: int) -> None:
    damaged = bytearray(CONTENT)
    for hole in holes:
        damaged[hole] = byte
    path = tmp_path / "damaged.so"
    path.write_bytes(damaged[:length] if not holes else damaged)
    with contextlib.suppress(IncompatibleLibraryError):
        read_elf(path)
