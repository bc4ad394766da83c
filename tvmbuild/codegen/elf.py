"""What an ELF file is for and what it needs, and whether a target can load it."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection, GNUVerSymSection

from tvmbuild.support.errors import IncompatibleLibraryError
from tvmbuild.target.target import Target

T = TypeVar("T")

_MACHINES = {"EM_AARCH64": "aarch64", "EM_X86_64": "x86_64", "EM_ARM": "armv7l", "EM_386": "i686", "EM_RISCV": "riscv"}
#: Libraries that a board with nothing but its base system and the TVM runtime has.
BASE_LIBRARIES = (
    "ld-linux-aarch64.so.1",
    "ld-linux-x86-64.so.2",
    "libc.so.6",
    "libdl.so.2",
    "libgcc_s.so.1",
    "libm.so.6",
    "libpthread.so.0",
    "librt.so.1",
    "libstdc++.so.6",
    "libtvm_ffi.so",
    "libtvm_runtime.so",
)
#: To the loader: the folder of the file that says so.
ORIGIN = "$ORIGIN"
#: Newest symbol versions of GCC's libraries that come with glibc 2.28 and later: those of GCC 8 (Debian 10).
_GCC_LIMITS = {"GLIBCXX": (3, 4, 25), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}


#: More libraries, or versions of one library, than any real file asks for; damaged tables may point back at themselves.
_VERSION_LIMIT = 256


@dataclass(frozen=True)
class VersionedSymbol:
    """A symbol that a file takes from another library, with the version that it asks for ("GLIBC_2.29")."""

    name: str
    version: str
    library: str


@dataclass(frozen=True)
class ElfFacts:
    """What an ELF file is for and what it needs.

    Attributes:
        machine: as in ``uname -m``, or ELF's own name for an unknown one.
        needed: names of the libraries that it loads, in order.
        symbols: symbols that it takes from them, those with a version.
        finds_neighbours: whether it looks for them in its own folder first.
    """

    machine: str
    needed: tuple[str, ...]
    symbols: tuple[VersionedSymbol, ...]
    finds_neighbours: bool = False

    @property
    def glibc(self) -> str:
        """Newest glibc version asked for ("2.17"), or "" when there is none."""
        versions = [
            symbol.version.removeprefix("GLIBC_") for symbol in self.symbols if symbol.version.startswith("GLIBC_")
        ]
        return max(versions, key=version_key, default="")


def version_key(version: str) -> tuple[int, ...]:
    """Turn "2.31" into (2, 31), to compare; a part that is no number counts as newer than any."""
    return tuple(int(part) if part.isdecimal() and len(part) < 10 else 1 << 30 for part in version.split("."))


def read_elf(path: Path) -> ElfFacts:
    """Read an ELF file.

    Raises:
        IncompatibleLibraryError: it is missing, unreadable or not an ELF file.
    """
    try:
        with path.open("rb") as stream:
            return _facts(ELFFile(stream))
    except OSError as error:
        raise IncompatibleLibraryError(
            f"The library {path} cannot be read: {error.strerror}.", "Check the path, or build it again."
        ) from error
    # For some damaged files pyelftools lets other errors through than its own, failed assertions among them.
    except Exception as error:
        raise IncompatibleLibraryError(
            f"{path} is not a whole ELF file, as libraries on Linux are.", "Build it again."
        ) from error


def neighbours(path: Path) -> tuple[Path, ...]:
    """Return the libraries that a file needs and finds in its own folder: wherever it goes they have to go too.

    Raises:
        IncompatibleLibraryError: it is missing, unreadable or not an ELF file.
    """
    facts = read_elf(path)
    beside = [path.parent / name for name in facts.needed if name not in BASE_LIBRARIES]
    return tuple(each for each in beside if facts.finds_neighbours and each.is_file())


def check_compatible(path: Path, target: Target, libraries: Collection[str] = BASE_LIBRARIES) -> ElfFacts:
    """Check that a target can load a shared library or program.

    Args:
        path: the file.
        target: what it has to load on.
        libraries: names of the libraries that are there, besides those that it finds in its own folder.

    Returns:
        What the file needs.

    Raises:
        IncompatibleLibraryError: it is for another machine, needs a symbol that the target's glibc does not have (or
            the GCC libraries of that age), or needs another library; the message names it.
    """
    facts = read_elf(path)
    if facts.machine != target.arch:
        raise IncompatibleLibraryError(
            f"{path} is for {facts.machine}, but {target.name} is {target.arch}.", f"Build it with -t {target.name}."
        )
    for symbol in facts.symbols:
        family, _, version = symbol.version.partition("_")
        limit = version_key(target.glibc) if family == "GLIBC" else _GCC_LIMITS.get(family)
        if limit is not None and version_key(version) > limit:
            raise IncompatibleLibraryError(
                f"{path.name} needs {symbol.name}@{symbol.version} from {symbol.library}, "
                f"which is newer than what {target.name} has (glibc {target.glibc}).",
                "Link with zig, which links for any glibc: pip install 'tvmbuild[zig]' and --toolchain zig.",
            )
    for library in facts.needed:
        if library not in libraries and not (facts.finds_neighbours and (path.parent / library).is_file()):
            raise IncompatibleLibraryError(
                f"{path.name} needs the library {library}, which {target.name} may not have.",
                "Report this as a bug of tvmbuild, with the model.",
            )
    return facts


def _facts(elf: ELFFile) -> ElfFacts:
    machine = str(elf["e_machine"])
    needed: list[str] = []
    paths: list[str] = []
    symbols: list[VersionedSymbol] = []
    for section in elf.iter_sections():
        if isinstance(section, DynamicSection):
            needed += [tag.needed for tag in section.iter_tags("DT_NEEDED")]
            paths += [tag.runpath for tag in section.iter_tags("DT_RUNPATH")]
        elif isinstance(section, GNUVerSymSection):
            symbols += _versioned_symbols(elf, section)
    return ElfFacts(_MACHINES.get(machine, machine), tuple(needed), tuple(symbols), ORIGIN in paths)


def _versioned_symbols(elf: ELFFile, table: GNUVerSymSection) -> list[VersionedSymbol]:
    versions: dict[int, tuple[str, str]] = {}
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for library, auxiliaries in _limited(section.iter_versions()):
                versions.update({aux["vna_other"]: (aux.name, library.name) for aux in _limited(auxiliaries)})
    names = elf.get_section(table["sh_link"])
    found = []
    for index, entry in enumerate(table.iter_symbols()):
        # The number's highest bit only hides the symbol; "VER_NDX_LOCAL" and the like are no numbers.
        number = entry["ndx"]
        if isinstance(number, int) and (number & 0x7FFF) in versions:
            version, library_name = versions[number & 0x7FFF]
            found.append(VersionedSymbol(names.get_symbol(index).name, version, library_name))
    return found


def _limited(entries: Iterable[T]) -> Iterator[T]:
    for count, entry in enumerate(entries):
        if count == _VERSION_LIMIT:
            raise ValueError("a version table does not end")
        yield entry
