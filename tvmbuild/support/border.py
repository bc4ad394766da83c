"""The border: TOML and JSON from outside become values of declared types, or an error that names file and field.

Types are declared once, as annotations of the dataclass that is to be filled; msgspec compares. What passed here needs
no second look further in.
"""

from __future__ import annotations

import dataclasses
import json
import re
import sys
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta

from tvmbuild.support.errors import TvmbuildError
from tvmbuild.support.escape import CONTROL, has_control, one_line
from tvmbuild.support.paths import require_file
from tvmbuild.support.suggest import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

T = TypeVar("T")

#: Counts of runs, samples, trials and the like; 0 where that means "no limit".
Count = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Positive = Annotated[int, Meta(ge=1, le=1_000_000_000)]
Threads = Annotated[int, Meta(ge=0, le=4096)]
#: What a generator of random numbers takes.
Seed = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
#: A number that is not infinite and not NaN.
Finite = Annotated[float, Meta(ge=-1e300, le=1e300)]
NotNegative = Annotated[float, Meta(ge=0, le=1e300)]
#: A time to wait, at most some months.
Seconds = Annotated[float, Meta(gt=0, le=1e7)]
Bytes = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: What the patterns of texts ask for, in words.
_FORMS: dict[str, str] = {}


def form(pattern: str, words: str) -> Meta:
    """Return the condition that a text matches a regular expression, which errors describe in words."""
    _FORMS[repr(pattern)] = words
    return Meta(pattern=pattern)


Sha256 = Annotated[str, form(r"^[0-9a-f]{64}\Z", "a SHA-256 of 64 hexadecimal digits")]
#: One line that can be printed anywhere.
Line = Annotated[str, form(rf"^[^{CONTROL}]{{0,200}}\Z", "one line of at most 200 characters")]
#: What stands in scripts and on command lines: names of cores, of features, of toolchains.
Word = Annotated[str, form(r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,99}\Z", "a word of letters, digits and . _ + -")]
WordOrNone = Annotated[str, form(r"^([A-Za-z0-9][A-Za-z0-9._+-]{0,99})?\Z", "a word of letters, digits and . _ + -")]
#: A file's name: it goes into paths.
FileName = Annotated[str, form(rf"^(?!\.{{1,2}}\Z)[^/{CONTROL}]{{1,255}}\Z", "a file's name")]

#: No file of ours comes near. tomllib's time and memory grow with the square of the parts of a dotted key.
LARGEST_TOML = 1 << 18
MOST_DOTS = 200
#: A table in a table in a table...: everything that walks through values later may recurse.
DEEPEST = 32


class UnfitError(Exception):
    """A value is not of the declared type: str() says how.

    Attributes:
        field: where ("files[0].bytes"), "" for the whole.
        hint: what to do, if that is known.
    """

    def __init__(self, problem: str, field: str = "", hint: str = "") -> None:
        """Store problem, field and hint."""
        super().__init__(problem)
        self.field = field
        self.hint = hint


@dataclass(frozen=True)
class Border:
    """How files of one kind are read.

    Attributes:
        what: the kind, as a sentence starts ("The target file").
        error: class of the errors.
        hint: what to do about a file that cannot be used.
        largest: bytes of the largest that is read.
    """

    what: str
    error: type[TvmbuildError]
    hint: str
    largest: int = 1 << 26

    def text(self, path: Path) -> str:
        """Return the text of a file.

        Raises:
            TvmbuildError: of the class ``error``: missing, no file, too large, not UTF-8.
        """
        try:
            require_file(path)
            with path.open("rb") as stream:
                data = stream.read(self.largest + 1)
            if len(data) > self.largest:
                raise ValueError(f"it has over {self.largest} bytes, more than any real one")
            return data.decode()
        except (OSError, ValueError) as error:
            raise self.unreadable(path, error) from error

    def toml(self, path: Path) -> dict[str, Any]:
        """Return the content of a TOML file, nested at most ``DEEPEST`` tables deep.

        Raises:
            TvmbuildError: as ``text``; or the file is no TOML, or a text in it has control characters.
        """
        text = self.text(path)
        try:
            if len(text) > LARGEST_TOML:
                raise ValueError(f"it has over {LARGEST_TOML} bytes, more than any real one")
            if any(line.count(".") > MOST_DOTS for line in text.split("\n")):
                raise ValueError(f"it has a line with over {MOST_DOTS} dots")
            content: dict[str, Any] = tomllib.loads(text)
            _check_depth(content)
            _check_lines(content)
        except (ValueError, RecursionError) as error:
            raise self.unreadable(path, error) from error
        return content

    def json(self, path: Path) -> Any:
        """Return the content of a JSON file.

        Raises:
            TvmbuildError: as ``text``; or the file is no JSON.
        """
        return self.parse_json(self.text(path), path)

    def parse_json(self, text: str, name: Path | str) -> Any:
        """Return the content of a JSON text, nested at most ``DEEPEST`` deep.

        Raises:
            TvmbuildError: of the class ``error``: it is no JSON.
        """
        try:
            # Not msgspec's own reader: it refuses the infinities that Python writes.
            content = json.loads(text)
            _check_depth(content)
        except (ValueError, RecursionError) as error:
            raise self.unreadable(name, error) from error
        return content

    def checked(self, content: Any, kind: type[T], name: Path | str, *, closed: bool = True) -> T:
        """Return the content of a file, or a part of it, as a value of a declared type.

        Args:
            content: as ``toml`` or ``json`` return it.
            kind: a dataclass, or whatever msgspec can convert to.
            name: the file, for errors.
            closed: whether a key that ``kind`` does not have is an error.

        Raises:
            TvmbuildError: of the class ``error``, with the field's name.
        """
        try:
            if closed:
                _check_keys(content, kind)
            return converted(content, kind)
        except UnfitError as error:
            field = f": '{error.field}'" if error.field else ""
            raise self.error(f"{self.what} {name}{field} {error}.", error.hint or self.hint) from error

    def unreadable(self, name: Path | str, error: Exception) -> TvmbuildError:
        """Return the error for a file that cannot be read."""
        said = "it is nested too deeply" if isinstance(error, RecursionError) else getattr(error, "strerror", None)
        reason = said or " ".join(str(error).split())[:300] or type(error).__name__
        return self.error(f"{self.what} {name} cannot be read: {reason.rstrip('.')}.", self.hint)


def converted(value: Any, kind: type[T]) -> T:
    """Return a value as one of a declared type; nothing is rounded, cut off or read out of a text.

    Raises:
        UnfitError: it is of another type, or outside of the declared bounds.
    """
    try:
        return msgspec.convert(value, kind)
    except (msgspec.ValidationError, RecursionError) as error:
        problem, _, place = str(error).partition(" - at ")
        field = place.strip("`").removeprefix("$").removeprefix(".")
        raise UnfitError(_problem(problem, "" if field else shown(value)), field) from error


#: What msgspec calls types, for people.
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}
_TYPES = re.compile(r"Expected `([^`]+)`(?:, got `([^`]+)`| (.*))?")
_MISSING = re.compile(r"Object missing required field `(.+)`")


