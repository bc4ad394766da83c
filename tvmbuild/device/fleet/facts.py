"""What boards tell of themselves, read with suspicion.

Anybody who reaches a tracker can register a board and let it say what he likes. Of each group of facts only what our
own server tells is kept, where it has the right type and a sensible size; the rest counts as not told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

_MAX_TEXT = 200
_MAX_WORDS = 16
#: Larger than any number that a board can mean, and small enough for every use of it (a date among them).
_MAX_NUMBER = 1e15


def clean_text(value: object) -> str | None:
    """Return a text on one line, cut to 200 characters; None for what is no text.

    Control characters and others that a terminal does not print become "?".
    """
    if not isinstance(value, str):
        return None
    return "".join(letter if letter.isprintable() else "?" for letter in value[:_MAX_TEXT])


def whole_number(value: object, most: float = _MAX_NUMBER) -> int | None:
    """Return a whole number from 0 to ``most``; None for anything else."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    return int(value) if whole and 0 <= value <= most else None  # type: ignore[call-overload,operator]


def _number(value: object) -> float | None:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    # Also false for NaN.
    return value if number and abs(value) <= _MAX_NUMBER else None  # type: ignore[arg-type,return-value]


def _flag(value: object) -> bool | None:
    return value if isinstance(value, bool) else None


def _words(value: object) -> list[str] | None:
    if not isinstance(value, list):
        return None
    return [word for word in map(clean_text, value[:_MAX_WORDS]) if word is not None]


_Reader = Callable[[object], Any]

_FINGERPRINT: Mapping[str, _Reader] = {
    **dict.fromkeys(("machine", "core", "kernel", "glibc", "tvm", "tvm_ffi", "model"), clean_text),
    **dict.fromkeys(("part", "implementer", "variant", "revision", "cores", "max_mhz"), whole_number),
    "emulated": _flag,
}
_HEALTH: Mapping[str, _Reader] = {
    **dict.fromkeys(("free_bytes", "free_memory", "mhz", "limit_mhz"), whole_number),
    **dict.fromkeys(("temperature_c", "load"), _number),
    "governor": clean_text,
    "throttled": _words,
}
_SESSION: Mapping[str, _Reader] = {"peer": clean_text, "user": clean_text, "since": whole_number}


def read_fingerprint(value: object) -> dict[str, Any]:
    """Return what a board is: core, kernel, versions; empty when it does not tell."""
    return _read(value, _FINGERPRINT)


def read_health(value: object) -> dict[str, Any]:
    """Return how a board is doing: clocks, temperature, flags, load, free space; empty when it does not tell."""
    return _read(value, _HEALTH)


def read_session(value: object) -> dict[str, Any] | None:
    """Return who holds a board; None when nobody does, or it does not tell."""
    return _read(value, _SESSION) or None


def _read(value: object, readers: Mapping[str, _Reader]) -> dict[str, Any]:
    if not isinstance(value, dict):
        return {}
    told = {name: read(value[name]) for name, read in readers.items() if name in value}
    return {name: fact for name, fact in told.items() if fact is not None}
