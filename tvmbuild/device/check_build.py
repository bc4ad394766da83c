"""Compile ``tvmbuild-check`` for a target, once: the C++ program that tells whether a bundle fits its board."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tvmbuild.codegen.elf import check_compatible
from tvmbuild.codegen.runtime_libs import RuntimeLibraries, runtime_libraries
from tvmbuild.codegen.toolchain import Toolchain, find_toolchain, run_compiler
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.place import NATIVE
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

CHECK_NAME = "tvmbuild-check"
_NATIVE = NATIVE / "board"
_OPTIONS = (
    "-std=c++17",
    "-O2",
    # Fortified functions and their checks are those of a newer glibc.
    "-U_FORTIFY_SOURCE",
    "-Wl,--build-id=none",
    "-s",
)
#: What the runner's sources give to the check: its reader of .npy, and the start-up for an older glibc.
_SHARED = ("npy.cc", "start.cc")
_HEADERS = ("npy.h", "failure.h", "printable.h", "cores.h")


def check_program(target: Target) -> Path:
    """Return the program for a target; it is made anew when its sources or the toolchain change.

    Raises:
        ToolchainError: no compiler is installed.
        FetchError: the runtime libraries, whose headers it needs, cannot be fetched.
        CompileError: the compiler refused the sources.
        IncompatibleLibraryError: the program would not start where the target's oldest glibc is.
    """
    toolchain = find_toolchain(target)
    runtime = runtime_libraries(target)

    def make(folder: Path) -> None:
        with stage(f"compile the check for {target.triple}"):
            _compile(folder / CHECK_NAME, target, toolchain, runtime)

    return cached_folder(f"check-{target.arch}-{_key(target, toolchain, runtime)}", make) / CHECK_NAME


def check_sources() -> list[Path]:
    """Return the C++ sources of the check, sorted."""
    return sorted((_NATIVE / "check").glob("*.cc")) + [_NATIVE / name for name in _SHARED]


def _key(target: Target, toolchain: Toolchain, runtime: RuntimeLibraries) -> str:
    digest = hashlib.sha256()
    headers = [*sorted((_NATIVE / "check").glob("*.h")), *(_NATIVE / name for name in _HEADERS)]
    for path in [*check_sources(), *headers]:
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    for fact in (*_OPTIONS, toolchain.name, toolchain.version, target.triple, target.glibc, runtime.version):
        digest.update(f"{fact}\0".encode())
    return digest.hexdigest()[:16]


def _compile(program: Path, target: Target, toolchain: Toolchain, runtime: RuntimeLibraries) -> None:
    sources = check_sources()
    options = [*_OPTIONS, f"-I{_NATIVE}", f"-I{runtime.include}"]
    # Before glibc 2.34 dlopen is in a library of its own, which newer ones still have as an empty one.
    if toolchain.links_old_glibc:
        sources = [path for path in sources if path.name != "start.cc"]
        libraries = ["-ldl"]
        options.append("-DTVMBUILD_LINKS_OLD_GLIBC")
    else:
        libraries = ["-Wl,--no-as-needed", "-l:libdl.so.2"]
        options.append("-Wl,--wrap=__libc_start_main")
    run_compiler([*toolchain.cxx, *options, "-o", str(program), *map(str, sources), *libraries], "the check")
    check_compatible(program, target)
