"""Variations of valid inputs: of bytes, and of values in JSON."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

#: Values that trust has been broken with; the last are nested deeper than a reader's stack.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**31, 2**63, 10**400, 1e308, float("nan"), float("inf"), -0.0, "", "1", "nan"),
    *("\x1b[2J\x1b]0;x\x07", "a\nb", "\u202e", "\x9b31m", "../../x", "/etc/passwd", "x" * 100_000, "%s%n", "\x00"),
    *([], {}, [[]], [None], {"": {}}, {"__class__": 1}, [1e400] * 1000),
)
DEEP = 100_000


def bytes_of(random: Random, content: bytes) -> bytes:
    """Return the bytes changed a little: a bit, a byte, a cut, a piece doubled, removed or zeroed."""
    if not content:
        return random.randbytes(10)
    at = random.randrange(len(content))
    length = random.choice((1, 4, 64, len(content) // 3))
    piece = content[at : at + length]
    return random.choice(
        (
            content[:at] + bytes([content[at] ^ (1 << random.randrange(8))]) + content[at + 1 :],
            content[:at] + random.randbytes(1) + content[at + 1 :],
            content[:at],
            content[at:],
            content[:at] + piece + content[at:],
            content[:at] + content[at + length :],
            content[:at] + bytes(len(piece)) + content[at + length :],
            content[:at] + random.randbytes(len(piece)) + content[at + length :],
        )
    )


def json_of(random: Random, content: Any) -> str:
    """Return JSON text with one to three values replaced, removed or nested too deep; or its bytes changed."""
    changed = copy.deepcopy(content)
    for _ in range(random.randint(1, 3)):
        _change(random, changed)
    text = json.dumps(changed)
    how = random.random()
    if how < 0.1:
        return bytes_of(random, text.encode()).decode(errors="replace")
    if how < 0.15:
        return text.replace(": ", f': {"[" * DEEP}{"]" * DEEP}, "": ', 1)
    return text


def _change(random: Random, content: Any) -> None:
    """Change one value somewhere inside, in place."""
    while isinstance(content, dict | list) and content:
        key = random.choice(list(content) if isinstance(content, dict) else range(len(content)))
        if isinstance(content[key], dict | list) and content[key] and random.random() < 0.7:
            content = content[key]
        elif random.random() < 0.2:
            del content[key]
            return
        else:
            content[key] = copy.deepcopy(random.choice(VALUES))
            return
