"""Depfiles: what an artifact was made from, as make reads it (``-include dist/net-rpi4.d``)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from tvmbuild.support.escape import make_file

#: Made anew each time that it is asked for.
_APPEARED = "tvmbuild-appeared"


def depfile_text(outputs: Iterable[Path], inputs: Iterable[Path], absent: Iterable[Path] = ()) -> str:
    """Return a make rule without recipe, and an empty rule for each input.

    By the empty rules make does not stop when an input was removed or renamed; it builds again. What was absent is
    looked for when make starts: an input that appeared is newer for make than any output, whatever its time.

    Raises:
        OptionError: a path cannot be written in a rule.
    """
    names = [make_file(str(path)) for path in dict.fromkeys(inputs)]
    made = " ".join(make_file(str(path)) for path in outputs)
    text = f"{made}: {' '.join(names)}\n" + "".join(f"{name}:\n" for name in names)
    looked_for = " ".join(map(_pattern, dict.fromkeys(absent)))
    if looked_for:
        text += f"{made}: $(if $(wildcard {looked_for}),{_APPEARED})\n.PHONY: {_APPEARED}\n{_APPEARED}:\n"
    return text


def _pattern(path: Path) -> str:
    """Return a name as ``$(wildcard)`` takes it: versions of make differ in how they quote inside a function."""
    return re.sub(r"[^\w./+@,-]", "?", str(path))
