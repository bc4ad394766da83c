"""The one reader of .npy and .npz files, which may come from anywhere.

Nothing that a header claims is filled before its shape and type are those that are wanted and the bytes are there.
"""

from __future__ import annotations

import zipfile
from collections.abc import Collection
from pathlib import Path

import numpy as np

from tvmbuild.support.errors import InputDataError
from tvmbuild.support.paths import require_file

ARRAY_ENDINGS = (".npy", ".npz")
#: More than the header of any array that NumPy writes.
_HEADER_BYTES = 1 << 16
#: Bytes of the largest plain number (complex256).
_LARGEST_ITEM = 32


def read_npy(path: Path) -> np.ndarray:
    """Return the array of a .npy file, mapped: its values are read when they are used.

    Raises:
        InputDataError: the file cannot be read, or holds no plain array.
    """
    try:
        require_file(path)
        # The size that a header claims may be larger than any number here.
        with np.errstate(over="ignore"):
            return np.lib.format.open_memmap(path, mode="r")
    # A damaged header raises what Python's parser does, an impossible size what the system says.
    except Exception as error:
        raise InputDataError(f"{path} cannot be read: {_reason(error)}.", "Write it with numpy.save.") from error


def read_npz(path: Path, wanted: Collection[str], largest: int) -> dict[str, np.ndarray]:
    """Return arrays of a .npz file by name: those of ``wanted`` that are there.

    Args:
        path: the file.
        wanted: names.
        largest: elements of the largest array that can be of use; a larger one is not read.

    Raises:
        InputDataError: the file cannot be read, has another array than plain ones, a larger one, or none of the wanted
            ones.
    """
    try:
        require_file(path)
        with zipfile.ZipFile(path) as archive:
            members = {member.filename.removesuffix(".npy"): member for member in archive.infolist()}
            found = {name: _member(archive, members[name], largest) for name in wanted if name in members}
    # Encrypted, of an unknown compression, damaged in any of its parts: each has an exception of its own.
    except Exception as error:
        raise InputDataError(f"{path} cannot be read: {_reason(error)}.", "Write it with numpy.savez.") from error
    missing = [name for name in wanted if name not in found]
    if missing:
        raise InputDataError(
            f"{path} lacks {', '.join(missing)}; it has {', '.join(sorted(members)[:20]) or 'nothing'}.",
            "Name each array after the model's input: numpy.savez(file, **{'input name': array}).",
        )
    return found


def _member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, largest: int) -> np.ndarray:
    if member.file_size > largest * _LARGEST_ITEM + _HEADER_BYTES:
        raise ValueError(f"'{member.filename}' has {member.file_size} bytes, more than the model takes")
    with archive.open(member) as stream:
        # It allocates what the header claims, of which the system gives only what is written to.
        return np.lib.format.read_array(stream, allow_pickle=False)


def _reason(error: Exception) -> str:
    """Say why NumPy cannot read a file, without its advice to allow pickles, which run code."""
    if "pickle" in str(error) or "Array can't be memory-mapped" in str(error):
        return "it holds no plain array"
    return getattr(error, "strerror", None) or " ".join(str(error).split())[:300] or type(error).__name__
