"""The calibration table: the range of every activation, in a file that people may edit.

It is JSON: ``version``, how the ranges were found, and by tensor's name ``low`` and ``high`` (the range to represent)
beside ``min``, ``max`` and ``zeros`` (what was seen). Tensors are those of the folded model, so that a table fits every
model that folds to the same graph, with other weights or another input size too.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

from msgspec import Meta

from tvmbuild.quantization.calibration.collect import Activations
from tvmbuild.quantization.calibration.thresholds import RangeRule, find_range
from tvmbuild.support.border import Border, Count, Finite, Share, shown
from tvmbuild.support.errors import CalibrationError
from tvmbuild.support.suggest import did_you_mean

VERSION = 1
_HINT = "Calibrate again: give another --table file, or remove this one."


@dataclass(frozen=True)
class Entry:
    """One activation.

    Attributes:
        low: lowest value to represent, at most 0.
        high: highest value to represent, at least 0.
        min: smallest value seen.
        max: largest value seen.
        zeros: share of the elements that were exactly zero.
    """

    low: Annotated[float, Meta(ge=-1e38, le=0)]
    high: Annotated[float, Meta(ge=0, le=1e38)]
    min: Finite = 0.0
    max: Finite = 0.0
    zeros: Share = 0.0


@dataclass(frozen=True)
class CalibrationTable:
    """Ranges by tensor's name, and how they were found."""

    entries: Mapping[str, Entry]
    mode: str = "kl_divergence"
    symmetric: bool = False
    samples: int = 0
    samples_sha256: str = ""
    notes: tuple[str, ...] = field(default_factory=tuple)

    def to_json(self) -> str:
        """Return the file's text: the same for the same content, one tensor a line."""
        head = {
            "version": VERSION,
            "mode": self.mode,
            "symmetric": self.symmetric,
            "samples": self.samples,
            "samples_sha256": self.samples_sha256,
        }
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}," for key, value in head.items()]
        rows = [f"    {json.dumps(name)}: {json.dumps(asdict(self.entries[name]))}" for name in sorted(self.entries)]
        return "\n".join(["{", *lines, '  "tensors": {', ",\n".join(rows), "  }", "}", ""])

    def require(self, names: Iterable[str]) -> None:
        """Check that the table has every tensor of a model.

        Raises:
            CalibrationError: tensors are missing, with their names.
        """
        missing = [name for name in names if name not in self.entries]
        if missing:
            shown = ", ".join(missing[:5]) + (", ..." if len(missing) > 5 else "")
            raise CalibrationError(
                f"The calibration table lacks {len(missing)} of the model's activations: {shown}.",
                f"It was made for another model. {did_you_mean(missing[0], self.entries)} {_HINT}",
            )


def make_table(activations: Activations, rule: RangeRule, samples_sha256: str = "") -> CalibrationTable:
    """Choose a range for every activation."""
    entries: dict[str, Entry] = {}
    notes: list[str] = []
    for name, seen in activations.histograms.items():
        low, high = find_range(seen, rule)
        empty = seen.total == 0
        least, most = (0.0, 0.0) if empty else (seen.low, seen.high)
        entries[name] = Entry(low, high, least, most, seen.zeros / seen.total if not empty else 0.0)
        if least == most:
            what = "always zero: it gets the scale 1" if most == 0.0 else f"always {most:g}"
            notes.append(f"activation '{name}' is {what}")
    return CalibrationTable(
        entries, rule.mode, rule.symmetric, activations.samples, samples_sha256, tuple(sorted(notes))
    )


@dataclass(frozen=True)
class _TableForm:
    """What a table's file must have."""

    version: int
    tensors: dict[str, Entry]
    mode: str = ""
    symmetric: bool = False
    samples: Count = 0
    samples_sha256: str = ""


_BORDER = Border("The calibration table", CalibrationError, _HINT)


def read_table(path: Path) -> CalibrationTable:
    """Read a table.

    Raises:
        CalibrationError: the file is missing, damaged, of another version, or has a range that cannot be.
    """
    content = _BORDER.json(path)
    if not isinstance(content, dict) or not isinstance(content.get("tensors"), dict):
        raise CalibrationError(f"{path} is no calibration table.", _HINT)
    if content.get("version") != VERSION:
        raise CalibrationError(
            f"The calibration table {path} has version {shown(content.get('version'))}; this tvmbuild reads {VERSION}.",
            _HINT,
        )
    for name, row in content["tensors"].items():
        # By itself, so that an error names it.
        _BORDER.checked(row, Entry, f"{path}, {shown(name)}")
    form = _BORDER.checked(content, _TableForm, path)
    return CalibrationTable(form.tensors, form.mode, form.symmetric, form.samples, form.samples_sha256)
