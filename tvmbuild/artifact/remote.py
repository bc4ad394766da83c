"""A folder or bucket behind the store, shared by machines, through fsspec: ``s3://bucket/path``, ``file:///mnt/share``.

It can only help: whatever goes wrong with it is said once, and the build goes on without it. Each entry is one file,
``<first two digits>/<key>``, as ``entry.py`` packs it.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tvmbuild.artifact.entry import Sign, Trusts, pack, unpack
from tvmbuild.artifact.members import Limits
from tvmbuild.artifact.patience import Moved, within
from tvmbuild.support.errors import ArtifactError, OptionError

_PIECE = 1 << 20
_LIMITS = Limits(files=1000)
#: File systems where a file appears when it is closed, whole; a move would copy it.
_WHOLE_WHEN_CLOSED = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "oss", "oci", "tos", "hf"})


@dataclass(frozen=True)
class RemoteSettings:
    """Which remote, and whom to trust.

    Attributes:
        url: what fsspec opens.
        trusts: judges signatures; None takes unsigned entries.
        sign: signs what is written; None writes nothing, or, when unsigned entries are taken, unsigned ones.
        seconds: how long the remote may take to answer.
    """

    url: str
    trusts: Trusts | None
    sign: Sign | None
    seconds: float = 10.0


class Remote:
    """A remote for the time of one command; after the first failure it is left alone."""

    def __init__(self, settings: RemoteSettings, warn: Callable[[str], None]) -> None:
        """Find the driver.

        Args:
            settings: which remote.
            warn: told, in one sentence each, what went wrong.

        Raises:
            OptionError: there is no such file system, or its driver is not installed.
        """
        self._settings = settings
        self._warn = warn
        self._may_read = True
        self._may_write = settings.sign is not None or settings.trusts is None
        # No password in what is printed.
        self._url = re.sub(r"//[^/@]*@", "//", settings.url)
        _require_driver(settings.url, self._url)

    def fetch(self, key: str, folder: Path) -> bool:
        """Put the files of an entry into an empty folder; False if it is not there or cannot be used."""
        if not self._may_read:
            return False
        with _scratch() as packed:
            try:
                found = within(self._settings.seconds, lambda moved: self._download(key, packed, moved))
            except Exception as error:  # Each driver has errors of its own.
                self._may_read = self._may_write = False
                self._warn(f"The remote cache {self._url} is not used: {_reason(error)}.")
                return False
            if not found:
                return False
            try:
                unpack(key, packed, folder, self._settings.trusts, _LIMITS)
            except (ArtifactError, OSError) as error:
                reason = error.details["reason"] if isinstance(error, ArtifactError) else _reason(error)
                self._warn(f"Entry {_place(key)} of the remote cache {self._url} is not used: {reason}.")
                _empty(folder)
                return False
        return True

    def offer(self, key: str, folder: Path) -> None:
        """Write an entry, if this process may write."""
        if not self._may_write:
            return
        with _scratch() as packed:
            try:
                pack(key, folder, packed, self._settings.sign)
                within(self._settings.seconds, lambda moved: self._upload(key, packed, moved))
            except Exception as error:  # Each driver has errors of its own.
                self._may_write = False
                self._warn(f"Nothing more is written to the remote cache {self._url}: {_reason(error)}.")

    def _download(self, key: str, packed: Path, moved: Moved) -> bool:
        files, top = _open(self._settings.url)
        try:
            with files.open(f"{top}/{_place(key)}", "rb") as source, packed.open("wb") as output:
                while piece := source.read(_PIECE):
                    moved.add(len(piece))
                    if moved.bytes > _LIMITS.bytes:
                        raise ValueError(f"{_place(key)} is larger than any real entry")
                    output.write(piece)
        except FileNotFoundError:
            return False
        return True

    def _upload(self, key: str, packed: Path, moved: Moved) -> None:
        files, top = _open(self._settings.url)
        place = f"{top}/{_place(key)}"
        with _written_whole(files, place) as path, packed.open("rb") as source, files.open(path, "wb") as output:
            while piece := source.read(_PIECE):
                output.write(piece)
                moved.add(len(piece))


@contextmanager
def _scratch() -> Iterator[Path]:
    # A thread that was left behind may still write there.
    with tempfile.TemporaryDirectory(prefix="tvmbuild-remote-", ignore_cleanup_errors=True) as folder:
        yield Path(folder) / "entry"


def _empty(folder: Path) -> None:
    for path in folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def _place(key: str) -> str:
    return f"{key[:2]}/{key}"


@contextmanager
def _written_whole(files: Any, path: str) -> Iterator[str]:
    """Give a path to write to, from which the file moves to its own."""
    protocols = {files.protocol} if isinstance(files.protocol, str) else set(files.protocol)
    if protocols & _WHOLE_WHEN_CLOSED:
        yield path
        return
    folder, _, name = path.rpartition("/")
    files.makedirs(folder, exist_ok=True)
    aside = f"{folder}/.{name}.{uuid.uuid4().hex}"
    try:
        yield aside
        _move(files, aside, path)
    except BaseException:
        with contextlib.suppress(Exception):
            files.rm_file(aside)
        raise


def _move(files: Any, source: str, path: str) -> None:
    try:
        files.mv(source, path)
    except Exception:
        # Some file systems replace no file; what another process wrote there is as good.
        if not files.exists(path):
            raise
        files.rm_file(source)


def _open(url: str) -> tuple[Any, str]:
    """Return the file system and the path in it; connects."""
    from fsspec.core import url_to_fs

    files, path = url_to_fs(url)
    return files, str(path).rstrip("/")


def _require_driver(url: str, shown: str) -> None:
    from fsspec import get_filesystem_class
    from fsspec.core import split_protocol

    protocol, _ = split_protocol(url)
    try:
        get_filesystem_class(protocol or "file")
    except ImportError as error:
        raise OptionError(
            f"The remote cache {shown} needs a driver: {error}.", "Install that package beside tvmbuild with pip."
        ) from error
    except ValueError as error:
        raise OptionError(
            f"The remote cache {shown} is of no known kind: {error}.",
            "Give a folder, or a URL such as s3://bucket/path.",
        ) from error


def _reason(error: BaseException) -> str:
    if isinstance(error, NotImplementedError):
        return "it cannot be written"
    text = " ".join(str(error).split())
    return (text or type(error).__name__)[:300].rstrip(".")
