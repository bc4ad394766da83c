"""The score as a table in docs/testing.md, and what survived."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

_START, _END = "<!-- mutants: start -->", "<!-- mutants: end -->"


def page(outcomes: Counter[tuple[str, bool]], areas: Sequence[str], seed: int, commit: str) -> str:
    """Return the score as Markdown.

    Args:
        outcomes: how many mutants of a folder were noticed, and how many not.
        areas: the folders, in the order of the rows.
        seed: of the sample.
        commit: what the code was.
    """
    lines = ["| folder | tried | noticed | share | 95 % interval |", "| --- | ---: | ---: | ---: | ---: |"]
    rows = [(area, outcomes[area, True], outcomes[area, False]) for area in areas]
    rows.append(("all", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    for name, noticed, missed in rows:
        tried = noticed + missed
        low, high = interval(noticed, tried) if tried else (0.0, 1.0)
        share = f"{noticed / tried:.0%} | {low:.0%} to {high:.0%}" if tried else "- | -"
        lines.append(f"| {name} | {tried} | {noticed} | {share} |")
    versions = ", ".join(f"{name} {version(name)}" for name in ("cosmic-ray", "pytest", "hypothesis"))
    python = ".".join(map(str, sys.version_info[:3]))
    return "\n".join([*lines, "", f"Seed {seed}, commit {commit}, Python {python}, {versions}."])


def interval(noticed: int, tried: int) -> tuple[float, float]:
    """Return Wilson's interval of 95 % for a share."""
    z, share = 1.96, noticed / tried
    middle = share + z * z / (2 * tried)
    spread = z * math.sqrt(share * (1 - share) / tried + z * z / (4 * tried * tried))
    return (middle - spread) / (1 + z * z / tried), (middle + spread) / (1 + z * z / tried)


def write(path: Path, body: str) -> None:
    """Put the score between the markers of the page."""
    before, _, rest = path.read_text(encoding="utf-8").partition(_START)
    path.write_text(f"{before}{_START}\n{body}\n{_END}{rest.partition(_END)[2]}", encoding="utf-8")
