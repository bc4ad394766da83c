#!/usr/bin/env python3
"""Check that requirements.lock holds every pin of pyproject.toml, so that neither can move alone."""

from __future__ import annotations

import re
import sys
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def pins(requirements: list[str]) -> set[tuple[str, str]]:
    """Return (name, version) of each "name==version; marker"."""
    found = (re.match(r"([A-Za-z0-9._-]+)(?:\[[^]]*\])?==([^\s;]+)", line) for line in requirements)
    return {(match[1].lower().replace("_", "-"), match[2]) for match in found if match}


def main() -> int:
    """Print the pins that the lock lacks."""
    top = Path(__file__).resolve().parent.parent
    project = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))
    declared = [*project["project"]["dependencies"], *project["dependency-groups"]["dev"]]
    loose = [line for line in declared if "==" not in line]
    missing = pins(declared) - pins((top / "requirements.lock").read_text(encoding="utf-8").splitlines())
    for line in loose:
        print(f"pyproject.toml does not pin '{line}' to one version")
    for name, version in sorted(missing):
        print(f"requirements.lock lacks {name}=={version}: run 'make lock'")
    return 1 if loose or missing else 0


if __name__ == "__main__":
    sys.exit(main())
