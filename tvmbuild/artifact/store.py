"""A content-addressed cache of built files: the name of an entry is the digest of everything that went into it.

Entries lie in ``store/`` of the cache folder. Each lists the SHA-256 of its files, so a damaged one is noticed and made
again; one that is whole is never changed. When the store outgrows its limit the entries that were used longest ago go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.cache import cache_root, cached_folder
from tvmbuild.errors import OptionError

_INDEX = "entry.json"
#: Bytes that the store may take, unless TVMBUILD_CACHE_SIZE says otherwise.
DEFAULT_LIMIT = 10 << 30
_LIMIT_VARIABLE = "TVMBUILD_CACHE_SIZE"


@dataclass(frozen=True)
class Stored:
    """An entry of the store.

    Attributes:
        folder: holds its files; they are not to be changed.
        why: why it was made now ("the model changed"), or "" when it was there.
    """

    folder: Path
    why: str


def stored(name: str, inputs: Mapping[str, str], make: Callable[[Path], object]) -> Stored:
    """Return the entry for these inputs, made by ``make`` if there is none or it is damaged.

    Of several processes that want the same entry one makes it and the others wait.

    Args:
        name: what is made, to tell why it was made again ("net-rpi4").
        inputs: everything that the result depends on, by a name for people.
        make: fills an empty folder.

    Raises:
        OutputError: the cache cannot be written.
    """
    key = hashlib.sha256(json.dumps(dict(sorted(inputs.items()))).encode()).hexdigest()
    relative = f"store/{key[:2]}/{key}"
    folder = cache_root() / relative
    why = ""
    if not _is_whole(folder):
        why = "its cached files were damaged" if folder.exists() else _changed(name, inputs)
        _discard(folder)

    def make_and_list(made: Path) -> None:
        make(made)
        digests = {path.name: sha256_of(path) for path in sorted(made.iterdir())}
        (made / _INDEX).write_text(json.dumps(digests), encoding="utf-8")

    cached_folder(relative, make_and_list)
    # The time of the last use, for the limit.
    with contextlib.suppress(OSError):
        os.utime(folder / _INDEX)
    if why:
        _remember(name, inputs)
        _prune(keep=folder)
    return Stored(folder, why)


def files_of(entry: Stored) -> list[Path]:
    """Return the files of an entry, sorted."""
    return sorted(path for path in entry.folder.iterdir() if path.name != _INDEX)


def _is_whole(folder: Path) -> bool:
    try:
        digests = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        return all(sha256_of(folder / name) == digest for name, digest in digests.items())
    except (OSError, ValueError, AttributeError, TypeError):
        return False


def _discard(folder: Path) -> None:
    """Remove an entry; its name goes first, so that nobody finds half of it."""
    aside = folder.with_name(f".{folder.name}.damaged.{os.getpid()}")
    with contextlib.suppress(OSError):
        folder.rename(aside)
    shutil.rmtree(aside, ignore_errors=True)


def _last_inputs(name: str) -> Path:
    return cache_root() / "store" / "last" / f"{name}.json"


def _changed(name: str, inputs: Mapping[str, str]) -> str:
    """Say what differs from the last time that something of this name was made."""
    try:
        before = json.loads(_last_inputs(name).read_text(encoding="utf-8"))
        names = sorted(key for key in {*before, *inputs} if before.get(key) != inputs.get(key))
    except (OSError, ValueError, AttributeError, TypeError):
        return "it was never built here"
    return f"{', '.join(names)} changed" if names else "it is no longer in the cache"


def _remember(name: str, inputs: Mapping[str, str]) -> None:
    path = _last_inputs(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}")
    aside.write_text(json.dumps(dict(inputs)), encoding="utf-8")
    aside.replace(path)


def _limit() -> int:
    text = os.environ.get(_LIMIT_VARIABLE, "")
    if text and not text.isdigit():
        raise OptionError(f"{_LIMIT_VARIABLE} must be a number of bytes, not {text!r}.", "10000000000 is 10 GB.")
    return int(text) if text else DEFAULT_LIMIT


def _prune(keep: Path) -> None:
    """Remove the entries used longest ago until the rest fits the limit; another process may do so at once."""
    entries = []
    for index in (cache_root() / "store").glob(f"??/*/{_INDEX}"):
        with contextlib.suppress(OSError):
            size = sum(path.stat().st_size for path in index.parent.iterdir())
            entries.append((index.stat().st_mtime, size, index.parent))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= _limit():
            break
        if folder != keep:
            _discard(folder)
            total -= size
