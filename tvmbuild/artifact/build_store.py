"""A content-addressed cache of built files: the name of an entry is the digest of everything that went into it.

Entries lie in ``store/`` of the cache folder. Each lists the SHA-256 of its files, so a damaged one is noticed and made
again; one that is whole is never changed. When the store outgrows its limit the entries that were used longest ago go.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tvmbuild.artifact.entry import INDEX, is_whole, write_index
from tvmbuild.artifact.remote import Remote
from tvmbuild.support.atomic.aside import discard, keep, release_lock, remove_abandoned, try_lock
from tvmbuild.support.atomic.staging import write_whole
from tvmbuild.support.cache import cache_root, cached_folder, remove_lock
from tvmbuild.support.errors import OptionError, OutputError

#: Bytes that the store may take, unless TVMBUILD_CACHE_SIZE says otherwise.
DEFAULT_LIMIT = 10 << 30
_LIMIT_VARIABLE = "TVMBUILD_CACHE_SIZE"


@dataclass(frozen=True)
class StoreEntry:
    """An entry of the store.

    Attributes:
        folder: holds its files; they are not to be changed.
        why: why it was made now ("the model changed"), or "" when it was there.
        fetched: whether it was taken from the remote now.
    """

    folder: Path
    why: str
    fetched: bool = False


class BuildStore:
    """The store for the time of one command: what it gave stays until then, whatever the limit."""

    def __init__(self, remote: Remote | None = None) -> None:
        """Open the store; ``remote`` is asked for what is not here and offered what is made."""
        self._remote = remote
        self._in_use: list[int | None] = []

    def __enter__(self) -> BuildStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        while self._in_use:
            release_lock(self._in_use.pop())

    def get(self, name: str, inputs: Mapping[str, str], make: Callable[[Path], object]) -> StoreEntry:
        """Return the entry for these inputs, made by ``make`` if there is none or it is damaged.

        Of several processes that want the same entry one makes it and the others wait.

        Args:
            name: what is made, to tell why it was made again ("net-rpi4").
            inputs: everything that the result depends on, by a name for people.
            make: fills an empty folder.

        Raises:
            OutputError: the cache cannot be written.
        """
        limit = _limit()
        key = _key(inputs)
        relative = _relative(key)
        folder = cache_root() / relative
        reason = "its cached files were damaged" if folder.exists() else _changed(name, inputs)
        why, fetched = "", False

        def obtain(made: Path) -> None:
            nonlocal why, fetched
            fetched = self._remote is not None and self._remote.fetch(key, made)
            if not fetched:
                why = reason
                make(made)
                write_index(made)

        cached_folder(relative, obtain, is_whole)
        while not self._keep(folder):
            # Another process removed it at once, for its limit.
            cached_folder(relative, obtain, is_whole)
        if why or fetched:
            _remember(name, inputs)
            _prune(limit)
        if why and self._remote is not None:
            self._remote.offer(key, folder)
        return StoreEntry(folder, why, fetched)

    def find(self, inputs: Mapping[str, str]) -> StoreEntry | None:
        """Return the entry for these inputs if it is here and whole; the remote is not asked."""
        folder = cache_root() / _relative(_key(inputs))
        return StoreEntry(folder, "") if is_whole(folder) and self._keep(folder) else None

    def _keep(self, folder: Path) -> bool:
        """Keep others from removing an entry; False if one just did."""
        self._in_use.append(keep(folder))
        # The time of the last use, for the limit.
        with contextlib.suppress(OSError):
            os.utime(folder / INDEX)
        return (folder / INDEX).exists()


def files_of(entry: StoreEntry) -> list[Path]:
    """Return the files of an entry, sorted."""
    return sorted(path for path in entry.folder.iterdir() if path.name != INDEX)


def _key(inputs: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(dict(sorted(inputs.items()))).encode()).hexdigest()


def _relative(key: str) -> str:
    return f"store/{key[:2]}/{key}"


def _last_inputs(name: str) -> Path:
    return cache_root() / "store" / "last" / f"{name}.json"


def _changed(name: str, inputs: Mapping[str, str]) -> str:
    """Say what differs from the last time that something of this name was made."""
    try:
        before = json.loads(_last_inputs(name).read_text(encoding="utf-8"))
        names = sorted(key for key in {*before, *inputs} if before.get(key) != inputs.get(key))
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return "it was never built here"
    return f"{', '.join(names)} changed" if names else "it is no longer in the cache"


def _remember(name: str, inputs: Mapping[str, str]) -> None:
    # It only serves to say what changed: that it cannot be written is no reason to fail.
    with contextlib.suppress(OutputError):
        write_whole(_last_inputs(name), json.dumps(dict(inputs)))


def _limit() -> int:
    text = os.environ.get(_LIMIT_VARIABLE, "")
    if text and not re.fullmatch("[0-9]{1,18}", text):
        raise OptionError(f"{_LIMIT_VARIABLE} must be a number of bytes, not {text!r}.", "10000000000 is 10 GB.")
    return int(text) if text else DEFAULT_LIMIT


def _prune(limit: int) -> None:
    """Remove the entries used longest ago until the rest fits the limit; another process may do so at once."""
    entries = []
    for group in (cache_root() / "store").glob("??"):
        remove_abandoned(group)
        for index in group.glob(f"*/{INDEX}"):
            with contextlib.suppress(OSError):
                size = sum(path.stat().st_size for path in index.parent.iterdir())
                entries.append((index.stat().st_mtime, size, index.parent))
    total = sum(size for _, size, _ in entries)
    for _, size, folder in sorted(entries):
        if total <= limit:
            break
        held = try_lock(folder)
        # Nobody uses it.
        if held is not None:
            discard(folder)
            remove_lock(folder)
            release_lock(held)
            total -= size
