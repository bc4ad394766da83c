"""The command line: one small module a command; each parses, resolves, calls and prints."""

from __future__ import annotations

import os


def main() -> None:
    """Run the command line and exit with its code."""
    from tvmbuild.commands.app import run

    # For the programs that it starts, too; see ``onnx_model.reference.onnx_runtime``.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

    raise SystemExit(run())
