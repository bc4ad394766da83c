#!/usr/bin/env python3
"""Measure the structure of the package: rooms, floors and arrows, and what is too large. ``make lint`` runs it.

A *room* is a module or folder right inside a package, an *arrow* says that one room imports another, and a room's
*floor* is the length of the longest way down from it. An arrow that is part of a ring points *up*.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grimp

TOP = Path(__file__).resolve().parent.parent
MOST_FILES = 20
MOST_LINES = 450


@dataclass(frozen=True)
class Structure:
    """The rooms of one package.

    Attributes:
        package: its dotted name.
        floors: each room's floor; 0 imports no other room.
        arrows: pairs of rooms, the first of which imports the second.
        up: those arrows that are part of a ring.
    """

    package: str
    floors: dict[str, int]
    arrows: frozenset[tuple[str, str]]
    up: frozenset[tuple[str, str]]

    def __str__(self) -> str:
        height = 1 + max(self.floors.values(), default=0)
        rooms, arrows = len(self.floors), len(self.arrows)
        return f"{self.package:<22} {rooms:>3} rooms {height:>3} floors {arrows:>4} arrows {len(self.up):>2} up"


def structure(graph: grimp.ImportGraph, package: str) -> Structure:
    """Return the structure of a package.

    Args:
        graph: the imports of ``tvmbuild``.
        package: the dotted name of a package in it.
    """
    depth = package.count(".") + 1
    inside = [module for module in graph.modules if module.startswith(f"{package}.")]

    def room(module: str) -> str:
        return module.split(".")[depth]

    arrows = frozenset(
        (room(module), room(imported))
        for module in inside
        for imported in graph.find_modules_directly_imported_by(module)
        if imported.startswith(f"{package}.") and room(imported) != room(module)
    )
    below = {name: {b for a, b in arrows if a == name} for name in map(room, inside)}
    reach = {name: _reachable(name, below) for name in below}
    up = frozenset((a, b) for a, b in arrows if a in reach[b])

    @cache
    def floor(name: str) -> int:
        return 1 + max((floor(other) for other in below[name] if (name, other) not in up), default=-1)

    return Structure(package, {name: floor(name) for name in below}, arrows, up)


def _reachable(name: str, below: dict[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for other in below[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


def too_large(package: Path) -> list[str]:
    """Return a sentence for each folder of too many files and each module of too many lines."""
    found = []
    for folder in sorted({path.parent for path in package.rglob("*") if path.is_file()}):
        files = [path for path in folder.iterdir() if path.is_file() and path.suffix != ".pyc"]
        if len(files) > MOST_FILES:
            found.append(f"{folder.relative_to(TOP)} has {len(files)} files, more than {MOST_FILES}")
    for path in sorted(package.rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            found.append(f"{path.relative_to(TOP)} has {lines} lines, more than {MOST_LINES}")
    return found


def main() -> int:
    """Print the structure; return 1 where an arrow points up or something is too large."""
    sys.path.insert(0, str(TOP))
    graph = grimp.build_graph("tvmbuild")
    packages = ["tvmbuild", *sorted(module for module in graph.modules if _is_package(module))]
    wrong = too_large(TOP / "tvmbuild")
    for package in packages:
        found = structure(graph, package)
        print(found)
        wrong += [f"{package}: {a} and {b} import each other" for a, b in sorted(found.up) if a < b]
    print(*wrong, sep="\n")
    return 1 if wrong else 0


def _is_package(module: str) -> bool:
    folder = TOP.joinpath(*module.split("."))
    return folder.is_dir() and module.count(".") >= 1


if __name__ == "__main__":
    sys.exit(main())
