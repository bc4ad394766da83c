"""Compile ``libtvmbuild_threads.so`` for a target, once: the runner's threads, for programs that load models."""

from __future__ import annotations

from pathlib import Path

from tvmbuild.codegen.native_programs import BoardProgram, board_program_key, compile_board_program
from tvmbuild.codegen.runtime_libs import runtime_libraries
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

THREADS_NAME = "libtvmbuild_threads.so"
_THREADS = BoardProgram(
    "threads",
    (
        f"-Wl,-soname,{THREADS_NAME}",
        # The runtime libraries lie beside it, unless the process has them already.
        "-Wl,-rpath,$ORIGIN",
        "-Wl,--allow-shlib-undefined",
        "-fvisibility=hidden",
        # Its threads sleep in its code.
        "-Wl,-z,nodelete",
    ),
    # The runtime library comes first: this one takes the place of what that makes known when it is loaded.
    ("-Wl,--no-as-needed", "-l:libtvm_runtime.so", "-l:libtvm_ffi.so"),
    shared=True,
)


def threads_library(target: Target) -> Path:
    """Return the library for a target; it is made anew when its sources or the toolchain change.

    Raises:
        ToolchainError: no compiler is installed.
        FetchError: the runtime libraries cannot be fetched.
        CompileError: the compiler refused the sources.
        IncompatibleLibraryError: it would not load where the target's oldest glibc is.
    """
    toolchain = find_toolchain(target)
    runtime = runtime_libraries(target)

    def make(folder: Path) -> None:
        with stage(f"compile the threads for {target.triple}"):
            compile_board_program(_THREADS, folder / THREADS_NAME, target, toolchain, runtime)

    key = board_program_key(_THREADS, target, toolchain, runtime)
    return cached_folder(f"threads-{target.arch}-{key}", make) / THREADS_NAME
