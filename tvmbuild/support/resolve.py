"""Resolves options from all sources, once, each with its origin.

Later sources win: the defaults in ``options.py``, the project file (``tvmbuild.toml``), the target, the environment
(``TVMBUILD_TARGET=rpi5``), the flags. Commands print the result before they start.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tvmbuild.support.border import Border, UnfitError, converted, shown
from tvmbuild.support.errors import OptionError
from tvmbuild.support.options import SWITCHES, Switch
from tvmbuild.support.paths import is_file
from tvmbuild.support.precision import Precision
from tvmbuild.support.suggest import did_you_mean

#: Name of the project file, looked for in the working folder.
PROJECT_FILE = "tvmbuild.toml"

_BORDER = Border("The project file", OptionError, "Mend the file, or run in another folder.")
#: Its table for ``build``, and the options there that say what is built: other commands follow them.
BUILD_TABLE = "build"
BUILT_ALIKE = frozenset(
    {"target", "shape", "value", "precision", "fp16", "toolchain", "records", "compare", "limit", "strips"}
)

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True)
class Resolved(Generic[OptionsT]):
    """Options with the origin of each: "default", "tvmbuild.toml", "target rpi4", "TVMBUILD_SEED" or "--seed"."""

    options: OptionsT
    origins: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return one "name = value  (origin)" line for each option that is not at its default."""
        shown = [(name, origin) for name, origin in self.origins.items() if origin != _DEFAULT]
        return [f"{name} = {_text(getattr(self.options, name))}  ({origin})" for name, origin in shown]


def flag_name(option: str) -> str:
    """Return the command line flag of an option ("dump_ir" -> "--dump-ir")."""
    return "--" + option.replace("_", "-")


def read_project_file(table: str, folder: Path | None = None) -> dict[str, Any]:
    """Return one table of the project file, empty when the file or the table is absent.

    Raises:
        OptionError: the file is not valid TOML, a text in it has control characters, or the table is not a table.
    """
    path = (folder or Path()) / PROJECT_FILE
    if not is_file(path):
        return {}
    values = _BORDER.toml(path).get(table, {})
    if not isinstance(values, dict):
        raise OptionError(f"{path}: '{table}' must be a table.", f"Write [{table}] on a line of its own.")
    return values


def read_project_options(kind: type, table: str) -> dict[str, Any]:
    """Return one table of the project file, with what [build] says of the model and the board where it is silent.

    ``tune``, ``quantize`` and ``inspect`` thus see the model that ``build`` builds.

    Args:
        kind: the options' dataclass.
        table: name of the table.

    Raises:
        OptionError: like ``read_project_file``.
    """
    items = dataclasses.fields(kind)
    names = {name for item in items for name in (item.name, *_switches(item))} & BUILT_ALIKE
    shared = {name: value for name, value in read_project_file(BUILD_TABLE).items() if name in names}
    if shared.get("precision") in list(Precision):
        # Only ``build`` quantizes; the others are given the model that it made of it.
        shared["precision"] = str(Precision(shared["precision"]).unquantized)
    own = read_project_file(table)
    outdone = {name for item in items if item.name in own for name in _switches(item)}
    return {name: value for name, value in shared.items() if name not in outdone} | own


def resolve(
    kind: type[OptionsT],
    flags: Mapping[str, Any],
    *,
    project: Mapping[str, Any] | None = None,
    target: tuple[str, Mapping[str, Any]] | None = None,
    environ: Mapping[str, str] | None = None,
) -> Resolved[OptionsT]:
    """Merge all sources into one frozen ``kind``.

    Args:
        kind: the options' dataclass.
        flags: values from the command line; None means not given.
        project: the project file's table; read from the working folder by the caller.
        target: the target's name and the values that it prefers.
        environ: the environment; ``os.environ`` by default.

    Raises:
        OptionError: an unknown name in the project file, or a value of the wrong type, with its origin.
    """
    environ = os.environ if environ is None else environ
    hints = typing.get_type_hints(kind, include_extras=True)
    items = dataclasses.fields(kind)  # type: ignore[arg-type]
    known = [name for item in items for name in (item.name, *_switches(item))]
    for key in project or {}:
        if key not in known:
            raise OptionError(f"{PROJECT_FILE} has an unknown option '{key}'.", did_you_mean(key, known))

    def sources(name: str, off: str = "") -> list[tuple[str, Any]]:
        variable, flag = f"TVMBUILD_{name.upper()}", flags.get(name)
        return [
            (PROJECT_FILE, (project or {}).get(name)),
            (f"target {target[0]}" if target else "target", target[1].get(name) if target else None),
            (variable, environ.get(variable)),
            (flag_name(off if off and flag is False else name), flag),
        ]

    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for item in items:
        name, switches = item.name, _switches(item)
        origins[name] = _DEFAULT
        ranks = zip(sources(name), *(sources(each, switch.off) for each, switch in switches.items()), strict=True)
        for (origin, value), *switched in ranks:
            if value is not None and value not in ((), []):
                values[name] = _convert(value, hints[name], origin, name)
                origins[name] = origin
            for (each, switch), (where, on) in zip(switches.items(), switched, strict=True):
                if on is not None:
                    values[name] = switch.apply(values.get(name, item.default), _convert(on, bool, where, each))
                    origins[name] = where if origins[name] in (_DEFAULT, where) else f"{origins[name]}, {where}"
    return Resolved(kind(**values), origins)


_DEFAULT = "default"


def _switches(item: dataclasses.Field[Any]) -> Mapping[str, Switch]:
    found: Mapping[str, Switch] = item.metadata.get(SWITCHES, {})
    return found


def _convert(value: Any, hint: Any, origin: str, name: str) -> Any:
    """Return a value from one of the sources as its option has it.

    The environment and the command line may have texts for any type; a file has types of its own, and keeps to them.
    """
    kind = next(iter(typing.get_args(hint))) if isinstance(hint, types.UnionType) else hint
    plain = typing.get_args(kind)[0] if typing.get_origin(kind) is typing.Annotated else kind
    try:
        if plain is Path:
            return _path(value)
        if isinstance(plain, type) and issubclass(plain, enum.Enum):
            return _member(value, plain)
        if isinstance(value, str) and plain is not str and origin != PROJECT_FILE:
            value = _parsed(value, plain)
        if isinstance(value, str) and typing.get_origin(plain) is tuple:
            value = value.split()
        return converted(value, kind)
    except UnfitError as error:
        raise OptionError(f"{origin}: {name} {error}.", "See 'tvmbuild COMMAND --help' for its values.") from error


def _member(value: Any, kind: type[enum.Enum]) -> enum.Enum:
    names = [str(each.value) for each in kind]
    if isinstance(value, str) and value in names:
        return kind(value)
    raise UnfitError(f"must be one of {', '.join(names)}, not {shown(value)}")


def _path(value: Any) -> Path:
    path = value if isinstance(value, Path) else Path(converted(value, str))
    try:
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
    except UnicodeEncodeError as error:
        raise UnfitError(f"must be a path, not {shown(str(path))}") from error
    if "\0" in str(path) or longest > _LONGEST_NAME:
        raise UnfitError(f"must be a path, not {shown(str(path))}")
    return path


#: Bytes of a file's name on Linux.
_LONGEST_NAME = 255
_BOOLEANS = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def _parsed(text: str, plain: Any) -> Any:
    """Read a text as a number or a boolean; one that is none stays what it is."""
    if plain is bool:
        return _BOOLEANS.get(text.lower(), text)
    if plain in (int, float):
        with contextlib.suppress(ValueError):
            return plain(text)
    return text


def _text(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)
