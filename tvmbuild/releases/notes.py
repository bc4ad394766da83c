"""Release notes: what each cell is, how big, how close to ONNX Runtime, and what changed since the last release."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.releases.cell import CellResult
from tvmbuild.releases.packed import Packed
from tvmbuild.support.border import Border, Bytes, Finite
from tvmbuild.support.errors import ArtifactError
from tvmbuild.support.escape import markdown_text

NOTES_NAME = "release-notes.md"
REPORT_NAME = "release.json"
FORMAT = "tvmbuild-release"


def report(version: str, packed: Sequence[Packed], last: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return what ``release.json`` holds.

    Args:
        version: the release's.
        packed: its bundles, with their cells.
        last: the last release's report, to compare sizes and predicted times with; None if there is none.
    """
    before = {cell["name"]: cell for cell in (last or {}).get("cells", ())}
    cells = []
    for cell in (_cell(one, bundle) for bundle in packed for one in bundle.made):
        old = before.get(cell["name"])
        if old:
            cell["library_bytes_before"] = old.get("library_bytes")
            cell["predicted_ms_before"] = old.get("predicted_ms")
            cell["same_library"] = old.get("library_sha256") == cell["library_sha256"]
        cells.append(cell)
    return {
        "format": FORMAT,
        "version": version,
        "last_version": (last or {}).get("version"),
        "cells": cells,
        "bundles": [_bundle(bundle) for bundle in packed],
    }


def read_report(path: Path) -> dict[str, Any]:
    """Read the report of an earlier release.

    Raises:
        ArtifactError: it cannot be read or is not one.
    """
    content: Any = _BORDER.json(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ArtifactError(f"{path} is no report of a release.", _GIVE)
    _BORDER.checked(content, _ReportForm, path, closed=False)
    return content


@dataclass(frozen=True)
class _CellForm:
    """What is compared of a cell."""

    name: str
    library_bytes: Bytes | None = None
    predicted_ms: Finite | None = None
    library_sha256: str | None = None


@dataclass(frozen=True)
class _ReportForm:
    """What is read of the last report."""

    cells: tuple[_CellForm, ...]
    version: str | None = None


_GIVE = f"Give the {REPORT_NAME} of a release made by this tvmbuild."
_BORDER = Border("The last release's report", ArtifactError, _GIVE)


def notes(content: dict[str, Any]) -> str:
    """Return the report as Markdown."""
    lines = [f"# Release {markdown_text(content['version'])}", ""]
    if content["last_version"]:
        lines += [f"Compared with {markdown_text(str(content['last_version']))}.", ""]
    lines += [
        "| artifact | board | library | kernels | fused | int8 | largest difference | predicted |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for cell in content["cells"]:
        name, board = markdown_text(cell["name"]), markdown_text(cell["board"])
        lines.append(
            f"| {name} | {board} | {_size(cell['library_bytes'])}{_change(cell)} | "
            f"{cell['kernels']} | {cell['fused_kernels']} | {cell['int8_share']:.0%} | "
            f"{cell['largest_difference']:.0e} | {_predicted(cell)} |"
        )
    lines += ["", "| bundle | boards | size |", "| --- | --- | ---: |"]
    for bundle in content["bundles"]:
        names = markdown_text(", ".join(bundle["targets"]))
        lines.append(f"| {markdown_text(bundle['file'])} | {names} | {_size(bundle['bytes'])} |")
    lines += [
        "",
        "Fused: kernels with more than one operator. int8: share of the multiply-accumulates. Largest difference: from "
        "ONNX Runtime on the emulated board, relative to the largest value of the output (int8: root mean squares), on "
        "seeded random inputs. "
        "Predicted: milliseconds on one core of the board, from executed instructions and LLVM's model of the core.",
        "",
        "Check what you got: `sha256sum -c SHA256SUMS`; on the board: `./run.sh --selftest`.",
    ]
    return "\n".join([*lines, ""])


def _bundle(packed: Packed) -> dict[str, Any]:
    return {
        "file": packed.archive.name,
        "targets": [one.cell.target.name for one in packed.made],
        "artifacts": [one.manifest.name for one in packed.made],
        "bytes": packed.archive.stat().st_size,
        "sha256": sha256_of(packed.archive),
    }


def _cell(one: CellResult, packed: Packed) -> dict[str, Any]:
    manifest, kernels = one.manifest, one.manifest.fusion.get("kernels", [])
    library = next(entry for entry in manifest.files if entry.name.endswith(".so"))
    worst = max((float(output["relative"]) for output in one.verification["outputs"]), default=0.0)
    return {
        "name": manifest.name,
        "model": manifest.model["file"],
        "model_sha256": manifest.model["sha256"],
        "board": one.cell.target.description,
        "target": one.cell.target.name,
        "precision": one.cell.precision,
        "library_bytes": library.bytes,
        "library_sha256": library.sha256,
        "bundle": packed.archive.name,
        "kernels": sum(int(kernel["calls"]) for kernel in kernels),
        "fused_kernels": sum(int(kernel["calls"]) for kernel in kernels if len(kernel["ops"]) > 1),
        "int8_share": float(manifest.fusion.get("int8", {}).get("share", 0.0)),
        "predicted_ms": one.prediction["milliseconds"] if one.prediction else None,
        # One digit: ONNX Runtime rounds otherwise on other machines.
        "largest_difference": float(f"{worst:.0e}"),
        "verified_on": one.verification["device"],
    }


def _size(count: int) -> str:
    return f"{count / 1e6:.2f} MB"


def _change(cell: dict[str, Any]) -> str:
    before = cell.get("library_bytes_before")
    if not before:
        return ""
    return " (the same)" if cell["same_library"] else f" ({(cell['library_bytes'] - before) / before:+.1%})"


def _predicted(cell: dict[str, Any]) -> str:
    now, before = cell.get("predicted_ms"), cell.get("predicted_ms_before")
    if now is None:
        return ""
    return f"{now:.3g} ms" + (f" ({(now - before) / before:+.1%})" if before else "")
