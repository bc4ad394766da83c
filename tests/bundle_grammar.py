"""The grammar of bundle.conf as a regular expression, made from the one in docs/release.md."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

_PAGE = Path(__file__).parents[1] / "docs" / "release.md"
#: Core rules of RFC 5234 that the grammar uses. Its texts in quotes are told apart by case here.
_CORE = {"LF": "\\n", "DIGIT": "[0-9]", "ALPHA": "[A-Za-z]"}
_ELEMENT = re.compile(r'(?:(\d*)(\*)(\d*))?(?:"([^"]*)"|([A-Za-z]+))|(/)')


@cache
def bundle_conf() -> re.Pattern[str]:
    """Return the expression that a whole bundle.conf matches."""
    block = re.search(r"```abnf\n(.*?)```", _PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert block is not None
    rules = dict(re.split(r"\s+=\s+", line, maxsplit=1) for line in block[1].splitlines())
    return re.compile(_expression("bundle", rules))


def _expression(rule: str, rules: dict[str, str]) -> str:
    if rule in _CORE:
        return _CORE[rule]
    parts = []
    for least, repeated, most, text, name, choice in _ELEMENT.findall(rules[rule]):
        part = "|" if choice else _expression(name, rules) if name else re.escape(text)
        parts.append(f"(?:{part}){{{least or 0},{most}}}" if repeated else part)
    return f"(?:{''.join(parts)})"
