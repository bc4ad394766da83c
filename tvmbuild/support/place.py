"""Where this package lies, and what it carries beside its code."""

from __future__ import annotations

from pathlib import Path

#: The folder of the package.
PACKAGE = Path(__file__).resolve().parent.parent
#: The folder that Python finds the package in: the checkout, where nothing is installed.
BESIDE = PACKAGE.parent
#: The sources of the programs that run on boards and in the emulator.
NATIVE = PACKAGE / "native"
