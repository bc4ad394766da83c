#!/usr/bin/env python3
"""Check that requirements.lock fits pyproject.toml, so that neither can move alone.

The wheel's dependencies are ranges; what developers and CI install is exact, in the lock alone.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def locked(lines: list[str]) -> dict[str, list[str]]:
    """Return the versions of each "name==version; marker"."""
    found: dict[str, list[str]] = {}
    for line in lines:
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
        if match:
            found.setdefault(match[1].lower().replace("_", "-"), []).append(match[2])
    return found


def main() -> int:
    """Print what the lock lacks, and what of the tools is not pinned."""
    top = Path(__file__).resolve().parent.parent
    project = tomllib.loads((top / "pyproject.toml").read_text(encoding="utf-8"))
    tools = project["dependency-groups"]["dev"]
    versions = locked((top / "requirements.lock").read_text(encoding="utf-8").splitlines())
    wrong = [f"pyproject.toml does not pin '{line}' to one version" for line in tools if "==" not in line]
    for line in [*project["project"]["dependencies"], *tools]:
        wanted = Requirement(line)
        found = versions.get(wanted.name, [])
        if not found or not all(map(wanted.specifier.contains, found)):
            wrong.append(f"requirements.lock has no {wanted.name}{wanted.specifier}: run 'make lock'")
    for line in wrong:
        print(line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
