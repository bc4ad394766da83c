"""The C and C++ programs in ``native/``: which folders each is made of, and how one for a board is compiled.

``native/programs.json`` says which; CMake reads the same file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tvmbuild.codegen.elf import check_compatible
from tvmbuild.codegen.runtime_libs import RuntimeLibraries
from tvmbuild.codegen.toolchain import Toolchain, run_compiler
from tvmbuild.support.place import NATIVE
from tvmbuild.target.target import Target

_LIST = NATIVE / "programs.json"
#: In each folder that has one, the file with a program's ``main``. A test links the others with a ``main`` of its own.
_MAIN = "main.cc"
#: The folder of the start-up code for an older glibc than the build machine's.
_STARTUP = "startup"
_BOARD_OPTIONS = (
    "-O2",
    # Fortified functions and their checks are those of a newer glibc.
    "-U_FORTIFY_SOURCE",
    "-Wl,--build-id=none",
    "-s",
)


@dataclass(frozen=True)
class BoardProgram:
    """How to compile one of the C++ programs for a board.

    Attributes:
        name: in ``programs.json``.
        options: of the compiler, besides those of every such program.
        libraries: options of the linker, behind the sources; those of the runtime are found by ``-l``.
        shared: whether it is a library for other programs.
    """

    name: str
    options: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ()
    shared: bool = False


def program_folders(name: str) -> tuple[str, ...]:
    """Return the folders of ``native/`` that a program is made of, or a test ("native/check_test.cc")."""
    listed = _listed()
    return tuple({**listed["programs"], **listed["tests"]}[name])


def compiler_options(language: str) -> tuple[str, ...]:
    """Return the options that every source in ``native/`` is compiled with.

    Args:
        language: "c" or "c++".
    """
    listed = _listed()
    return (f"-std={listed['standards'][language]}", *listed["warnings"], f"-I{NATIVE}")


def sources(folders: Iterable[str], *, with_main: bool = True) -> list[Path]:
    """Return the files in folders that are compiled, sorted."""
    files = _files(folders, (".c", ".cc"))
    return files if with_main else [path for path in files if path.name != _MAIN]


def sources_digest(folders: Iterable[str], facts: Iterable[object] = ()) -> str:
    """Return a digest of the sources and headers in folders, of the list, and of what else a program depends on."""
    digest = hashlib.sha256()
    for path in [_LIST, *_files(folders, (".c", ".cc", ".h"))]:
        content = path.read_bytes()
        digest.update(f"{path.relative_to(NATIVE)}\0{len(content)}\0".encode() + content)
    for fact in facts:
        digest.update(f"{fact}\0".encode())
    return digest.hexdigest()[:16]


def board_program_key(program: BoardProgram, target: Target, toolchain: Toolchain, runtime: RuntimeLibraries) -> str:
    """Return what changes whenever the compiled program might."""
    facts = (*_BOARD_OPTIONS, *program.options, *program.libraries)
    facts += (toolchain.name, toolchain.version, target.triple, target.glibc, runtime.version)
    return sources_digest((*program_folders(program.name), _STARTUP), facts)


def compile_board_program(
    program: BoardProgram, output: Path, target: Target, toolchain: Toolchain, runtime: RuntimeLibraries
) -> None:
    """Compile a program for a board into one file.

    Raises:
        CompileError: the compiler refused the sources.
        IncompatibleLibraryError: the program would not start where the target's oldest glibc is.
    """
    folders: Sequence[str] = program_folders(program.name)
    options = [*compiler_options("c++"), *_BOARD_OPTIONS, *program.options]
    options += [f"-isystem{runtime.include}", f"-L{runtime.folder / 'lib'}"]
    if program.shared:
        options += ["-shared", "-fPIC"]
    elif toolchain.links_old_glibc:
        options.append("-DTVMBUILD_LINKS_OLD_GLIBC")
    else:
        folders = (*folders, _STARTUP)
        options.append("-Wl,--wrap=__libc_start_main")
    command = [*toolchain.cxx, *options, "-o", str(output), *map(str, sources(folders)), *program.libraries]
    run_compiler(command, f"the {program.name}")
    check_compatible(output, target)


def _files(folders: Iterable[str], suffixes: tuple[str, ...]) -> list[Path]:
    return sorted(path for folder in folders for path in (NATIVE / folder).iterdir() if path.suffix in suffixes)


@lru_cache(maxsize=1)
def _listed() -> dict[str, dict[str, list[str]]]:
    listed: dict[str, dict[str, list[str]]] = json.loads(_LIST.read_text(encoding="utf-8"))
    return listed
