"""The command line: one small module a command; each parses, resolves, calls and prints."""

from __future__ import annotations


def main() -> None:
    """Run the command line and exit with its code."""
    from tvmbuild.commands.app import run

    raise SystemExit(run())
