"""Which tests judge a mutant: those that run the changed line, the quickest first."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cosmic_ray.work_item import MutationSpec

#: Tests of a mutant take at most so many seconds of the processor; slower ones are not asked.
MOST_SECONDS = 60.0


class Judges:
    """The tests of each line of some folders of the package: those whose file imports one of their modules.

    What a file of tests runs is recorded once, and holds as long as it and all that it ran or imported stay the same.

    Attributes:
        failed: what the tests printed that fail without a mutant, by file.
    """

    def __init__(self, top: Path, folder: Path, areas: Sequence[str]) -> None:
        """Take the checkout, the folder that keeps what was recorded, and the folders of the package."""
        self._top, self._folder = top, folder
        places = tuple(f"tvmbuild/{area}/" for area in areas)
        files = sorted((top / "tests" / "unit").glob("test_*.py"))
        self._files = [
            str(path.relative_to(top)) for path in files if any(name.startswith(places) for name in imports(top, path))
        ]
        self._digests: dict[str, str] = {}
        self._seconds: dict[str, float] = {}
        self._lines: dict[str, dict[int, set[str]]] = {}
        self._importers: dict[str, set[str]] = {}
        self.failed: dict[str, str] = {}

    @property
    def state(self) -> str:
        """Return what stands for this code and these tests."""
        paths = [path for name in ("tvmbuild", "tests") for path in sorted((self._top / name).rglob("*.py"))]
        digests = [self._digest(str(path.relative_to(self._top))) for path in paths]
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    def _digest(self, path: str) -> str:
        if path not in self._digests:
            found = self._top / path
            self._digests[path] = hashlib.sha256(found.read_bytes()).hexdigest() if found.is_file() else ""
        return self._digests[path]

    def missing(self) -> list[str]:
        """Return the files of tests that were not recorded as they and what they run are now."""
        return [file for file in self._files if not self._is_kept(file)]

    def _is_kept(self, file: str) -> bool:
        kept = self._kept(file)
        if not kept.exists():
            return False
        ran = json.loads(kept.read_text(encoding="utf-8"))["ran"]
        return all(self._digest(path) == digest for path, digest in ran.items())

    def _kept(self, file: str) -> Path:
        return self._folder / f"{Path(file).stem}.json"

    def keep(self, file: str, found: dict[str, Any]) -> None:
        """Keep what was recorded for one file."""
        if "failed" in found:
            self.failed[file] = str(found["failed"])
            return
        found["ran"] = {path: self._digest(path) for path in found["ran"]}
        self._folder.mkdir(parents=True, exist_ok=True)
        self._kept(file).write_text(json.dumps(found), encoding="utf-8")

    def load(self) -> None:
        """Read all that was recorded."""
        for file in self._files:
            found = json.loads(self._kept(file).read_text(encoding="utf-8"))
            self._seconds |= found["seconds"]
            own = set(found["seconds"])
            for module, lines in found["lines"].items():
                for line, contexts in lines.items():
                    named = {
                        name
                        for context in contexts
                        for name in (own if context == file else [context] if context else [])
                    }
                    self._lines.setdefault(module, {}).setdefault(int(line), set()).update(named)
        for path in (self._top / "tvmbuild").rglob("*.py"):
            for imported in imports(self._top, path):
                self._importers.setdefault(imported, set()).add(str(path.relative_to(self._top)))

    def of(self, mutant: MutationSpec) -> list[str]:
        """Return the tests that judge a mutant, the quickest first, as many as there is time for."""
        module = str(mutant.module_path)
        lines = self._lines.get(module, {})
        place = statement_lines((self._top / module).read_text(encoding="utf-8"), mutant.start_pos[0])
        ranks = [union(lines.get(line, ()) for line in place)]
        if not ranks[0]:
            # Run by importing: it judges who uses the module, and then who uses those that use it.
            around = union(
                used for other in self._importers.get(module, ()) for used in self._lines.get(other, {}).values()
            )
            ranks = [union(lines.values()), around]
        chosen: dict[str, None] = {}
        left = MOST_SECONDS
        for tests in ranks:
            for name in sorted(tests - set(chosen), key=lambda name: (self._seconds[name], name)):
                left -= self._seconds[name]
                if left < 0:
                    return list(chosen)
                chosen[name] = None
        return list(chosen)

    def seconds(self, names: Iterable[str]) -> float:
        """Return how many seconds of the processor these tests took without a mutant."""
        return sum(self._seconds[name] for name in names)


def union(sets: Iterable[Iterable[str]]) -> set[str]:
    """Return all that is in any of them."""
    return {name for each in sets for name in each}


def statement_lines(source: str, line: int) -> range:
    """Return the lines of the innermost statement at a line; of a compound one, those of its head."""
    best = range(line, line + 1)
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.stmt):
            body = getattr(node, "body", None)
            head = min([node.lineno, *(each.lineno for each in getattr(node, "decorator_list", []))])
            last = max(node.lineno, body[0].lineno - 1) if body else node.end_lineno or node.lineno
            # Walking goes from outside to inside, so the last one is the innermost.
            best = range(head, last + 1) if head <= line <= last else best
    return best


def imports(top: Path, path: Path) -> set[str]:
    """Return the modules of the package that one imports, as paths in the checkout."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tvmbuild"):
            names |= {str(node.module), *(f"{node.module}.{each.name}" for each in node.names)}
        elif isinstance(node, ast.Import):
            names |= {each.name for each in node.names if each.name.startswith("tvmbuild")}
    candidates = {name.replace(".", "/") for name in names}
    return {form for name in candidates for form in (f"{name}.py", f"{name}/__init__.py") if (top / form).is_file()}
