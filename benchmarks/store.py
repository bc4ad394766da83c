"""Results as they come: one JSON file each, so that a failure or Ctrl-C loses no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

#: One measured thing, or ``{"failed": why}``.
Result = dict[str, Any]


def save(folder: Path, part: str, name: str, result: Result) -> None:
    """Write ``folder/part/name.json``, aside and then in place."""
    path = folder / part / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_suffix(".partial")
    aside.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)


def load(folder: Path, part: str) -> dict[str, Result]:
    """Return a part's results by name; none when it never ran."""
    files = sorted((folder / part).glob("*.json"))
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in files}
