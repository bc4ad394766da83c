#!/usr/bin/env python3
"""Set up a checkout: the system packages, .venv and the pinned Python packages. Needs only Python's own library.

A second run finds its stamp in .venv and does nothing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent
VENV = TOP / ".venv"
OLDEST_PYTHON = (3, 10)
#: Packages of Debian and Ubuntu, and the programs of which one shows that the package is there.
COMPILER = {"g++": ("g++",)}
CROSS = {"g++-aarch64-linux-gnu": ("aarch64-linux-gnu-g++",), "qemu-user": ("qemu-aarch64", "qemu-aarch64-static")}
#: Recommended packages would register emulators with the kernel, for every program of this machine.
APT_INSTALL = ("apt-get", "install", "-y", "--no-install-recommends")


class SetupError(Exception):
    """What stops the setup, in words for people."""


def missing_packages() -> list[str]:
    """Return the system packages to install."""
    # Debian and Ubuntu leave the part of Python that makes virtual environments out of python3.
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    missing = [] if importlib.util.find_spec("ensurepip") else [f"python{version}-venv"]
    wanted = COMPILER if platform.machine() == "aarch64" else {**CROSS, **COMPILER}
    return missing + [package for package, programs in wanted.items() if not any(map(shutil.which, programs))]


def install_system_packages(packages: Sequence[str]) -> None:
    """Install system packages, if this is root on Debian or Ubuntu.

    Raises:
        SetupError: it is not, or apt-get failed.
    """
    if shutil.which("apt-get") is None:
        raise SetupError(
            f"These packages (by their Debian names) are missing: {' '.join(packages)}.\n"
            "Install them with this system's package manager, then run 'make setup' again."
        )
    if os.geteuid() != 0:
        line = f"sudo apt-get update && sudo {' '.join(APT_INSTALL)} {' '.join(packages)}"
        raise SetupError(f"System packages are missing. Install them, then run 'make setup' again:\n\n  {line}\n")
    hint = "Check the network and apt's sources, then run 'make setup' again."
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update"], "update the list of system packages", hint, quiet)
    run([*APT_INSTALL, *packages], f"install {' '.join(packages)}", hint, quiet)


def make_environment() -> None:
    """Create .venv, unless a working one of this Python is there."""
    if is_usable(VENV):
        return
    # Inside a virtual environment, perhaps this one, sys.executable would vanish under the command's feet.
    python = getattr(sys, "_base_executable", None) or sys.executable
    run([python, "-m", "venv", "--clear", str(VENV)], "create .venv", "Remove .venv, then run 'make setup' again.")


def is_usable(venv: Path) -> bool:
    """Return whether a virtual environment is whole, of this Python, and where it was made."""
    python = venv / "bin" / "python"
    made_for = read_stamp()[:1]
    if not python.exists() or made_for not in ([], [environment_key()]):
        return False
    probe = "import pip, sys; print(*sys.version_info[:2])"
    done = subprocess.run([str(python), "-c", probe], capture_output=True, text=True, check=False)
    return done.stdout.split() == [str(part) for part in sys.version_info[:2]]


def install_python_packages() -> None:
    """Install exactly what requirements.lock names, then the checkout itself."""
    pip = [str(VENV / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "--no-input", "install", "--quiet"]
    hint = "Check the network and pip's settings (pip config list), then run 'make setup' again."
    # A setting that asks for --user makes pip refuse to install into a virtual environment.
    ours = {"PIP_USER": "0"}
    lock = [*pip, "--no-deps", "--require-hashes", "--requirement", str(TOP / "requirements.lock")]
    run(lock, "install the packages of requirements.lock", hint, ours)
    run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(TOP)], "install tvmbuild itself", hint, ours)


def run(command: Sequence[str], what: str, hint: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a command, with its duration on one line.

    Raises:
        SetupError: it failed; holds the last lines that it wrote.
    """
    print(f"setup  {what} ...", end="", flush=True)
    started = time.monotonic()
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=TOP,
            env={**os.environ, **(environment or {})},
            check=False,
        )
    except OSError as error:
        print(" failed", flush=True)
        raise SetupError(f"{command[0]} cannot be started: {error.strerror}.\n{hint}") from error
    if done.returncode != 0:
        print(" failed", flush=True)
        last = "\n".join(done.stdout.decode("utf-8", "replace").strip().splitlines()[-12:])
        raise SetupError(f"{last}\n\nCould not {what}. {hint}")
    print(f" {time.monotonic() - started:.0f} s", flush=True)


def environment_key() -> str:
    """Return what .venv depends on: scripts in it hold its path, and it holds links to its Python."""
    return hashlib.sha256(f"{VENV}\0{sys.base_prefix}\0{sys.version_info[:2]}".encode()).hexdigest()


def contents_key() -> str:
    """Return what the installed packages depend on."""
    digest = hashlib.sha256()
    for path in (TOP / "requirements.lock", TOP / "pyproject.toml", Path(__file__)):
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def read_stamp() -> list[str]:
    """Return the two keys of the finished setup in .venv, or nothing."""
    try:
        return (VENV / "tvmbuild-setup").read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError):
        return []


def write_stamp() -> None:
    """Say in .venv what it was set up for."""
    aside = VENV / f"tvmbuild-setup.{os.getpid()}"
    aside.write_text(f"{environment_key()}\n{contents_key()}\n", encoding="utf-8")
    aside.replace(VENV / "tvmbuild-setup")


def set_up() -> None:
    """Do what is left to do."""
    if sys.version_info < OLDEST_PYTHON:
        raise SetupError(
            f"Python 3.10 or newer is needed; this is {platform.python_version()}. "
            "Name a newer one: make setup PYTHON=python3.11"
        )
    # Looked for each time: they may have been removed since.
    packages = missing_packages()
    if packages:
        install_system_packages(packages)
    if read_stamp() == [environment_key(), contents_key()] and (VENV / "bin" / "python").exists():
        print("setup  .venv is up to date", flush=True)
        return
    make_environment()
    install_python_packages()
    write_stamp()


def main() -> int:
    """Set up, and print what went wrong without a traceback."""
    try:
        set_up()
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"\nThe checkout cannot be set up: {error}.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped; 'make setup' goes on from here.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
