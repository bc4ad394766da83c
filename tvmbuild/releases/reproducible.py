"""Build a release twice, in conditions that differ in all that should not matter, and compare."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from elftools.elf.elffile import ELFFile

from tvmbuild.support import progress
from tvmbuild.support.cache import cache_root
from tvmbuild.support.errors import CompileError, VerificationError
from tvmbuild.support.place import BESIDE, PACKAGE

#: Longest that one release may take here, in seconds.
_SECONDS = 7200


@dataclass(frozen=True)
class _Conditions:
    """What may differ between two machines: place of checkout and caches, permissions, time zone, language, hashes."""

    place: str
    umask: int
    environment: Mapping[str, str]


_CONDITIONS = (
    _Conditions("a", 0o022, {"TZ": "UTC", "LANG": "C", "LC_ALL": "C", "PYTHONHASHSEED": "0"}),
    _Conditions(
        "another place/much deeper",
        0o077,
        {
            "TZ": "Asia/Kathmandu",
            "LANG": "tr_TR.UTF-8",
            "LC_ALL": "C.UTF-8",
            "PYTHONHASHSEED": "12345",
            "USER": "other",
        },
    ),
)


def check_reproducible(project: Path, version: str, targets: str = "") -> list[str]:
    """Release a project twice, from two copies of tvmbuild's own code with a cache and a temporary folder each.

    Nothing is taken from the cache but the downloaded runtime libraries: board programs are compiled anew as well.

    Args:
        project: folder with the project file.
        version: version to release as.
        targets: boards of one bundle, "A,B,C"; "" for those of the project file.

    Returns:
        Names of the published files.

    Raises:
        CompileError: one of the two releases failed; the message holds its last lines.
        VerificationError: files differ; each is named, with the members and sections that differ.
    """
    with tempfile.TemporaryDirectory(prefix="tvmbuild-reproducible-") as scratch:
        folders = []
        for number, conditions in enumerate(_CONDITIONS, 1):
            with progress.stage(f"release in conditions {number} of {len(_CONDITIONS)}"):
                place = Path(scratch) / conditions.place
                arguments = ["--project", str(project.resolve()), "--version", version, "--targets", targets]
                folders.append(_release(arguments, place, conditions) / version)
        differences = compare_folders(*folders)
        if differences:
            raise VerificationError(
                f"Two builds of the same inputs differ: {'; '.join(differences)}.", "Report this as a bug of tvmbuild."
            )
        return sorted(path.name for path in folders[0].iterdir())


def _release(arguments: list[str], place: Path, conditions: _Conditions) -> Path:
    checkout, cache, temporary = place / "checkout", place / "cache", place / "tmp"
    temporary.mkdir(parents=True)
    _copy_code(checkout)
    for downloaded in cache_root().glob("runtime-*"):
        shutil.copytree(downloaded, cache / "tvmbuild" / downloaded.name)
    environment = {
        **os.environ,
        **conditions.environment,
        "PYTHONPATH": str(checkout),
        "XDG_CACHE_HOME": str(cache),
        "TMPDIR": str(temporary),
        "TVMBUILD_REMOTE_CACHE": "",
    }
    environment.pop("TVMBUILD_KEY", None)
    done = subprocess.run(
        [sys.executable, "-m", "tvmbuild", "release", *arguments, "-o", str(place / "dist"), "-q"],
        cwd=temporary,
        env=environment,
        umask=conditions.umask,
        capture_output=True,
        text=True,
        timeout=_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        last = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise CompileError(f"A release to compare failed:\n{last}", "Mend what it says, then check again.")
    return place / "dist"


def _copy_code(checkout: Path) -> None:
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(PACKAGE, checkout / "tvmbuild", ignore=ignored)
    if (BESIDE / "targets").is_dir():
        shutil.copytree(BESIDE / "targets", checkout / "targets")
        shutil.copyfile(BESIDE / "LICENSE", checkout / "LICENSE")


def compare_folders(first: Path, second: Path) -> list[str]:
    """Return what differs between two releases: names of files, with the members or sections that differ."""
    names = sorted({path.name for folder in (first, second) for path in folder.iterdir()})
    found = []
    for name in names:
        a, b = first / name, second / name
        if not a.exists() or not b.exists():
            found.append(f"{name} is in one of them only")
        elif a.read_bytes() != b.read_bytes():
            inside = _parts_that_differ(a, b)
            found.append(f"{name} ({', '.join(inside)})" if inside else name)
    return found


def _parts_that_differ(a: Path, b: Path) -> list[str]:
    parts_a, parts_b = _parts(a), _parts(b)
    return sorted(name for name in {*parts_a, *parts_b} if parts_a.get(name) != parts_b.get(name))


def _parts(path: Path) -> dict[str, object]:
    """Return the members of an archive or the sections of a library, to be compared."""
    if path.suffix == ".so":
        with path.open("rb") as stream:
            return {section.name: section.data() for section in ELFFile(stream).iter_sections()}
    if path.suffix not in (".tar", ".gz"):
        return {}
    with tarfile.open(path, "r:gz" if path.suffix == ".gz" else "r:") as archive:
        parts: dict[str, object] = {}
        for member in archive:
            content = archive.extractfile(member)
            parts[member.name] = (member.mode, member.mtime, member.uname, content.read() if content else b"")
        return parts
