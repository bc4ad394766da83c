#!/usr/bin/env python3
"""Run every check of the code's form, all of them even if one fails, and exit with 1 if any did."""

from __future__ import annotations

import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CHECKS = {
    # The longest first.
    "mypy": ["-m", "mypy"],
    # Two runs for the tests: the two folders have modules of the same names.
    "mypy of unit tests and scripts": ["-m", "mypy", "--config-file", "tests/mypy.ini", "tests/unit", "scripts"],
    "mypy of integration tests": ["-m", "mypy", "--config-file", "tests/mypy.ini", "tests/integration"],
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "import rules": ["-c", "from importlinter.cli import lint_imports_command as c; c()"],
    "structure": ["scripts/structure.py"],
    "lock": ["scripts/check_lock.py"],
    "clang-tidy": ["scripts/tidy.py"],
}
#: Programs beside this Python, and the files of the checkout that each is given.
PROGRAMS = {
    "C++ format": (["clang-format", "--dry-run", "-Werror"], ["*.c", "*.cc", "*.h"]),
    "shell": (["shellcheck"], [".ci/run", "tests/fake_ssh/*", "tvmbuild/releases/files/run.sh.in"]),
    "TOML": (["taplo", "check"], ["*.toml"]),
}


def commands(top: Path) -> dict[str, list[str]]:
    """Return the command of each check."""
    found = {name: [sys.executable, *arguments] for name, arguments in CHECKS.items()}
    for name, (program, patterns) in PROGRAMS.items():
        listed = subprocess.run(["git", "ls-files", *patterns], cwd=top, capture_output=True, text=True, check=True)
        found[name] = [str(Path(sys.executable).with_name(program[0])), *program[1:], *listed.stdout.splitlines()]
    return found


def main() -> int:
    """Run the checks from the top of the checkout."""
    top = Path(__file__).resolve().parent.parent
    with ThreadPoolExecutor(2) as pool:
        checks = [pool.submit(run, name, command, top) for name, command in commands(top).items()]
    return 0 if all(check.result() for check in checks) else 1


def run(name: str, command: list[str], top: Path) -> bool:
    """Run one check, say how it went, and return whether it passed or its program is not installed."""
    if not Path(command[0]).is_file():
        print(f"skip {name}: {command[0]} is not installed (make setup)")
        return True
    started = time.monotonic()
    done = subprocess.run(command, cwd=top, capture_output=True, text=True, check=False)
    said = done.stdout + done.stderr if done.returncode else ""
    word = "FAIL" if done.returncode else "ok  "
    print(f"{word} {name}  {time.monotonic() - started:.1f} s\n{said}", end="", flush=True)
    return done.returncode == 0


if __name__ == "__main__":
    sys.exit(main())
