"""Compile ``tvmbuild-check`` for a target, once: the C++ program that tells whether a bundle fits its board."""

from __future__ import annotations

from pathlib import Path

from tvmbuild.codegen.native_programs import BoardProgram, board_program_key, compile_board_program
from tvmbuild.codegen.runtime_libs import runtime_libraries
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

CHECK_NAME = "tvmbuild-check"


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
    # Before glibc 2.34 dlopen is in a library of its own, which newer ones still have as an empty one.
    libraries = ("-ldl",) if toolchain.links_old_glibc else ("-Wl,--no-as-needed", "-l:libdl.so.2")
    program = BoardProgram("check", libraries=libraries)

    def make(folder: Path) -> None:
        with stage(f"compile the check for {target.triple}"):
            compile_board_program(program, folder / CHECK_NAME, target, toolchain, runtime)

    key = board_program_key(program, target, toolchain, runtime)
    return cached_folder(f"check-{target.arch}-{key}", make) / CHECK_NAME
