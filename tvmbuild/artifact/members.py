"""The one reader of tar archives: bundles, entries of caches, tuning records, objects. It believes nothing they say.

Only plain files with plain relative names are accepted. Links, devices, pipes, folders, absolute names, ``..``, a name
that comes twice, a file that is a folder too and tar's extensions for long names are refused, and so is more than the
limits: all of it by the headers, before a byte is given away.
"""

from __future__ import annotations

import gzip
import stat
import tarfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from tvmbuild.support.errors import ArtifactError, TvmbuildError

_BLOCK = 512
_PIECE = 1 << 20
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Limits:
    """What an archive may at most unpack to.

    Attributes:
        files: number of members.
        bytes: sum of their sizes.
    """

    files: int = 10_000
    bytes: int = 8 << 30


@dataclass(frozen=True)
class Archive:
    """An archive to read, and how to speak of it.

    Attributes:
        path: the file, a tar or one within gzip.
        what: the kind of archive, for errors ("bundle").
        hint: what to do with one that is refused.
        error: class of the errors.
        limits: what it may unpack to.
    """

    path: Path
    what: str
    hint: str
    error: type[TvmbuildError] = ArtifactError
    limits: Limits = field(default_factory=Limits)

    def refused(self, reason: str) -> TvmbuildError:
        """Return the error of an archive that is damaged, hostile, or of another kind."""
        return self.error(f"The {self.what} {self.path} is refused: {reason}.", self.hint, {"reason": reason})


@dataclass(frozen=True)
class Member:
    """One file of an archive.

    Attributes:
        name: relative, of plain parts.
        header: what else the archive says of it.
        pieces: its content; to be taken before the next member.
    """

    name: str
    header: tarfile.TarInfo
    pieces: Iterator[bytes]

    def read(self) -> bytes:
        """Return the whole content."""
        return b"".join(self.pieces)

    def write(self, path: Path) -> None:
        """Write the content to a file that must not exist; nothing is followed or replaced.

        Raises:
            FileExistsError: something is there.
            OSError: it cannot be written.
        """
        with path.open("xb") as output:
            for piece in self.pieces:
                output.write(piece)


def members(archive: Archive) -> Iterator[Member]:
    """Yield each file of an archive.

    Raises:
        TvmbuildError: of the archive's class: it is missing, damaged, cut off, too large or not made as ours are.
    """
    names = _Names(archive)
    left = archive.limits.bytes
    with _opened(archive) as stream:
        for count in range(archive.limits.files + 1):
            header = stream.read(_BLOCK)
            if len(header) < _BLOCK:
                raise archive.refused("it is cut off" if count else "it is no tar archive")
            if header.count(0) == _BLOCK:
                stream.expect_end()
                return
            member = _parsed(archive, header)
            names.add(member.name)
            left -= member.size
            if left < 0:
                raise archive.refused(f"it unpacks to more than {archive.limits.bytes} bytes")
            pieces = stream.pieces(member.size)
            yield Member(member.name, member, pieces)
            for _piece in pieces:
                pass
            stream.read(-member.size % _BLOCK)
    raise archive.refused(f"it has more than {archive.limits.files} files")


class _Stream:
    """The bytes of an archive; what goes wrong with reading is the archive's error."""

    def __init__(self, archive: Archive, raw: IO[bytes] | gzip.GzipFile) -> None:
        self._archive = archive
        self._raw = raw

    def read(self, size: int) -> bytes:
        try:
            return self._raw.read(size)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise self._archive.refused(f"it is damaged ({error})") from error
        except OSError as error:
            raise self._archive.refused(f"it cannot be read ({error.strerror or error})") from error

    def pieces(self, size: int) -> Iterator[bytes]:
        while size > 0:
            piece = self.read(min(size, _PIECE))
            if not piece:
                raise self._archive.refused("a file in it is cut off")
            size -= len(piece)
            yield piece

    def expect_end(self) -> None:
        """Read to the end, where gzip compares its checksum; tar pads with at most a record of zeros."""
        rest = self.read(2 * tarfile.RECORDSIZE)
        if rest.count(0) != len(rest) or self.read(1):
            raise self._archive.refused("something follows its end")
        if len(rest) < _BLOCK:
            raise self._archive.refused("it is cut off")


class _Names:
    """The names that came so far."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, name: str) -> None:
        if name in self._files:
            raise self._archive.refused(f"{name!r} comes twice")
        parts = name.split("/")
        above = {"/".join(parts[:count]) for count in range(1, len(parts))}
        both = {name} & self._folders or above & self._files
        if both:
            raise self._archive.refused(f"{min(both)!r} is a file and a folder")
        self._files.add(name)
        self._folders |= above


@contextmanager
def _opened(archive: Archive) -> Iterator[_Stream]:
    try:
        # A pipe would be waited for without end.
        if not stat.S_ISREG(archive.path.stat().st_mode):
            raise archive.refused("it is no file")
        raw = archive.path.open("rb")
    except FileNotFoundError as error:
        raise archive.error(f"The {archive.what} {archive.path} does not exist.", "Check the path.") from error
    except OSError as error:
        raise archive.refused(f"it cannot be read ({error.strerror or error})") from error
    except ValueError as error:
        # A path with a NUL byte.
        raise archive.refused(f"it cannot be read ({error})") from error
    with raw:
        packed = raw.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
        raw.seek(0)
        if not packed:
            yield _Stream(archive, raw)
            return
        with gzip.GzipFile(fileobj=raw) as unpacked:
            yield _Stream(archive, unpacked)


def _parsed(archive: Archive, header: bytes) -> tarfile.TarInfo:
    try:
        member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
    except (tarfile.TarError, ValueError) as error:
        raise archive.refused(f"it is damaged ({error})") from error
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.name.endswith("/"):
        raise archive.refused(f"{member.name!r} is no plain file")
    if member.size < 0 or any(part in ("", ".", "..") for part in member.name.split("/")):
        raise archive.refused(f"{member.name!r} has a name that leaves its folder")
    if not member.name.isprintable():
        raise archive.refused(f"{member.name!r} is no name that can be shown")
    return member
