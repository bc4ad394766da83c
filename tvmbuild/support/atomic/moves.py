"""Moves a set of files to their places as one step, whatever breaks off in between.

When all of them are on the disk, the folder that holds them is renamed to ``.tvmbuild-ready``. That is the step: before
it nothing was changed, and after it the set is complete there or in its places. What a killed process left to move the
next use of the folder moves.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tvmbuild.support.atomic.aside import folder_locked, is_trusted

#: One folder has one, so two sets never mix.
READY = ".tvmbuild-ready"
#: Inside it: what was there before, for as long as the moves may have to be undone.
_BEFORE = ".tvmbuild-before"
#: Inside it: the name of the file that moves after all others, for whoever ends the moves.
_LAST = ".tvmbuild-last"


class HalfMovedError(OSError):
    """Some files could neither be moved nor be brought back; the next use of the folder tries again."""


def move_all(aside: Path, folder: Path, last: str = "") -> None:
    """Give all files of ``aside``, a folder inside ``folder``, to ``folder``, or none.

    Args:
        aside: their folder, locked by this process; it is there afterwards, for its maker to remove.
        folder: where they go; files of the same names are replaced.
        last: the file that moves after all others.

    Raises:
        HalfMovedError: see there.
        OSError: nothing was changed.
    """
    names = sorted((path.name for path in aside.iterdir()), key=lambda name: (name == last, name))
    (aside / _LAST).write_text(last, encoding="utf-8")
    for name in (*names, _LAST):
        flush(aside / name)
    _keep_old(aside, folder, names)
    flush_folder(aside)
    with _ready(aside, folder) as ready:
        moved: list[str] = []
        try:
            for name in names:
                moved.append(name)
                (ready / name).replace(folder / name)
        except BaseException:
            _undo(ready, folder, moved)
            raise
        flush_folder(folder)


def finish_moves(folder: Path) -> bool:
    """End the moves that a killed process had begun in a folder; waits for those of a living one.

    Returns:
        Whether there were any.

    Raises:
        OSError: the folder cannot be written.
    """
    ready = folder / READY
    if not is_trusted(ready):
        return False
    with folder_locked(ready), suppress(FileNotFoundError):
        # Nothing is there any more when a living process ended them.
        last = _last(ready)
        for path in sorted(ready.iterdir(), key=lambda path: (path.name == last, path.name)):
            if path.name not in (_BEFORE, _LAST):
                with suppress(FileNotFoundError):
                    path.replace(folder / path.name)
        flush_folder(folder)
        shutil.rmtree(ready, ignore_errors=True)
    return True


def _last(ready: Path) -> str:
    """Return the file that moves after all others, "" where nobody said which."""
    try:
        return (ready / _LAST).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def flush(path: Path) -> None:
    """Bring a file's content to the disk before its name: a rename must never publish an empty file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def flush_folder(folder: Path) -> None:
    """Bring a folder's names to the disk, where its file system can."""
    with suppress(OSError):
        flush(folder)


@contextmanager
def _ready(aside: Path, folder: Path) -> Iterator[Path]:
    """Give ``aside`` the name that decides, and its own again afterwards."""
    ready = folder / READY
    while True:
        try:
            aside.rename(ready)
            break
        except OSError as error:
            # Of two processes the second waits for the first.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST) or not finish_moves(folder):
                raise
    try:
        flush_folder(folder)
        yield ready
    except HalfMovedError:
        raise
    except BaseException:
        # Before it has its own name again the next use of the folder would move the files.
        ready.rename(aside)
        raise
    # Nothing is left to move in it.
    with suppress(OSError):
        ready.rename(aside)


def _keep_old(aside: Path, folder: Path, names: list[str]) -> None:
    before = aside / _BEFORE
    before.mkdir()
    for name in names:
        old = folder / name
        if not os.path.lexists(old):
            continue
        if old.is_dir() and not old.is_symlink():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(old))
        try:
            os.link(old, before / name, follow_symlinks=False)
        except OSError:
            # A file system without links, or a file of somebody else.
            shutil.copy2(old, before / name, follow_symlinks=False)


def _undo(ready: Path, folder: Path, moved: list[str]) -> None:
    """Bring back what was there; at each moment the new set is complete, here or there."""
    try:
        for name in reversed(moved):
            if not os.path.lexists(ready / name):
                (folder / name).replace(ready / name)
            if os.path.lexists(ready / _BEFORE / name):
                (ready / _BEFORE / name).replace(folder / name)
    except OSError as error:
        raise HalfMovedError(error.errno, error.strerror) from error
