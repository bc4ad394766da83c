"""Text from outside on its way into a file of some language or onto a terminal: one function a language.

Descriptions of boards, names of tensors, paths, option values: whoever wrote them may have put line breaks, quotes or a
terminal's escape sequences into them. Everything that is generated passes such text through the function for its
language, and nothing else puts quotes around it. Each gives a whole literal, quotes and all, which means the text again
where the language can say it; where it cannot, the text is refused.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from xml.sax.saxutils import escape, quoteattr

from tvmbuild.support.errors import OptionError

#: What moves a cursor, ends a line, turns the direction of writing or cannot be encoded: the control characters of
#: ASCII and of Latin-1 (a terminal obeys both), Unicode's ends of lines and its marks of direction, halves of pairs.
CONTROL = r"\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff"
_ANY_CONTROL = re.compile(f"[{CONTROL}]")
#: The same but for the line breaks and tabs of a text of several lines.
_NOT_LAYOUT = re.compile(f"(?![\t\n])[{CONTROL}]")
_HALF = re.compile("[\ud800-\udfff]")
#: What XML 1.0 cannot hold, not even as a reference (https://www.w3.org/TR/xml/#charsets).
_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
#: What Markdown takes as its own within a line; "_" only beside something else than a letter or digit.
_MARKDOWN = re.compile(r"[\\`*\[\]|~#<>&]|(?<![^\W_])_|_(?![^\W_])")
#: What make keeps as it is anywhere in a rule or value.
_MAKE_WORD = re.compile(r"[A-Za-z0-9@%^_+=:,./~-]+")


def has_control(text: str) -> bool:
    """Whether a text holds a character that is not to be seen: a line break, an escape, a mark of direction."""
    return _ANY_CONTROL.search(text) is not None


def _shown(match: re.Match[str]) -> str:
    code = ord(match[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"


def one_line(text: str) -> str:
    r"""Return a text as one line that can be printed anywhere: control characters become ``\x1b`` or ``\u202e``."""
    return _ANY_CONTROL.sub(_shown, text)


def printable(text: str) -> str:
    """Return a text of one or more lines without control characters but line breaks and tabs."""
    return _NOT_LAYOUT.sub(_shown, text)


def json_text(text: str) -> str:
    """Return JSON text whose strings hold no control character as it is; it means the same."""
    return _ANY_CONTROL.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def shell_word(text: str) -> str:
    """Return a text as one word of a POSIX shell."""
    return shlex.quote(_checked(text, "a shell script", lambda c: c != "\0"))


def make_word(text: str) -> str:
    """Return a text as one word of a Makefile's variable; make has no quotes, so it takes plain words only."""
    if not _MAKE_WORD.fullmatch(text):
        raise _refusal(text, "a Makefile")
    return text


def make_file(text: str) -> str:
    """Return a path as a target or prerequisite of a rule (GNU make manual, "Rule Syntax"; as gcc -MD writes it).

    A ";" would begin a command, "=" a variable, "%" a pattern, and make has no way to write them in a rule.
    """
    if has_control(text) or re.search("[;=%]|^~", text):
        raise _refusal(text, "a rule of make")
    doubled = re.sub(r"(\\*)([ #])", r"\1\1\\\2", text.replace("$", "$$"))
    return re.sub(r"[:|*?\[]", r"\\\g<0>", doubled)


def make_comment(text: str) -> str:
    """Return a text for a comment of a Makefile, where a last backslash would take the next line in."""
    return one_line(text).replace("\\", "\\\\")


def toml_string(text: str) -> str:
    """Return a text as a basic string of TOML."""
    # JSON's escapes are TOML's too, but for the halves of a pair.
    quoted = json.dumps(_checked(text, "a TOML file"), ensure_ascii=False)
    return quoted.replace("\x7f", "\\u007f")


def yaml_string(text: str) -> str:
    """Return a text as a double-quoted string of YAML, in a recipe of a CI system, which must not find "${{" in it."""
    if "${{" in text:
        raise _refusal(text, "a CI recipe")
    return json.dumps(_checked(text, "a YAML file"), ensure_ascii=False).translate(_YAML)


#: What YAML does not take as it is within quotes, though JSON does.
_YAML = {code: f"\\u{code:04x}" for code in (*range(0x7F, 0xA0), 0x2028, 0x2029, 0xFEFF, 0xFFFE, 0xFFFF)}


def python_string(text: str) -> str:
    """Return a text as a string of Python."""
    return json_text(json.dumps(_checked(text, "a Python program"), ensure_ascii=False))


def c_string(text: str) -> str:
    """Return a text as a string of C, in UTF-8: whatever is no plain character becomes an octal escape."""
    return f'"{_octal(_checked(text, "a C program", lambda c: c != chr(0)))}"'


def c_comment(text: str) -> str:
    """Return a text for a comment of C, which it cannot end, nor go on in the next line by a last backslash."""
    return one_line(text).replace("*/", "* /").replace("\\", "\\ ")


def assembler_string(text: str) -> str:
    """Return a text as a string of the GNU assembler, in UTF-8."""
    return f'"{_octal(_checked(text, "an assembler file", lambda c: c != chr(0)))}"'


def _octal(text: str) -> str:
    # "?" too, since two of them begin a trigraph.
    return "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'"\\?' else f"\\{b:03o}" for b in text.encode())


def systemd_word(text: str) -> str:
    """Return a text as one argument of a unit's command (systemd.syntax, systemd.unit: specifiers)."""
    checked = _checked(text, "a unit of systemd", lambda c: not has_control(c))
    doubled = checked.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return doubled if re.fullmatch(r"[A-Za-z0-9._:/%@,+=-]+", doubled) else f'"{doubled}"'


def markdown_text(text: str) -> str:
    """Return a text for a line or a table's cell of Markdown, in which it is nothing but text."""
    return _MARKDOWN.sub(lambda match: _ENTITIES.get(match[0], f"\\{match[0]}"), one_line(text))


#: These are shown by their names: a backslash does not help within a table, or against HTML, everywhere.
_ENTITIES = {"<": "&lt;", ">": "&gt;", "&": "&amp;", "|": "&#124;"}


def plot_text(text: str) -> str:
    """Return a text for a drawing of matplotlib, which takes what stands between two "$" as a formula."""
    return one_line(text).replace("$", "\\$")


def xml_text(text: str) -> str:
    """Return a text as the content of an element of XML; what XML cannot hold is shown as by ``one_line``."""
    return escape(_NOT_XML.sub(_shown, text))


def xml_attribute(text: str) -> str:
    """Return a text as the value of an attribute of XML, with its quotes."""
    return quoteattr(_NOT_XML.sub(_shown, text))


def _checked(text: str, language: str, allowed: Callable[[str], bool] = lambda c: True) -> str:
    if _HALF.search(text) or not all(map(allowed, text)):
        raise _refusal(text, language)
    return text


def _refusal(text: str, language: str) -> OptionError:
    return OptionError(f"The text '{one_line(text)}' cannot stand in {language}.", "Use letters and digits in it.")
