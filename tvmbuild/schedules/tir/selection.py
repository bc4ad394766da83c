"""Choosing one of several expressions by an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def pick(index: Any, values: Sequence[Any]) -> Any:
    """Return the value at an index, as a chain of selections that unrolling resolves (imports tvm)."""
    from tvm import tirx

    *rest, chosen = values
    for position in reversed(range(len(rest))):
        chosen = tirx.Select(index == position, rest[position], chosen)
    return chosen
