"""Depfiles: what an artifact was made from, as make reads it (``-include dist/net-rpi4.d``)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tvmbuild.escape import make_file


def depfile_text(outputs: Iterable[Path], inputs: Iterable[Path]) -> str:
    """Return a make rule without recipe, and an empty rule for each input.

    By the empty rules make does not stop when an input was removed or renamed; it builds again.

    Raises:
        OptionError: a path cannot be written in a rule.
    """
    names = [make_file(str(path)) for path in dict.fromkeys(inputs)]
    rule = f"{' '.join(make_file(str(path)) for path in outputs)}: {' '.join(names)}\n"
    return rule + "".join(f"{name}:\n" for name in names)
