"""Questions about paths that anyone may have given: the answer is never an exception.

``Path.exists`` and its like raise for a name that is too long, in a folder that may not be searched or, later, opened.
"""

from __future__ import annotations

from pathlib import Path


def missing(path: Path) -> str:
    """Return why there is nothing at a path ("does not exist", "cannot be reached: File name too long"), or ""."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return "does not exist"
    except (OSError, ValueError) as error:
        return f"cannot be reached: {getattr(error, 'strerror', None) or error}"
    return ""


def is_file(path: Path) -> bool:
    """Whether there is a file at a path, and it can be reached."""
    return not missing(path) and path.is_file()


def is_dir(path: Path) -> bool:
    """Whether there is a folder at a path, and it can be reached."""
    return not missing(path) and path.is_dir()


def require_file(path: Path) -> None:
    """Check that a path is a file: a pipe would be waited for without end.

    Raises:
        OSError: it is not.
    """
    why = missing(path)
    if why or not path.is_file():
        raise OSError(f"it {why}" if why else "it is no file")
