"""The values in files of records, which anyone may have written: each is what its field has to be, or an error tells.

Everything here raises ValueError, whose text says what is wrong; who reads the file says where.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: Numbers are kept in 64 bits elsewhere.
_LARGEST = 1 << 63
_LONGEST_TEXT = 1 << 16


def read_small(path: Path, largest: int = 1 << 20) -> bytes:
    """Return the bytes of a file that is no longer than ``largest``.

    Raises:
        OSError: it cannot be read.
        ValueError: it is longer, or no file.
    """
    if path.exists() and not path.is_file():
        # A pipe would be waited for without end.
        raise ValueError("it is no file")
    if path.stat().st_size > largest:
        raise ValueError("it is larger than any real one")
    return path.read_bytes()


def parse_object(text: str | bytes) -> dict[str, Any]:
    """Return a JSON object."""
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    return as_object(values, "it")


def as_object(value: Any, name: str) -> dict[str, Any]:
    """Return a value that is a JSON object; its names can be written and shown."""
    if not isinstance(value, dict):
        raise ValueError(f"{name} is no JSON object")
    for key in value:
        as_text(key, f"a name in {name}")
    return value


def as_list(value: Any, name: str) -> list[Any]:
    """Return a value that is a list."""
    if not isinstance(value, list):
        raise ValueError(f"{name} is no list")
    return value


def as_text(value: Any, name: str) -> str:
    """Return a value that is a text which UTF-8 can hold."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
        raise ValueError(f"{name} is no text, or too long a one")
    # Half of a surrogate pair cannot be written again.
    value.encode()
    return value


def as_flag(value: Any, name: str) -> bool:
    """Return a value that is true or false."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is neither true nor false")
    return value


def as_whole(value: Any, name: str) -> int:
    """Return a value that is a whole number of 64 bits."""
    if isinstance(value, bool) or not isinstance(value, int) or not -_LARGEST <= value < _LARGEST:
        raise ValueError(f"{name} is no whole number")
    return value


def as_number(value: Any, name: str) -> float:
    """Return a value that is a finite number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < _LARGEST:
        raise ValueError(f"{name} is no number")
    return float(value)


def as_duration(value: Any, name: str) -> float:
    """Return a value that is a number of seconds which something can take."""
    seconds = as_number(value, name)
    if not is_duration(seconds):
        raise ValueError(f"{name} has a time of {seconds:g} seconds")
    return seconds


def is_duration(seconds: float) -> bool:
    """Whether a number of seconds is a time that something can take: neither NaN nor zero nor less."""
    return math.isfinite(seconds) and seconds > 0.0


def needed(values: Mapping[str, Any], name: str) -> Any:
    """Return a value that has to be there."""
    if name not in values:
        raise ValueError(f"it has no {name}")
    return values[name]
