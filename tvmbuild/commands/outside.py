"""Errors of the operating system that no command expected: most are about the user's disk and paths, not about us."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from tvmbuild.support.errors import OptionError, OutputError, TvmbuildError

_FULL = {errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk quota is used up"}
_REFUSED = {
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.EROFS: "the file system is read-only",
    errno.EIO: "the disk reports an error",
    errno.EMFILE: "too many files are open (see ulimit -n)",
    errno.ENFILE: "too many files are open on this machine",
}
_NO_PATH = {errno.ENAMETOOLONG: "it is too long", errno.ELOOP: "it is a circle of links"}


def explained(error: BaseException) -> TvmbuildError | None:
    """Return the error for people, or None where it is not known to be about the world outside."""
    if not isinstance(error, OSError):
        return None
    number = error.errno or 0
    # Where two files are named, the second is the one that is written.
    given = error.filename if error.filename2 is None else error.filename2
    path = os.fsdecode(given) if isinstance(given, str | bytes) else ""
    if number in _NO_PATH:
        return OptionError(f"The path {path} cannot be used: {_NO_PATH[number]}.", "Choose a shorter one.")
    # NumPy tells of a full disk without a number.
    full = _FULL.get(number) or (_FULL[errno.ENOSPC] if not number and "requested and" in str(error) else "")
    reason = full or _REFUSED.get(number, "")
    temporary = _temporary_folder()
    if temporary and (not Path(temporary).is_dir() or (reason and (not path or path.startswith(temporary)))):
        reason = reason or "it does not exist"
        return OutputError(
            f"The folder for temporary files, {temporary}, cannot be used: {reason}.",
            "Free some space there, or point TMPDIR at another folder.",
        )
    if reason:
        return OutputError(
            f"{path or 'A file'} cannot be read or written: {reason}.",
            "Free some space." if full else "Change its permissions, or choose another place.",
        )
    return None


def _temporary_folder() -> str:
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:
        # None of the places that it tries can be written.
        return os.environ.get("TMPDIR", "/tmp")
