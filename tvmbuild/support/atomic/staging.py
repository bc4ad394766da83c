"""Write a set of files aside, then move them into place: nothing is half-written or half-replaced."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tvmbuild.support.atomic.aside import aside_in, folder_locked, remove_abandoned
from tvmbuild.support.atomic.moves import READY, HalfMovedError, finish_moves, flush, flush_folder, move_all
from tvmbuild.support.errors import OutputError


@contextmanager
def staged(folder: Path, last: str = "", *, option: str = "-o") -> Iterator[Path]:
    """Give a folder to write into; on success its files replace those of the same names in ``folder``.

    All are on the disk before the first moves, by rename within one file system. ``last`` (the manifest, which has the
    checksums of the others) moves after all others, so a reader that trusts it never sees a mixed set. After a kill
    between two moves the next use of the folder ends them (``finish_moves``). ``option`` chooses another folder.

    Raises:
        OutputError: the folder cannot be made or written, or the disk is full. What was there stays as it was.
    """
    with _explained(folder, option), _aside(folder, option) as aside:
        finish_moves(folder)
        yield aside
        move_all(aside, folder, last)


@contextmanager
def staged_folder(folder: Path) -> Iterator[Path]:
    """Give an empty folder to fill; on success it takes the place of ``folder`` as a whole, else nothing changes.

    The two trade places in one step where the file system can (``renameat2``, Linux 3.15), so that a kill at any moment
    leaves one of them whole under the name; elsewhere the old one moves aside first, and after a kill in between it
    comes back with the next call.

    Raises:
        OutputError: as ``staged``.
    """
    with _explained(folder), _aside(folder.parent) as aside:
        yield aside
        for path in aside.rglob("*"):
            flush(path)
        aside.chmod(0o777 & ~_umask())
        flush(aside)
        with folder_locked(folder.parent):
            _bring_back(folder)
            _take_place(aside, folder)
        flush_folder(folder.parent)


def clean(folder: Path) -> None:
    """Remove what killed processes left in an output folder, bring back what they had moved aside, end their moves."""
    with _explained(folder):
        finish_moves(folder)
        moved = list(folder.glob(f"{_MOVED}*"))
        if moved:
            with folder_locked(folder):
                for old in moved:
                    _bring_back(folder / old.name.removeprefix(_MOVED))
        remove_abandoned(folder)


def check_writable(folder: Path, *names: str) -> None:
    """Try, before work that takes minutes, whether files can be written into a folder; nothing is left there.

    Args:
        folder: need not exist.
        names: of files to be written there.

    Raises:
        OutputError: as ``staged``.
    """
    with _explained(folder):
        try:
            there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
            with aside_in(there):
                pass
        except OSError as error:
            raise _output_error(folder, error) from error
    for name in names:
        if (folder / name).is_dir():
            raise _output_error(folder, IsADirectoryError(errno.EISDIR, name))


@contextmanager
def _aside(folder: Path, option: str = "-o") -> Iterator[Path]:
    with ExitStack() as stack:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            aside = stack.enter_context(aside_in(folder))
        except OSError as error:
            raise _output_error(folder, error, option) from error
        yield aside


@contextmanager
def _explained(folder: Path, option: str = "-o") -> Iterator[None]:
    try:
        yield
    except HalfMovedError as error:
        raise _output_error(
            folder, error, option, "Some files in it are new; the next command that uses it ends that"
        ) from error
    except OSError as error:
        # Raised by the caller's own block too: only trouble with writing is ours to explain.
        if error.errno in _EXPLAINED:
            raise _output_error(folder, error, option) from error
        raise


def _take_place(aside: Path, folder: Path) -> None:
    """Rename ``aside`` to ``folder``; what was there is under the name ``aside`` afterwards, or gone."""
    if not folder.exists():
        aside.rename(folder)
        return
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    names = os.fsencode(aside), os.fsencode(folder)
    if renameat2 is not None and renameat2(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0:
        return
    old = _moved(folder)
    folder.rename(old)
    aside.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def _bring_back(folder: Path) -> None:
    """Undo or finish a change of places that a kill broke off."""
    old = _moved(folder)
    if old.exists() and not folder.exists():
        old.rename(folder)
    else:
        shutil.rmtree(old, ignore_errors=True)


def _moved(folder: Path) -> Path:
    return folder.with_name(f"{_MOVED}{folder.name}")


#: Where a folder is while another takes its place, on file systems that cannot exchange two.
_MOVED = ".tvmbuild-old-"
#: Of linux/fcntl.h and linux/fs.h.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_whole(path: Path, content: str | bytes, *, option: str = "-o") -> None:
    """Write one file aside and rename it into place; a text as UTF-8. ``option`` chooses another folder.

    Raises:
        OutputError: the file cannot be written.
    """
    with staged(path.parent, option=option) as aside:
        (aside / path.name).write_bytes(content.encode() if isinstance(content, str) else content)


_EXPLAINED = {
    errno.EACCES: "it is not writable",
    errno.EPERM: "it is not writable",
    errno.EROFS: "its file system is read-only",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "a file would be larger than allowed",
    errno.ENOTDIR: "a part of its path is a file",
    errno.EEXIST: "a file of that name is in the way",
    errno.ENOTEMPTY: f"another user's {READY} is in the way",
    errno.EISDIR: "a folder has the name of a file to write",
    errno.ENAMETOOLONG: "its name is too long",
}


def _output_error(
    folder: Path, error: OSError, option: str = "-o", state: str = "Nothing in it was changed"
) -> OutputError:
    reason = _EXPLAINED.get(error.errno or 0, error.strerror or str(error))
    return OutputError(
        f"The output folder {folder} cannot be written: {reason}. {state}.",
        f"Choose another folder with {option} DIR, or free some space or change its permissions.",
    )
