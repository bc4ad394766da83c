"""Toolchains: what links a library for a target, and what compiles the runner.

``gnu`` is the distribution's GCC (``aarch64-linux-gnu-g++``, or ``g++`` for this machine), ``zig`` the compiler of the
``ziglang`` wheel, which needs no root and links for any glibc.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tvmbuild.support.errors import CompileError, OptionError, ToolchainError
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.target.target import Target

#: Longest that one call of a compiler may take, in seconds; zig's first call builds its own libraries.
_COMPILER_SECONDS = 900


@dataclass(frozen=True)
class Toolchain:
    """Commands that compile and link for one target.

    Attributes:
        name: "gnu" or "zig".
        cxx: compiler and linker of C++ programs, with the options that select the target.
        linker: linker of libraries that hold no C++, with the options that select the target.
        version: the compiler's name and version, for the manifest.
        links_old_glibc: whether it links for the target's glibc by itself, whatever the build machine's is.
    """

    name: str
    cxx: tuple[str, ...]
    linker: tuple[str, ...]
    version: str
    links_old_glibc: bool


def find_toolchain(target: Target, choice: str | None = None) -> Toolchain:
    """Return the toolchain to use for a target.

    Args:
        target: what to build for.
        choice: "gnu" or "zig"; None takes the first of the target's own preferences that is installed.

    Raises:
        OptionError: there is no toolchain of that name.
        ToolchainError: it is not installed; the hint is the line that installs it.
    """
    names = target.toolchains if choice is None else (choice,)
    for name in names:
        if name not in _FINDERS:
            raise OptionError(f"There is no toolchain '{name}'.", did_you_mean(name, _FINDERS))
    for name in names:
        found = _FINDERS[name](target)
        if found is not None:
            return found
    hints = [install_hint(name, target) for name in names]
    missing = " or ".join(_needed(name, target) for name in names)
    raise ToolchainError(f"No toolchain for {target.triple} is installed: {missing} is missing.", " Or: ".join(hints))


def install_hint(name: str, target: Target) -> str:
    """Return the line that installs a toolchain for a target."""
    if name == "zig":
        return "pip install 'tvmbuild[zig]'"
    package = "g++" if target.is_native else f"g++-{target.triple.replace('_', '-')}"
    return f"sudo apt-get install -y {package}"


def run_compiler(command: Sequence[str], what: str) -> None:
    """Run a compiler or linker.

    Args:
        command: program and arguments.
        what: what is made, for the error ("the library x.so").

    Raises:
        CompileError: it failed or took too long; the message holds its last lines.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_COMPILER_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"Making {what} took over {_COMPILER_SECONDS // 60} minutes.", "Try again.") from error
    except OSError as error:
        raise CompileError(
            f"{command[0]} cannot be started: {error.strerror}.", "Install the toolchain again."
        ) from error
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise CompileError(
            f"{Path(command[0]).name} could not make {what}:\n{last}",
            "Try the other toolchain: --toolchain gnu or zig.",
        )


def _needed(name: str, target: Target) -> str:
    return "the ziglang wheel" if name == "zig" else _gnu_command(target)


def _gnu_command(target: Target) -> str:
    return "g++" if target.is_native else f"{target.triple}-g++"


def _find_gnu(target: Target) -> Toolchain | None:
    path = shutil.which(_gnu_command(target))
    if path is None:
        return None
    return Toolchain("gnu", (path,), (path,), _gnu_version(path), links_old_glibc=False)


def _find_zig(target: Target) -> Toolchain | None:
    if importlib.util.find_spec("ziglang") is None:
        return None
    zig = (sys.executable, "-m", "ziglang")
    options = ("-target", f"{target.triple}.{target.glibc}")
    version = f"zig {importlib.metadata.version('ziglang')}"
    return Toolchain("zig", (*zig, "c++", *options), (*zig, "cc", *options), version, links_old_glibc=True)


@lru_cache(maxsize=8)
def _gnu_version(path: str) -> str:
    """Return the first line of ``g++ --version``, such as "aarch64-linux-gnu-g++ (Debian 12.2.0-14) 12.2.0"."""
    try:
        done = subprocess.run([path, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolchainError(f"{path} does not work: {error}.", "Install it again with apt-get.") from error
    return done.stdout.splitlines()[0].strip()


_FINDERS: dict[str, Callable[[Target], Toolchain | None]] = {"gnu": _find_gnu, "zig": _find_zig}
