#!/usr/bin/env python3
"""Run every check of the code's form, all of them even if one fails, and exit with 1 if any did."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

CHECKS = {
    "ruff check": ["-m", "ruff", "check", "."],
    "ruff format": ["-m", "ruff", "format", "--check", "."],
    "mypy": ["-m", "mypy"],
    "import rules": ["-c", "from importlinter.cli import lint_imports_command as c; c()"],
    "structure": ["scripts/structure.py"],
    "lock": ["scripts/check_lock.py"],
}


def main() -> int:
    """Run the checks from the top of the checkout."""
    top = Path(__file__).resolve().parent.parent
    failed = []
    for name, arguments in CHECKS.items():
        started = time.monotonic()
        done = subprocess.run([sys.executable, *arguments], cwd=top, capture_output=True, text=True, check=False)
        print(f"{'ok  ' if done.returncode == 0 else 'FAIL'} {name}  {time.monotonic() - started:.1f} s", flush=True)
        if done.returncode:
            failed.append(name)
            print(done.stdout + done.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
