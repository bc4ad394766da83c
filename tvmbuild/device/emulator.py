"""Find QEMU's user-mode emulator and the aarch64 system libraries that it runs programs with."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from tvmbuild.support.cache import cache_root
from tvmbuild.support.errors import ToolchainError

_PROGRAMS = ("qemu-aarch64", "qemu-aarch64-static")
#: Where Debian and Ubuntu put the libraries of their cross toolchain, below / or below an unpacked copy.
_SYSROOT = "usr/aarch64-linux-gnu"
#: What has to lie in a sysroot's lib folder for the runner to start.
_NEEDED = ("ld-linux-aarch64.so.1", "libc.so.6", "libstdc++.so.6", "libgcc_s.so.1")
_PACKAGES = "qemu-user libc6-arm64-cross libstdc++6-arm64-cross libgcc-s1-arm64-cross"
#: To unpack without root: where qemu-user needs libraries of its own (Debian 12, Ubuntu 22.04) this one does not.
_UNPACKED_PACKAGES = f"qemu-user-static {_PACKAGES}"


@dataclass(frozen=True)
class Emulator:
    """QEMU's user-mode emulator of aarch64.

    Attributes:
        program: path of qemu-aarch64.
        sysroot: folder in which the emulated program finds its loader and libraries (QEMU's -L).
        version: "qemu-aarch64 7.2.22".
    """

    program: str
    sysroot: Path
    version: str


def unpacked_root() -> Path:
    """Return where packages may be unpacked by a user who is not root (see the hint of ``find_emulator``)."""
    return cache_root() / "root"


def find_emulator() -> Emulator:
    """Return the emulator.

    Raises:
        ToolchainError: it or its libraries are missing; the hint is the line that installs them, with root and without.
    """
    unpacked = unpacked_root()
    installed = [shutil.which(name) for name in _PROGRAMS]
    copied = [shutil.which(name, path=str(unpacked / "usr/bin")) for name in reversed(_PROGRAMS)]
    program = next(filter(None, [*installed, *copied]), None)
    sysroot = next(
        (
            root / _SYSROOT
            for root in (Path("/"), unpacked)
            if all((root / _SYSROOT / "lib" / name).exists() for name in _NEEDED)
        ),
        None,
    )
    if program is None or sysroot is None:
        missing = "QEMU's qemu-aarch64 is" if program is None else "the aarch64 system libraries are"
        without_root = (
            f"mkdir -p {unpacked} && cd {unpacked} && apt-get download {_UNPACKED_PACKAGES} "
            "&& for package in *.deb; do dpkg -x $package .; done"
        )
        raise ToolchainError(
            f"The emulated board cannot run: {missing} missing.",
            f"sudo apt-get install -y {_PACKAGES} (without root: {without_root})",
        )
    return Emulator(program, sysroot, _version(program))


@lru_cache(maxsize=4)
def _version(program: str) -> str:
    """Return the name and number of "qemu-aarch64 version 7.2.22 (Debian ...)"."""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        raise ToolchainError(f"{program} does not work: {error}.", "Install it again with apt-get.") from error
    words = done.stdout.split()
    return f"qemu-aarch64 {words[2]}" if len(words) > 2 else "qemu-aarch64"
