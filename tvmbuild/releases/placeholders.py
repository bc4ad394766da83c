"""Templates: files in which ``@NAME@`` stands for a value, put in by the rules of the file's language.

What a placeholder gives depends on the language and the form that it asks for, never on the text around it:

- ``@NAME@``: a whole literal, with the quotes that the language has for strings (the template has none around it);
- ``@NAME:text@``: text in a comment or in prose, one line;
- ``@NAME:code@``: ``Code``, which was made for this language.

A tuple gives its items one after the other, as a list is written there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.support import escape

_PLACE = re.compile(r"@([A-Z_]+)(?::(text|code))?@")
#: The ending of a template.
ENDING = ".in"


class Code(str):
    """Text that is already in the language of the template; nothing from outside may be in it as it came."""

    __slots__ = ()


Value = str | int | tuple[str, ...]


@dataclass(frozen=True)
class _Language:
    """How a language takes text: as a literal, in a comment or in prose, and between two items of a list."""

    literal: Callable[[str], str]
    text: Callable[[str], str] = escape.one_line
    separator: str = " "


#: By the ending of the template's name, without ``.in``.
_LANGUAGES = {
    ".sh": _Language(escape.shell_word),
    ".py": _Language(escape.python_string, separator=", "),
    ".c": _Language(escape.c_string, escape.c_comment, ", "),
    ".toml": _Language(escape.toml_string, separator=", "),
    ".yml": _Language(escape.yaml_string, separator=", "),
    ".txt": _Language(escape.one_line),
    "": _Language(escape.make_word, escape.make_comment),
}


def fill_template(path: Path, values: Mapping[str, Value]) -> str:
    """Return the text of a template with its placeholders filled in.

    Args:
        path: the template, ``<name>.in``; the ending before says the language.
        values: by the names of the placeholders.

    Raises:
        OptionError: a value cannot be written in the language.
    """
    language = _LANGUAGES.get(Path(path.name.removesuffix(ENDING)).suffix)

    def filled(match: re.Match[str]) -> str:
        name, form = match[1], match[2]
        value = values[name]
        if form == "code":
            if not isinstance(value, Code):
                raise TypeError(f"{path.name}: {name} is no code")
            return value
        if language is None:
            raise TypeError(f"{path.name} is in no language that is known here")
        if isinstance(value, int):
            return str(value)
        if isinstance(value, tuple):
            return language.separator.join(map(language.literal, value))
        return (language.text if form == "text" else language.literal)(value)

    return _PLACE.sub(filled, path.read_text(encoding="utf-8"))
