"""SHA256SUMS: the file that ``sha256sum -c`` reads."""

from __future__ import annotations

import re
import stat
from collections.abc import Mapping
from pathlib import Path

from tvmbuild.artifact.digest import sha256_of
from tvmbuild.support.errors import ArtifactError, OutputError
from tvmbuild.support.escape import has_control, one_line

SUMS_NAME = "SHA256SUMS"
SIGNATURE_NAME = f"{SUMS_NAME}.sig"
_LINE = re.compile(r"([0-9a-f]{64})  (.+)")
_LARGEST = 1 << 20
_AGAIN = "Copy the files again, or build them again."


def sums_text(files: Mapping[str, Path]) -> str:
    """Return the text for these files, by the paths that it names them with.

    Raises:
        OutputError: a name has a control character: a line break in it would make two lines of one.
    """
    hidden = next(filter(has_control, files), None)
    if hidden is not None:
        raise OutputError(f"A file called '{one_line(hidden)}' cannot stand in {SUMS_NAME}.", "Rename it.")
    return "".join(f"{sha256_of(files[name])}  {name}\n" for name in sorted(files))


def check_sums(folder: Path) -> list[str]:
    """Compare every file of a folder with its SHA256SUMS.

    Returns:
        The names in it.

    Raises:
        ArtifactError: files differ, are missing or are not listed (all are named), or SHA256SUMS itself is damaged.
    """
    sums = folder / SUMS_NAME
    entries = _parse(sums)
    present = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}
    problems = [f"{name} is missing" for name in sorted(entries.keys() - present)]
    problems += [f"{name} is not listed" for name in sorted(present - entries.keys() - {SUMS_NAME, SIGNATURE_NAME})]
    for name in sorted(entries.keys() & present):
        problems += _problem(folder / name, name, entries[name])
    if problems:
        raise ArtifactError(f"{folder} is not what its {SUMS_NAME} says: {'; '.join(problems)}.", _AGAIN)
    return sorted(entries)


def _problem(path: Path, name: str, digest: str) -> list[str]:
    try:
        differs = path.is_symlink() or not path.is_file() or sha256_of(path) != digest
    except OSError as error:
        return [f"{name} cannot be read: {error.strerror}"]
    return [f"{name} differs"] if differs else []


def read_plain_file(path: Path) -> bytes:
    """Return the content of SHA256SUMS or its signature.

    Raises:
        ArtifactError: it is a link, which may lead to something else the next time, or a pipe, which would keep us
            waiting, or too large.
        OSError: it cannot be read.
    """
    status = path.lstat()
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{path} is no plain file.", _AGAIN)
    if status.st_size > _LARGEST:
        raise ArtifactError(f"{path} is larger than any real one.", _AGAIN)
    return path.read_bytes()


def _parse(path: Path) -> dict[str, str]:
    try:
        # The last line ends too: what does not was cut off.
        *lines, rest = read_plain_file(path).decode().split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise ArtifactError(f"{path} cannot be read: {error}.", _AGAIN) from error
    found = [_LINE.fullmatch(line) for line in lines]
    names = {match[2]: match[1] for match in found if match}
    if rest or not names or len(names) != len(lines) or any(has_control(name) or _leaves(name) for name in names):
        raise ArtifactError(f"{path} is damaged.", _AGAIN)
    return names


def _leaves(name: str) -> bool:
    return any(part in ("", ".", "..") for part in name.split("/"))
