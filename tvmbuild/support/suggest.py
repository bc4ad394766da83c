"""Name the nearest known word, for errors about unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "Did you mean X?" for the nearest known word, else the list of known ones."""
    names = sorted(known)
    # Longer ones are like none, and take long to compare.
    near = difflib.get_close_matches(word[:200], names, n=1, cutoff=0.5)
    return f"Did you mean '{near[0]}'?" if near else f"Known: {', '.join(names)}."
