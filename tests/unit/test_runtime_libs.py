from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import platform
import re
import subprocess
import zipfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tvmbuild.codegen.runtime_libs import pinned_versions, runtime_libraries
from tvmbuild.support.errors import FetchError
from tvmbuild.target.target import load_target

RPI4 = load_target("rpi4")
TVM, FFI = pinned_versions()
#: What the wheels hold, besides much that is not wanted. Wheels list folders as members of their own.
TVM_WHEEL: tuple[str, ...] = ("tvm/", "tvm/lib/libtvm_runtime.so", "tvm/lib/libtvm.so", "tvm/LICENSE", "tvm/NOTICE")
TVM_WHEEL += ("tvm/licenses/", "tvm/licenses/LICENSE.dmlc.txt", "tvm/licenses/deep/", "tvm/licenses/deep/LICENSE.x")
FFI_WHEEL: tuple[str, ...] = ("tvm_ffi/lib/libtvm_ffi.so", "tvm_ffi/include/tvm/", "tvm_ffi/include/tvm/ffi/c_api.h")
FFI_WHEEL += ("tvm_ffi/include/dlpack/dlpack.h", f"apache_tvm_ffi-{FFI}.dist-info/licenses/LICENSE")


class FakePip:
    """Downloads made-up wheels, or fails with what it is told to say."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.tvm_wheel: Sequence[str] = TVM_WHEEL
        self.says = ""

    def run(self, command: list[str], **_options: Any) -> SimpleNamespace:
        self.commands.append(command)
        folder = Path(command[command.index("--dest") + 1])
        for name, members in ((f"apache_tvm-{TVM}.whl", self.tvm_wheel), (f"apache_tvm_ffi-{FFI}.whl", FFI_WHEEL)):
            with zipfile.ZipFile(folder / name, "w") as wheel:
                for member in members:
                    wheel.writestr(member, "" if member.endswith("/") else f"content of {member}")
        return SimpleNamespace(returncode=1 if self.says else 0, stderr=self.says, stdout="")


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakePip:
    fake = FakePip()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(subprocess, "run", fake.run)
    return fake


def test_libraries_headers_and_licenses_are_taken_and_nothing_else(pip: FakePip) -> None:
    runtime = runtime_libraries(RPI4)
    files = {str(path.relative_to(runtime.folder)) for path in runtime.folder.rglob("*") if path.is_file()}
    assert files == {
        "lib/libtvm_runtime.so",
        "lib/libtvm_ffi.so",
        "include/tvm/ffi/c_api.h",
        "include/dlpack/dlpack.h",
        "licenses/apache-tvm/LICENSE",
        "licenses/apache-tvm/NOTICE",
        "licenses/apache-tvm/LICENSE.dmlc.txt",
        "licenses/apache-tvm/deep/LICENSE.x",
        "licenses/apache-tvm-ffi/LICENSE",
    }
    assert runtime.libraries[0].read_text() == "content of tvm/lib/libtvm_runtime.so"
    assert runtime.arch == "aarch64"
    assert runtime.version == f"apache-tvm {TVM}, apache-tvm-ffi {FFI}"


def test_wheels_are_checked_by_hash_and_downloaded_once(pip: FakePip) -> None:
    assert runtime_libraries(RPI4) == runtime_libraries(RPI4)
    (command,) = pip.commands
    assert {"--require-hashes", "--only-binary=:all:", "--no-deps"} <= set(command)
    assert "--index-url" not in command


def test_a_failed_download_repeats_pips_reason_and_leaves_nothing(pip: FakePip, tmp_path: Path) -> None:
    pip.says = "WARNING: retrying\nERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n    Expected sha256 1\n"
    with pytest.raises(FetchError) as caught:
        runtime_libraries(RPI4)
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in caught.value.message
    assert "pip config list" in caught.value.hint
    assert [path for path in (tmp_path / "tvmbuild").iterdir() if path.is_dir()] == []
    pip.says = ""
    assert runtime_libraries(RPI4).libraries[0].exists()


def test_a_download_that_hangs_is_given_up(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: object, **__: object) -> None:
        raise subprocess.TimeoutExpired("pip", 1800)

    monkeypatch.setattr(subprocess, "run", hang)
    with pytest.raises(FetchError, match="took over 30 minutes"):
        runtime_libraries(RPI4)


def test_a_wheel_without_the_library_is_refused(pip: FakePip) -> None:
    pip.tvm_wheel = [name for name in TVM_WHEEL if "runtime" not in name]
    with pytest.raises(FetchError, match="libtvm_runtime"):
        runtime_libraries(RPI4)


def test_without_pip_the_error_says_how_to_get_it(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(FetchError) as caught:
        runtime_libraries(RPI4)
    assert "-m ensurepip" in caught.value.hint


def test_the_build_machines_own_libraries_are_copied_from_the_installed_packages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starts nothing: the unit tests' own guard would fail it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    native = dataclasses.replace(RPI4, triple=f"{platform.machine()}-linux-gnu")
    runtime = runtime_libraries(native)
    assert all(library.stat().st_size > 1e6 for library in runtime.libraries)
    assert (runtime.include / "tvm/ffi/c_api.h").exists()
    assert (runtime.include / "dlpack/dlpack.h").exists()


def test_other_architectures_are_refused(pip: FakePip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    with pytest.raises(FetchError, match="no pinned runtime libraries for x86_64"):
        runtime_libraries(dataclasses.replace(RPI4, triple="x86_64-linux-gnu"))


def test_the_wheels_are_the_versions_of_pyproject() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    pins = dict(re.findall(r'"(apache-tvm(?:-ffi)?)==([^"]+)"', pyproject))
    assert pins == {"apache-tvm": TVM, "apache-tvm-ffi": FFI}
    assert {name: importlib.metadata.version(name) for name in pins} == pins
