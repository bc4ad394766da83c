"""Compile the runner for a target, once: the C++ program that runs a model on a board without Python."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from tvmbuild.codegen.elf import check_compatible
from tvmbuild.codegen.runtime_libs import RuntimeLibraries, pinned_versions, runtime_libraries
from tvmbuild.codegen.toolchain import Toolchain, find_toolchain, run_compiler
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.place import NATIVE
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

RUNNER_NAME = "tvmbuild-runner"
_SOURCES = NATIVE / "board"
_OPTIONS = (
    "-std=c++17",
    "-O2",
    # Fortified functions and their checks are those of a newer glibc.
    "-U_FORTIFY_SOURCE",
    "-Wl,--build-id=none",
    "-Wl,--as-needed",
    # The runtime libraries lie beside the program.
    "-Wl,-rpath,$ORIGIN",
    "-Wl,--allow-shlib-undefined",
    "-s",
)


def runner_folder(target: Target) -> Path:
    """Return a folder with the runner and the libraries that it needs; copied to a board it works there.

    The folder holds ``tvmbuild-runner``, ``libtvm_runtime.so``, ``libtvm_ffi.so`` and ``licenses/``. It is made anew
    when the sources, the toolchain, the target's glibc or the runtime's version change.

    Raises:
        ToolchainError: no compiler is installed.
        FetchError: the runtime libraries cannot be fetched.
        CompileError: the compiler refused the sources.
        IncompatibleLibraryError: the program would not start where the target's oldest glibc is.
    """
    toolchain = find_toolchain(target)
    runtime = runtime_libraries(target)

    def make(folder: Path) -> None:
        with stage(f"compile the runner for {target.triple}"):
            _compile(folder, target, toolchain, runtime)

    return cached_folder(f"runner-{target.arch}-{_key(target, toolchain, runtime)}", make)


def runner_sources() -> list[Path]:
    """Return the C++ sources of the runner, sorted."""
    return sorted(path for path in _SOURCES.iterdir() if path.suffix in (".cc", ".h"))


def _key(target: Target, toolchain: Toolchain, runtime: RuntimeLibraries) -> str:
    digest = hashlib.sha256()
    for path in runner_sources():
        digest.update(f"{path.name}\0".encode() + path.read_bytes())
    for fact in (*_OPTIONS, toolchain.name, toolchain.version, target.triple, target.glibc, runtime.version):
        digest.update(f"{fact}\0".encode())
    return digest.hexdigest()[:16]


def _compile(folder: Path, target: Target, toolchain: Toolchain, runtime: RuntimeLibraries) -> None:
    program = folder / RUNNER_NAME
    sources = [path for path in runner_sources() if path.suffix == ".cc"]
    options = [*_OPTIONS, f'-DTVMBUILD_RUNTIME_VERSION="{pinned_versions()[0]}"']
    if toolchain.links_old_glibc:
        sources = [path for path in sources if path.name != "start.cc"]
    else:
        options.append("-Wl,--wrap=__libc_start_main")
    libraries = ["-Wl,--no-as-needed", *map(str, runtime.libraries)]
    command = [*toolchain.cxx, *options, f"-I{runtime.include}", "-o", str(program), *map(str, sources), *libraries]
    run_compiler(command, "the runner")
    check_compatible(program, target)
    for library in runtime.libraries:
        shutil.copyfile(library, folder / library.name)
        check_compatible(folder / library.name, target)
    shutil.copytree(runtime.folder / "licenses", folder / "licenses")