def _problem(said: str, value: str) -> str:
    """Return what msgspec says of a value, for people ("must be a whole number, not 2.7")."""
    lacking = _MISSING.fullmatch(said)
    if lacking:
        return f"lacks {lacking[1]}"
    if "out of range" in said:
        return "must be a smaller number"
    _, _, pattern = said.partition(" matching regex ")
    if pattern in _FORMS:
        return f"must be {_FORMS[pattern]}" + (f", not {value}" if value else "")
    types = _TYPES.fullmatch(said)
    if types is None:
        return f"cannot be used: {said[:1].lower()}{said[1:]}"
    wanted, got = (" or ".join(_WORDS.get(word, word) for word in (types[n] or "").split(" | ")) for n in (1, 2))
    bound = f" {types[3]}" if types[3] else ""
    return f"must be {wanted}{bound}" + (f", not {value or got}" if value or got else "")


def shown(value: Any) -> str:
    """Return a value as errors show it: short, whatever it is."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):
        # A number of thousands of digits has no text.
        return f"such a {type(value).__name__}"
    return text if len(text) <= 80 else f"{text[:77]}..."


def _check_keys(content: Any, kind: Any, field: str = "") -> None:
    """Refuse keys that a dataclass does not have, at any depth."""
    if typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    if dataclasses.is_dataclass(kind) and isinstance(content, Mapping):
        hints = typing.get_type_hints(kind)
        for key, value in content.items():
            if key not in hints:
                raise UnfitError(f"has an unknown key {shown(key)}", field, did_you_mean(key, hints))
            _check_keys(value, hints[key], f"{field}.{key}" if field else key)
    elif typing.get_origin(kind) in (tuple, list) and isinstance(content, list):
        for index, value in enumerate(content):
            _check_keys(value, typing.get_args(kind)[0], f"{field}[{index}]")
    elif typing.get_origin(kind) is dict and isinstance(content, Mapping):
        for key, value in content.items():
            _check_keys(value, typing.get_args(kind)[1], f"{field}.{key}" if field else key)


def _check_lines(content: Any) -> None:
    """Refuse texts with control characters: keys and values become parts of files, of commands and of lines.

    Raises:
        ValueError: there is one.
    """
    waiting = [content]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str) and has_control(value):
            raise ValueError(f"it has control characters, such as a line break, in the text '{one_line(value)}'")
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list):
            waiting += value


def _check_depth(content: Any) -> None:
    """Refuse what is nested too deeply, and texts that cannot be written.

    Raises:
        RecursionError: it is nested more than ``DEEPEST`` deep.
        UnicodeEncodeError: a text holds half a character, as JSON can.
    """
    level = [content]
    for _ in range(DEEPEST):
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += (*value, *value.values())
            elif isinstance(value, list):
                inner += value
            elif isinstance(value, str):
                value.encode()
        level = inner
        if not level:
            return
    raise RecursionError
