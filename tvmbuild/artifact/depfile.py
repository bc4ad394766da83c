"""Depfiles: what an artifact was made from, as make reads it (``-include dist/net-rpi4.d``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


def depfile_text(outputs: Iterable[Path], inputs: Iterable[Path]) -> str:
    """Return a make rule without recipe, and an empty rule for each input.

    By the empty rules make does not stop when an input was removed or renamed; it builds again.
    """
    names = [_escaped(path) for path in dict.fromkeys(inputs)]
    rule = f"{' '.join(map(_escaped, outputs))}: {' '.join(names)}\n"
    return rule + "".join(f"{name}:\n" for name in names)


def _escaped(path: Path) -> str:
    """Return a name as make reads it (GNU make manual, "Rule Syntax"; the same that gcc -MD writes)."""
    return str(path).replace("$", "$$").replace("#", "\\#").replace(" ", "\\ ")
