"""Bundles as files: a .tar.gz that depends on its contents alone, and its safe unpacking.

The members are stored, not compressed: two versions of zlib compress alike only by luck, and weights hardly shrink. The
form is plain ustar within gzip (RFC 1952) with stored blocks (RFC 1951), so any tar unpacks it.
"""

from __future__ import annotations

import struct
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from tvmbuild.artifact.members import Archive, Limits, members

_STORED_LIMIT = 0xFFFF
#: Magic, method deflate, no flags, no time, no extra flags, operating system unknown.
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\xff"


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


def extract_archive(path: Path, folder: Path, limits: Limits | None = None) -> str:
    """Unpack a bundle into an existing folder; nothing is ever written outside it (see ``members``).

    Returns:
        Name of the one folder that everything lies in.

    Raises:
        ArtifactError: it is damaged, cut off, or not made as bundles are.
        OSError: ``folder`` cannot be written.
    """
    archive = _bundle(path, limits)
    top = ""
    for member in members(archive):
        head, _, rest = member.name.partition("/")
        if not rest or (top and head != top):
            raise archive.refused(f"{member.name!r} does not lie in the bundle's one folder")
        top = head
        target = folder / member.name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            member.write(target)
        except FileExistsError as error:
            # Names that are one on this file system.
            raise archive.refused(f"{member.name!r} comes twice") from error
        target.chmod(0o755 if member.header.mode & 0o100 else 0o644)
    if not top:
        raise archive.refused("it holds no file")
    return top


def read_member(path: Path, ending: str, largest: int) -> bytes:
    """Return the first file of a bundle, in the folder's top level, with this ending.

    Raises:
        ArtifactError: there is none, it is larger than ``largest`` bytes, or the archive is damaged.
    """
    archive = _bundle(path)
    for member in members(archive):
        if member.name.count("/") == 1 and member.name.endswith(ending):
            if member.header.size > largest:
                raise archive.refused(f"{member.name!r} is larger than any real one")
            return member.read()
    raise archive.refused(f"it holds no {ending} file")


def _bundle(path: Path, limits: Limits | None = None) -> Archive:
    return Archive(path, "bundle", "Copy the bundle again, or build it again.", limits=limits or Limits())
