"""Resolves options from all sources, once, each with its origin.

Later sources win: the defaults in ``options.py``, the project file (``tvmbuild.toml``), the target, the environment
(``TVMBUILD_TARGET=rpi5``), the flags. Commands print the result before they start.
"""

from __future__ import annotations

import dataclasses
import math
import os
import sys
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from tvmbuild.errors import OptionError
from tvmbuild.suggest import did_you_mean

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: Name of the project file, looked for in the working folder.
PROJECT_FILE = "tvmbuild.toml"

OptionsT = TypeVar("OptionsT")


@dataclass(frozen=True)
class Resolved(Generic[OptionsT]):
    """Options with the origin of each: "default", "tvmbuild.toml", "target rpi4", "TVMBUILD_SEED" or "--seed"."""

    options: OptionsT
    origins: Mapping[str, str] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """Return one "name = value  (origin)" line for each option that is not at its default."""
        shown = [(name, origin) for name, origin in self.origins.items() if origin != "default"]
        return [f"{name} = {_text(getattr(self.options, name))}  ({origin})" for name, origin in shown]


def flag_name(option: str) -> str:
    """Return the command line flag of an option ("dump_ir" -> "--dump-ir")."""
    return "--" + option.replace("_", "-")


def read_project_file(table: str, folder: Path | None = None) -> dict[str, Any]:
    """Return one table of the project file, empty when the file or the table is absent.

    Raises:
        OptionError: the file is not valid TOML, or the table is not a table.
    """
    path = (folder or Path()) / PROJECT_FILE
    if not path.is_file():
        return {}
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise OptionError(f"{path} cannot be read: {error}.", "Mend the file, or run in another folder.") from error
    values = content.get(table, {})
    if not isinstance(values, dict):
        raise OptionError(f"{path}: '{table}' must be a table.", f"Write [{table}] on a line of its own.")
    return values


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
    hints = typing.get_type_hints(kind)
    names = [item.name for item in dataclasses.fields(kind)]  # type: ignore[arg-type]
    for key in project or {}:
        if key not in names:
            raise OptionError(f"{PROJECT_FILE} has an unknown option '{key}'.", did_you_mean(key, names))
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name in names:
        variable = f"TVMBUILD_{name.upper()}"
        sources = [
            (PROJECT_FILE, (project or {}).get(name)),
            (f"target {target[0]}" if target else "target", target[1].get(name) if target else None),
            (variable, environ.get(variable)),
            (flag_name(name), flags.get(name)),
        ]
        origins[name] = "default"
        for origin, value in sources:
            if value is not None and value not in ((), []):
                values[name] = _convert(value, hints[name], origin, name)
                origins[name] = origin
    return Resolved(kind(**values), origins)


def _convert(value: Any, hint: Any, origin: str, name: str) -> Any:
    kinds = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    try:
        return _coerce(value, kinds[0])
    except (TypeError, ValueError) as error:
        wanted = {bool: "true or false", int: "a whole number", float: "a number"}.get(kinds[0], "a text")
        raise OptionError(
            f"{origin}: {name} must be {wanted}, not {value!r}.", "See 'tvmbuild COMMAND --help' for its values."
        ) from error


def _coerce(value: Any, kind: Any) -> Any:
    if kind is bool:
        words = {
            "1": True,
            "true": True,
            "yes": True,
            "on": True,
            "0": False,
            "false": False,
            "no": False,
            "off": False,
        }
        if isinstance(value, bool):
            return value
        if str(value).lower() not in words:
            raise ValueError(value)
        return words[str(value).lower()]
    if typing.get_origin(kind) is tuple:
        return tuple(value.split()) if isinstance(value, str) else tuple(str(item) for item in value)
    if isinstance(value, bool) or (kind is str and not isinstance(value, str)):
        raise TypeError(value)
    if kind is int and isinstance(value, float):
        # 2.7 would become 2.
        raise TypeError(value)
    converted = kind(value)
    if isinstance(converted, float) and not math.isfinite(converted):
        raise ValueError(value)
    return converted


def _text(value: Any) -> str:
    return " ".join(value) if isinstance(value, tuple) else str(value)
