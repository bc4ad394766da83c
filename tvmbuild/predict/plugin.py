"""Builds the QEMU plugin that counts executed blocks, once for each version of its sources and of QEMU's interface."""

from __future__ import annotations

import re
import shutil
import subprocess
from functools import lru_cache
from pathlib import Path

from tvmbuild.codegen.native_programs import compiler_options, program_folders, sources, sources_digest
from tvmbuild.codegen.toolchain import run_compiler
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.errors import ToolchainError
from tvmbuild.support.progress import stage

_NAME = "block_profile.so"
_OPTIONS = ("-O2", "-fPIC", "-shared", "-fvisibility=hidden", "-pthread")
_COMPILERS = ("cc", "gcc", "clang")
_NEED_PLUGINS = (
    "Install a dynamic QEMU 4.2 or newer with plugins: apt-get install qemu-user on Debian 12 or Ubuntu 24.04. Debian "
    "13 packages a static one, which cannot load plugins: predict in a Debian 12 container there."
)


def plugin_for(emulator: str) -> Path:
    """Return the compiled plugin for an emulator.

    Args:
        emulator: path of qemu-aarch64.

    Raises:
        ToolchainError: the emulator cannot load plugins, or no C compiler is installed.
        CompileError: the compiler refused the sources.
    """
    api = plugin_api(_output_of(emulator, "--version"))
    if "-plugin" not in _output_of(emulator, "-h"):
        raise ToolchainError(f"{emulator} cannot load plugins, which the prediction needs.", _NEED_PLUGINS)
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        raise ToolchainError("No C compiler is installed to build the profiler with.", "sudo apt-get install -y gcc")
    folders = program_folders("plugin")

    def make(folder: Path) -> None:
        with stage("compile the instruction counter"):
            options = [*compiler_options("c"), *_OPTIONS, f"-DQEMU_PLUGIN_API={api}"]
            command = [compiler, *options, "-o", str(folder / _NAME), *map(str, sources(folders))]
            run_compiler(command, "the instruction counter")

    return cached_folder(f"predict-plugin-{sources_digest(folders, (_OPTIONS, compiler, api))}", make) / _NAME


def plugin_api(version_text: str) -> int:
    """Return the version of the plugin interface that a QEMU wants (1, 2 or 3), from what ``--version`` prints.

    QEMU 9.0 dropped version 1, and 9.1 changed how a plugin reads instructions; later ones still take version 3.

    Raises:
        ToolchainError: the text holds no version.
    """
    match = re.search(r"version (\d+)\.(\d+)", version_text)
    if match is None:
        raise ToolchainError(f"QEMU's version cannot be read from {version_text.strip()[:80]!r}.", _NEED_PLUGINS)
    version = int(match.group(1)), int(match.group(2))
    return 1 if version < (9, 0) else 2 if version < (9, 1) else 3


@lru_cache(maxsize=8)
def _output_of(emulator: str, option: str) -> str:
    try:
        done = subprocess.run([emulator, option], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolchainError(f"{emulator} does not work: {error}.", _NEED_PLUGINS) from error
    return done.stdout
