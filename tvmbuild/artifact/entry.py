"""An entry of the store: a folder with a list of its files' checksums, or that folder packed into one file.

The packed form is the archive of ``archive.py`` and a last line of fixed length with the signature. What is signed is
the name of the entry, which is the digest of everything it was made from, and the archive's digest: neither can be
exchanged for another. Nothing is unpacked before the signature is checked.
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from tvmbuild.artifact.archive import extract_archive, write_archive
from tvmbuild.artifact.digest import sha256_of
from tvmbuild.artifact.members import Limits
from tvmbuild.support.errors import ArtifactError

#: Name of the list in an entry's folder.
INDEX = "entry.json"
_MAGIC = "tvmbuild-entry 1"
_UNSIGNED = "-" * 128
_LAST_LINE = re.compile(rf"{_MAGIC} ([0-9a-f]{{128}}|{_UNSIGNED})\n".encode())
_LAST_BYTES = len(_MAGIC) + 1 + len(_UNSIGNED) + 1
_LARGEST_INDEX = 1 << 20

#: Returns the 64 bytes of an Ed25519 signature.
Sign = Callable[[bytes], bytes]
#: Whether a signature is of this content, by a trusted key.
Trusts = Callable[[bytes, bytes], bool]


def write_index(folder: Path) -> None:
    """List the files of an entry that is complete."""
    digests = {path.name: sha256_of(path) for path in sorted(folder.iterdir())}
    (folder / INDEX).write_text(json.dumps(digests), encoding="utf-8")


def is_whole(folder: Path) -> bool:
    """Whether a folder is an entry, every file of it has its checksum, and no other file is there."""
    try:
        if (folder / INDEX).stat().st_size > _LARGEST_INDEX:
            return False
        digests = json.loads((folder / INDEX).read_text(encoding="utf-8"))
        present = {path.name for path in folder.iterdir()}
        return present == {INDEX, *digests} and all(sha256_of(folder / name) == digests[name] for name in digests)
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return False


def pack(key: str, folder: Path, output: Path, sign: Sign | None) -> None:
    """Write an entry as one file.

    Args:
        key: name of the entry.
        folder: the entry.
        output: the file; it should be aside.
        sign: signs it; None leaves it unsigned.
    """
    files = {path.name: path for path in folder.iterdir()}
    programs = frozenset(name for name, path in files.items() if path.stat().st_mode & 0o100)
    write_archive(output, key, files, programs)
    signature = sign(_signed(key, output)).hex() if sign else _UNSIGNED
    with output.open("ab") as stream:
        stream.write(f"{_MAGIC} {signature}\n".encode())


def unpack(key: str, packed: Path, folder: Path, trusts: Trusts | None, limits: Limits) -> None:
    """Unpack an entry into an empty folder.

    Args:
        key: name that it was asked for by.
        packed: the file; it is cut to the archive alone.
        folder: where its files go; they are put there when all is checked.
        trusts: judges its signature; None takes an entry of any signature or none.
        limits: what it may at most unpack to.

    Raises:
        ArtifactError: it is not signed as it must be, damaged, cut off, hostile, or another entry.
        OSError: ``folder`` cannot be written.
    """
    signature = _take_last_line(packed)
    if trusts is not None and (signature is None or not trusts(_signed(key, packed), signature)):
        reason = "it is not signed" if signature is None else "no trusted key signed it for these inputs"
        raise _refused(reason)
    with tempfile.TemporaryDirectory(dir=packed.parent) as scratch:
        try:
            top = extract_archive(packed, Path(scratch), limits)
        except ArtifactError as error:
            raise _refused(str(error.details.get("reason", "it cannot be read"))) from error
        if top != key or not is_whole(Path(scratch) / top):
            raise _refused("it is another entry" if top != key else "its files are not those that it lists")
        for path in (Path(scratch) / top).iterdir():
            shutil.move(path, folder / path.name)


def _signed(key: str, archive: Path) -> bytes:
    return f"{_MAGIC} {key} {sha256_of(archive)}\n".encode()


def _take_last_line(packed: Path) -> bytes | None:
    """Cut the last line off and return the signature in it, None for an unsigned entry."""
    start = packed.stat().st_size - _LAST_BYTES
    with packed.open("r+b") as stream:
        stream.seek(max(start, 0))
        match = _LAST_LINE.fullmatch(stream.read(_LAST_BYTES + 1))
        if match is None:
            raise _refused("it is damaged or cut off")
        stream.truncate(start)
    text = match[1].decode()
    return None if text == _UNSIGNED else bytes.fromhex(text)


def _refused(reason: str) -> ArtifactError:
    return ArtifactError(f"The entry is refused: {reason}.", "Remove it from the remote cache.", {"reason": reason})
