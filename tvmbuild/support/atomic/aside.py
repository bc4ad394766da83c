"""Folders to write into before they take their place, and the removal of those that a killed process left.

Each is locked (flock) for as long as its maker lives: the kernel frees the lock of a killed process, so one that can be
locked is nobody's. Where the file system has no such locks, on some network folders, none is ever removed.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

_PREFIX = ".tvmbuild-aside-"
#: Folders that are being written, with the process that does.
_own: set[tuple[Path, int]] = set()
_SCRATCH_PREFIX = "tvmbuild-scratch-"


@contextmanager
def scratch() -> Iterator[None]:
    """Keep all temporary files of this process, and of those that it starts, in one folder while the block runs.

    The next command removes it if this one is killed. Where it cannot be made files go where they always went.
    """
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(aside_in(Path(tempfile.gettempdir()), _SCRATCH_PREFIX))
        except OSError:
            yield
            return
        before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = str(folder)
        try:
            yield
        finally:
            tempfile.tempdir = before
            if variable is None:
                os.environ.pop("TMPDIR", None)
            else:
                os.environ["TMPDIR"] = variable


@contextmanager
def aside_in(folder: Path, prefix: str = _PREFIX) -> Iterator[Path]:
    """Give an empty folder inside ``folder``, which must exist; it is removed after the block, if it is still there.

    Raises:
        OSError: it cannot be made.
    """
    remove_abandoned(folder, prefix)
    while True:
        aside = Path(tempfile.mkdtemp(prefix=prefix, dir=folder))
        held = _lock(aside, fcntl.LOCK_EX)
        # Before it was locked another process may have taken it for abandoned.
        if held is not None or aside.exists():
            break
    own = aside, os.getpid()
    _own.add(own)
    try:
        yield aside
    finally:
        _own.discard(own)
        if aside.is_symlink():
            # A link that the folder took the place of.
            aside.unlink(missing_ok=True)
        shutil.rmtree(aside, ignore_errors=True)
        release_lock(held)


def remove_own() -> None:
    """Remove the folders that this process is writing into, before it ends without unwinding."""
    for aside, process in list(_own):
        # A forked child's list has its parent's too.
        if process == os.getpid():
            shutil.rmtree(aside, ignore_errors=True)


def remove_abandoned(folder: Path, prefix: str = _PREFIX) -> None:
    """Remove what killed processes left in a folder; where all may write, only what is this user's."""
    for path in folder.glob(f"{prefix}*"):
        if not is_trusted(path):
            continue
        held = try_lock(path)
        if held is not None:
            shutil.rmtree(path, ignore_errors=True)
            release_lock(held)


def is_trusted(folder: Path) -> bool:
    """Whether a folder is there; inside one like /tmp anybody could have made it, so there it must be this user's."""
    try:
        found, around = folder.lstat(), folder.parent.stat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and (found.st_uid == os.geteuid() or not around.st_mode & stat.S_ISVTX)


def discard(folder: Path) -> None:
    """Remove a folder; its name goes first, so that nobody finds half of it."""
    with suppress(OSError):
        aside = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=folder.parent))
        with suppress(FileNotFoundError):
            folder.rename(aside)
        # No lock is needed: anyone may do the rest.
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def folder_locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock while the block runs, where the file system has locks on folders.

    The folder may not be one that ``aside_in`` gave to this process: that is locked already.
    """
    held = _lock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        release_lock(held)


def try_lock(folder: Path) -> int | None:
    """Lock a folder without waiting.

    Returns:
        What ``release_lock`` takes; None if anyone uses or has locked it, or there are no locks.
    """
    return _lock(folder, fcntl.LOCK_EX | fcntl.LOCK_NB)


def keep(folder: Path) -> int | None:
    """Keep others from locking, and so from removing, a folder.

    Returns:
        What ``release_lock`` takes; None if the folder is gone, or there are no locks.
    """
    return _lock(folder, fcntl.LOCK_SH)


def _lock(folder: Path, how: int) -> int | None:
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, how)
        # It may have been removed, and made anew, before it was ours.
        if os.path.samestat(os.fstat(descriptor), folder.stat()):
            return descriptor
    except OSError:
        pass
    os.close(descriptor)
    return None


def release_lock(descriptor: int | None) -> None:
    """Free a lock; nothing for None."""
    if descriptor is not None:
        os.close(descriptor)
