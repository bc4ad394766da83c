"""Bundles as files: a .tar.gz that depends on its contents alone, and its safe unpacking.

The members are stored, not compressed: two versions of zlib compress alike only by luck, and weights hardly shrink. The
form is plain ustar within gzip (RFC 1952) with stored blocks (RFC 1951), so any tar unpacks it.
"""

from __future__ import annotations

import gzip
import struct
import tarfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tvmbuild.errors import ArtifactError

_BLOCK = 512
_STORED_LIMIT = 0xFFFF
#: Magic, method deflate, no flags, no time, no extra flags, operating system unknown.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"
_PIECE = 1 << 20
_AGAIN = "Copy the bundle again, or build it again."
#: What gzip and tarfile raise for bytes that they do not understand.
_DAMAGE = (EOFError, zlib.error, gzip.BadGzipFile, tarfile.TarError, ValueError)


@dataclass(frozen=True)
class Limits:
    """What an archive may at most unpack to.

    Attributes:
        files: number of members.
        bytes: sum of their sizes.
    """

    files: int = 10_000
    bytes: int = 8 << 30


def write_archive(
    output: Path, top: str, files: Mapping[str, Path], executables: frozenset[str], epoch: int = 0
) -> None:
    """Write a .tar.gz whose bytes depend on nothing but names, contents and which files are programs.

    Args:
        output: the file; it should be aside, to be renamed when whole.
        top: the folder that everything lies in.
        files: path inside ``top`` and source of each file.
        executables: paths of the programs among them.
        epoch: time of every file, in seconds since 1970.
    """
    with output.open("wb") as raw:
        stored = _StoredGzip(raw)
        with tarfile.open(fileobj=stored, mode="w|", format=tarfile.USTAR_FORMAT) as archive:  # type: ignore[call-overload]
            for name in sorted(files):
                member = tarfile.TarInfo(f"{top}/{name}")
                member.size = files[name].stat().st_size
                member.mode = 0o755 if name in executables else 0o644
                member.mtime = epoch
                with files[name].open("rb") as content:
                    archive.addfile(member, content)
        stored.finish()


class _StoredGzip:
    """A gzip stream of stored blocks, written in pieces."""

    def __init__(self, raw: IO[bytes]) -> None:
        self._raw = raw
        self._pending = bytearray()
        self._crc = 0
        self._size = 0
        raw.write(_GZIP_HEADER)

    def write(self, data: bytes) -> int:
        self._crc = zlib.crc32(data, self._crc)
        self._size += len(data)
        self._pending += data
        while len(self._pending) > _STORED_LIMIT:
            self._block(self._pending[:_STORED_LIMIT], last=False)
            del self._pending[:_STORED_LIMIT]
        return len(data)

    def finish(self) -> None:
        self._block(self._pending, last=True)
        self._raw.write(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))

    def _block(self, data: bytearray, last: bool) -> None:
        self._raw.write(struct.pack("<BHH", int(last), len(data), len(data) ^ 0xFFFF) + data)


def extract_archive(archive: Path, folder: Path, limits: Limits | None = None) -> str:
    """Unpack a bundle into an existing folder; nothing is ever written outside it.

    Only what bundles are made of is accepted: plain files below one folder. Links, devices, absolute names, ``..``, a
    name that comes twice and tar's extensions for long names are refused, and so is more than the limits, before it is
    written.

    Returns:
        Name of the one folder that everything lies in.

    Raises:
        ArtifactError: it is damaged, cut off, or not made as bundles are.
        OSError: ``folder`` cannot be written.
    """
    top = ""
    for name, member, pieces in _members(archive, limits or Limits()):
        head, _, rest = name.partition("/")
        if not rest or (top and head != top):
            raise _refused(archive, f"{name!r} does not lie in the bundle's one folder")
        top = head
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder of the same name, or the file itself, would already be there: never follow or replace it.
        try:
            with path.open("xb") as output:
                for piece in pieces:
                    output.write(piece)
        except (FileExistsError, IsADirectoryError, NotADirectoryError) as error:
            raise _refused(archive, f"{name!r} comes twice") from error
        path.chmod(0o755 if member.mode & 0o100 else 0o644)
    if not top:
        raise _refused(archive, "it holds no file")
    return top


def read_member(archive: Path, ending: str, largest: int) -> bytes:
    """Return the first file of a bundle, in the folder's top level, with this ending.

    Raises:
        ArtifactError: there is none, it is larger than ``largest`` bytes, or the archive is damaged.
    """
    for name, member, pieces in _members(archive, Limits()):
        if name.count("/") == 1 and name.endswith(ending):
            if member.size > largest:
                raise _refused(archive, f"{name!r} is larger than any real one")
            return b"".join(pieces)
    raise _refused(archive, f"it holds no {ending} file")


def _members(archive: Path, limits: Limits) -> Iterator[tuple[str, tarfile.TarInfo, Iterator[bytes]]]:
    """Yield name, header and content of each member; the content has to be taken before the next one."""
    left = limits.bytes
    try:
        with gzip.open(archive, "rb") as stream:
            for _ in range(limits.files + 1):
                header = stream.read(_BLOCK)
                if header.count(0) == _BLOCK:
                    _expect_padding(archive, stream)
                    return
                member = tarfile.TarInfo.frombuf(header, "utf-8", "strict")
                _check_member(archive, member)
                left -= member.size
                if left < 0:
                    raise _refused(archive, f"it unpacks to more than {limits.bytes} bytes")
                pieces = _pieces(archive, stream, member.size)
                yield member.name, member, pieces
                for _piece in pieces:
                    pass
                stream.read(-member.size % _BLOCK)
    except _DAMAGE as error:
        raise _refused(archive, f"it is damaged ({error})") from error
    except FileNotFoundError as error:
        raise ArtifactError(f"The bundle {archive} does not exist.", "Check the path.") from error
    raise _refused(archive, f"it has more than {limits.files} files")


def _pieces(archive: Path, stream: gzip.GzipFile, size: int) -> Iterator[bytes]:
    while size > 0:
        try:
            piece = stream.read(min(size, _PIECE))
        except _DAMAGE as error:
            raise _refused(archive, f"it is damaged ({error})") from error
        if not piece:
            raise _refused(archive, "a file in it is cut off")
        size -= len(piece)
        yield piece


def _check_member(archive: Path, member: tarfile.TarInfo) -> None:
    if member.type not in (tarfile.REGTYPE, tarfile.AREGTYPE) or member.name.endswith("/"):
        raise _refused(archive, f"{member.name!r} is no plain file")
    parts = member.name.split("/")
    if member.size < 0 or "\0" in member.name or any(part in ("", ".", "..") for part in parts):
        raise _refused(archive, f"{member.name!r} has a name that leaves its folder")


def _expect_padding(archive: Path, stream: gzip.GzipFile) -> None:
    """Read to the end, where gzip compares its checksum; tar pads with at most a record of zeros."""
    rest = stream.read(2 * tarfile.RECORDSIZE)
    if rest.count(0) != len(rest) or stream.read(1):
        raise _refused(archive, "something follows its end")


def _refused(archive: Path, reason: str) -> ArtifactError:
    return ArtifactError(f"The bundle {archive} is refused: {reason}.", _AGAIN, {"reason": reason})
