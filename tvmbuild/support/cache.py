"""Folders that are made once and kept: downloads and compiled helpers.

They live in ``$XDG_CACHE_HOME/tvmbuild`` (``~/.cache/tvmbuild``) and may be deleted at any time.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from tvmbuild.support.atomic.aside import aside_in, discard
from tvmbuild.support.errors import OutputError


def cache_root() -> Path:
    """Return the folder that holds everything cached; it may not exist yet."""
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification wants relative paths ignored.
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".cache"
    return root / "tvmbuild"


def cached_folder(name: str, make: Callable[[Path], object], is_whole: Callable[[Path], bool] = Path.is_dir) -> Path:
    """Return the cached folder ``name``, made by ``make`` if it is not there yet.

    ``make`` fills an empty folder that gets its name only when it is whole. Of several processes that want the same
    folder one makes it and the others wait.

    Args:
        name: path inside the cache.
        make: fills the folder.
        is_whole: judges a folder that is there; one that is not whole is made again.

    Raises:
        OutputError: the cache cannot be written.
    """
    folder = cache_root() / name
    if is_whole(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with _locked(_lock_of(folder)):
            if not is_whole(folder):
                discard(folder)
                _make_aside(folder, make)
    except OSError as error:
        raise OutputError(
            f"The cache folder {folder} cannot be made: {error.strerror or error}.",
            "Free some space, or point XDG_CACHE_HOME at a folder that can be written.",
        ) from error
    return folder


def _make_aside(folder: Path, make: Callable[[Path], object]) -> None:
    with aside_in(folder.parent) as aside:
        make(aside)
        aside.chmod(0o755)
        aside.rename(folder)


def remove_lock(folder: Path) -> None:
    """Remove the lock that guarded the making of a folder, unless someone makes it now."""
    path = _lock_of(folder)
    with suppress(OSError), path.open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if _is_at(lock, path):
            path.unlink()


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock for as long as the block runs; the lock of a killed process is released by the kernel."""
    while True:
        with path.open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Who had it before may have removed the file: others would lock a new one.
            if _is_at(lock, path):
                yield
                return


def _is_at(file: IO[str], path: Path) -> bool:
    """Whether an open file is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False
