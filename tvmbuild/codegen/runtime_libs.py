"""The TVM runtime libraries that a compiled model needs on its board.

For the machine that builds they are those of the installed packages; for an aarch64 board they come from the pinned
aarch64 wheels, which are downloaded once.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.support.cache import cached_folder
from tvmbuild.support.errors import FetchError
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

_WHEELS = Path(__file__).with_name("runtime_wheels.txt")
#: What pip is asked for: the wheels' own tags, whatever Python runs tvmbuild.
_WHEEL_TAGS = (
    "--platform=manylinux_2_28_aarch64",
    "--python-version=3.11",
    "--implementation=cp",
    "--abi=cp311",
    "--abi=none",
)
#: Files and folders to take (paths in the packages, folders end in "/") and where to put them.
_CONTENTS = {
    "tvm/lib/libtvm_runtime.so": "lib/libtvm_runtime.so",
    "tvm_ffi/lib/libtvm_ffi.so": "lib/libtvm_ffi.so",
    "tvm_ffi/include/tvm/": "include/tvm/",
    "tvm_ffi/include/dlpack/": "include/dlpack/",
    "tvm/LICENSE": "licenses/apache-tvm/LICENSE",
    "tvm/NOTICE": "licenses/apache-tvm/NOTICE",
    "tvm/licenses/": "licenses/apache-tvm/",
    "apache_tvm_ffi-{ffi}.dist-info/licenses/": "licenses/apache-tvm-ffi/",
}
_DOWNLOAD_SECONDS = 1800


@dataclass(frozen=True)
class RuntimeLibraries:
    """The runtime libraries for one architecture.

    Attributes:
        folder: holds ``lib/``, ``include/`` (tvm-ffi and DLPack) and ``licenses/``.
        arch: machine name of the libraries.
        version: "apache-tvm 0.27.0.post1, apache-tvm-ffi 0.1.14.post0".
    """

    folder: Path
    arch: str
    version: str

    @property
    def libraries(self) -> tuple[Path, Path]:
        """The files libtvm_runtime.so and libtvm_ffi.so."""
        return self.folder / "lib" / "libtvm_runtime.so", self.folder / "lib" / "libtvm_ffi.so"

    @property
    def include(self) -> Path:
        """The folder to search for headers."""
        return self.folder / "include"


def runtime_libraries(target: Target) -> RuntimeLibraries:
    """Return the runtime libraries for a target, fetching them if they are not there yet.

    Raises:
        FetchError: the wheels cannot be downloaded, have the wrong checksum, or there are none for the architecture.
    """
    arch = target.arch
    if arch not in (platform.machine(), "aarch64"):
        raise FetchError(
            f"There are no pinned runtime libraries for {arch}.",
            f"Build for {platform.machine()} (this machine) or for an aarch64 board.",
        )
    tvm_version, ffi_version = pinned_versions()
    native = arch == platform.machine()
    name = f"runtime-{arch}-{tvm_version}-{ffi_version}"
    folder = cached_folder(name, _copy_installed if native else _download)
    return RuntimeLibraries(folder, arch, f"apache-tvm {tvm_version}, apache-tvm-ffi {ffi_version}")


def pinned_versions() -> tuple[str, str]:
    """Return the versions of apache-tvm and apache-tvm-ffi that the runtime libraries have."""
    pins = dict(
        line.split()[0].split("==")
        for line in _WHEELS.read_text(encoding="utf-8").splitlines()
        if line and not line.startswith("#")
    )
    return pins["apache-tvm"], pins["apache-tvm-ffi"]


def _copy_installed(folder: Path) -> None:
    roots = [
        Path(str(importlib.metadata.distribution(name).locate_file(""))) for name in ("apache-tvm", "apache-tvm-ffi")
    ]
    for source, destination in _contents():
        found = next((root / source for root in roots if (root / source).exists()), None)
        if found is None:
            raise FetchError(
                f"The installed apache-tvm packages have no {source}.",
                "Install the pinned packages again: pip install --force-reinstall 'tvmbuild'",
            )
        if source.endswith("/"):
            shutil.copytree(found, folder / destination, dirs_exist_ok=True)
        else:
            (folder / destination).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(found, folder / destination)


def _download(folder: Path) -> None:
    with (
        stage("fetch the aarch64 runtime libraries", total=2) as step,
        tempfile.TemporaryDirectory(prefix="tvmbuild-wheels-") as wheels,
    ):
        _pip_download(Path(wheels))
        step.advance(detail="downloaded")
        paths = sorted(Path(wheels).glob("*.whl"))
        _extract(paths, folder)
        step.advance(detail=f"from {len(paths)} wheels")


def _pip_download(destination: Path) -> None:
    if importlib.util.find_spec("pip") is None:
        raise FetchError(
            "The aarch64 runtime libraries cannot be downloaded: this Python has no pip.",
            f"Install it: {sys.executable} -m ensurepip",
        )
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--no-deps", "--only-binary=:all:", "--require-hashes", *_WHEEL_TAGS]
    command += ["--dest", str(destination), "--requirement", str(_WHEELS)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_DOWNLOAD_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"Downloading the aarch64 runtime libraries took over {_DOWNLOAD_SECONDS // 60} minutes.",
            "Check the network and run the same command again.",
        ) from error
    if done.returncode != 0:
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        reason = errors[0].removeprefix("ERROR:").strip() if errors else f"pip exited with {done.returncode}"
        raise FetchError(
            f"The aarch64 runtime libraries cannot be downloaded: {reason}",
            "Check the network and pip's index (pip config list), then run the same command again.",
        )


def _extract(wheels: Iterable[Path], folder: Path) -> None:
    archives = [zipfile.ZipFile(wheel) for wheel in wheels]
    try:
        for source, destination in _contents():
            members = [
                (archive, name)
                for archive in archives
                for name in archive.namelist()
                if not name.endswith("/") and (name == source or (source.endswith("/") and name.startswith(source)))
            ]
            if not members:
                raise FetchError(f"The aarch64 wheels have no {source}.", "Report this as a bug of tvmbuild.")
            for archive, name in members:
                # The names come from wheels whose checksums pip has compared.
                path = folder / (destination + name.removeprefix(source))
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(name) as packed, path.open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    finally:
        for archive in archives:
            archive.close()


def _contents() -> list[tuple[str, str]]:
    _, ffi_version = pinned_versions()
    return [(source.format(ffi=ffi_version), destination) for source, destination in _CONTENTS.items()]
