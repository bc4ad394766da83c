"""Compile the runner for a target, once: the C++ program that runs a model on a board without Python."""

from __future__ import annotations

import shutil
from pathlib import Path

from tvmbuild.codegen.elf import check_compatible
from tvmbuild.codegen.native_programs import BoardProgram, board_program_key, compile_board_program
from tvmbuild.codegen.runtime_libs import RuntimeLibraries, pinned_versions, runtime_libraries
from tvmbuild.codegen.toolchain import Toolchain, find_toolchain
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

RUNNER_NAME = "tvmbuild-runner"
_RUNNER = BoardProgram(
    "runner",
    (
        "-Wl,--as-needed",
        # The runtime libraries lie beside the program.
        "-Wl,-rpath,$ORIGIN",
        "-Wl,--allow-shlib-undefined",
        f'-DTVMBUILD_RUNTIME_VERSION="{pinned_versions()[0]}"',
    ),
    ("-Wl,--no-as-needed", "-l:libtvm_runtime.so", "-l:libtvm_ffi.so"),
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

    key = board_program_key(_RUNNER, target, toolchain, runtime)
    return cached_folder(f"runner-{target.arch}-{key}", make)


def _compile(folder: Path, target: Target, toolchain: Toolchain, runtime: RuntimeLibraries) -> None:
    compile_board_program(_RUNNER, folder / RUNNER_NAME, target, toolchain, runtime)
    for library in runtime.libraries:
        shutil.copyfile(library, folder / library.name)
        check_compatible(folder / library.name, target)
    shutil.copytree(runtime.folder / "licenses", folder / "licenses")
