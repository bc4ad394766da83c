"""Choosing a device, and what is missing for it."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from tvmbuild.device import emulated, emulator, local, open_device
from tvmbuild.device.emulator import Emulator, find_emulator
from tvmbuild.errors import DeviceError, OptionError, ToolchainError
from tvmbuild.target import load_target

RPI4 = load_target("rpi4")
NATIVE = dataclasses.replace(RPI4, name="host", triple=f"{platform.machine()}-linux-gnu", cpu="native", qemu_cpu="")
FOREIGN = dataclasses.replace(RPI4, triple="riscv64-linux-gnu")
QEMU = Emulator("/usr/bin/qemu-aarch64", Path("/usr/aarch64-linux-gnu"), "qemu-aarch64 7.2.22")


@pytest.fixture
def _runner(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Have a compiled runner and an emulator."""
    for module in (emulated, local):
        monkeypatch.setattr(module, "runner_folder", lambda _: tmp_path)
    monkeypatch.setattr(emulated, "find_emulator", lambda: QEMU)


def test_an_unknown_kind_names_the_nearest() -> None:
    with pytest.raises(OptionError) as caught:
        open_device("emulate", RPI4)
    assert "'emulated'" in caught.value.hint


def test_rpc_without_a_tracker_says_how_to_give_one() -> None:
    with pytest.raises(OptionError, match="needs the tracker's address") as caught:
        open_device("rpc", RPI4)
    assert "--tracker HOST:PORT" in caught.value.hint


@pytest.mark.usefixtures("_runner")
def test_auto_is_local_where_the_code_runs_and_emulated_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_device("auto", NATIVE).describe().kind == "local"
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert open_device("auto", RPI4).describe().kind == "emulated"
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    assert open_device("auto", RPI4).describe().kind == "local"


@pytest.mark.usefixtures("_runner")
def test_an_emulated_board_names_its_core_and_that_its_times_mean_nothing() -> None:
    info = open_device("emulated", RPI4).describe()
    assert info.description == "emulated cortex-a72 (qemu-aarch64 7.2.22)"
    assert not info.timed


@pytest.mark.usefixtures("_runner")
def test_the_emulator_is_told_core_and_libraries(tmp_path: Path) -> None:
    device = emulated.EmulatedDevice(RPI4)
    runner = str(tmp_path / "tvmbuild-runner")
    assert device.launcher("-plugin", "x.so") == [
        *("/usr/bin/qemu-aarch64", "-plugin", "x.so", "-cpu", "cortex-a72", "-L", "/usr/aarch64-linux-gnu"),
        runner,
    ]


@pytest.mark.usefixtures("_runner")
def test_code_for_another_machine_does_not_run_locally() -> None:
    with pytest.raises(DeviceError, match="cannot run code for rpi4 \\(riscv64\\)"):
        open_device("local", FOREIGN)


@pytest.mark.usefixtures("_runner")
@pytest.mark.parametrize("qemu_cpu", ["", "max"])
def test_a_target_without_a_real_core_is_not_emulated(qemu_cpu: str) -> None:
    with pytest.raises(DeviceError):
        open_device("emulated", dataclasses.replace(RPI4, qemu_cpu=qemu_cpu))


class TestFindEmulator:
    """Below a made-up root."""

    @pytest.fixture(autouse=True)
    def _cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        said = "qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright\n"
        monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=said))
        emulator._version.cache_clear()

    def unpack(self) -> Path:
        root = emulator.unpacked_root()
        (root / "usr/bin").mkdir(parents=True)
        for name in emulator._PROGRAMS:
            (root / "usr/bin" / name).write_text("")
            (root / "usr/bin" / name).chmod(0o755)
        (root / emulator._SYSROOT / "lib").mkdir(parents=True)
        for name in emulator._NEEDED:
            (root / emulator._SYSROOT / "lib" / name).write_text("")
        return root

    def test_packages_unpacked_without_root_serve(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(Path, "exists", _only_below(tmp_path))
        root = self.unpack()
        found = find_emulator()
        # The other program may need libraries that only root can install.
        program = str(root / "usr/bin/qemu-aarch64-static")
        assert found == Emulator(program, root / emulator._SYSROOT, "qemu-aarch64 7.2.22")

    def test_what_is_missing_is_told_with_both_ways_to_get_it(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        with pytest.raises(ToolchainError, match="qemu-aarch64") as caught:
            find_emulator()
        assert caught.value.hint.startswith("sudo apt-get install -y qemu-user ")
        assert str(emulator.unpacked_root()) in caught.value.hint

    def test_an_emulator_without_libraries_is_told_apart(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(shutil, "which", lambda name, **_: f"/usr/bin/{name}")
        monkeypatch.setattr(Path, "exists", _only_below(tmp_path))
        with pytest.raises(ToolchainError, match="system libraries are missing"):
            find_emulator()


def _only_below(folder: Path) -> object:
    """Return a Path.exists for which nothing lies outside a folder."""
    return lambda path, **_: path.is_relative_to(folder) and os.path.lexists(path)
