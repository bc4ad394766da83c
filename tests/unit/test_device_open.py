"""Choosing a device, and what is missing for it."""

from __future__ import annotations

import dataclasses
import os
import platform
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tvmbuild.device import emulated, emulator, local, open_device
from tvmbuild.device.emulator import Emulator, find_emulator
from tvmbuild.support.errors import DeviceError, OptionError, ToolchainError
from tvmbuild.support.options import TuneOptions
from tvmbuild.target import target as target_module
from tvmbuild.target.target import load_target
from tvmbuild.tuning.tune import open_measurer

RPI4 = load_target("rpi4")
NATIVE = dataclasses.replace(
    RPI4, name="host", triple=f"{platform.machine()}-linux-gnu", cpu="native", features=(), qemu_cpu=""
)
RPI5 = load_target("rpi5")
#: The lines of /proc/cpuinfo on a Pi 4 and a Pi 5.
A72 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\nCPU part\t: 0xd08\n"
A76 = "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n"
FOREIGN = dataclasses.replace(RPI4, triple="riscv64-linux-gnu")
QEMU = Emulator("/usr/bin/qemu-aarch64", Path("/usr/aarch64-linux-gnu"), "qemu-aarch64 7.2.22")


def on_board(monkeypatch: pytest.MonkeyPatch, core: str, cpuinfo: str) -> None:
    """Pretend to be an aarch64 machine."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    for module in (target_module, local):
        monkeypatch.setattr(module, "host_core", lambda: core)
    read = Path.read_text

    def fake(path: Path, *arguments: Any, **options: Any) -> str:
        return cpuinfo if str(path) == "/proc/cpuinfo" else read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", fake)


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
    on_board(monkeypatch, "cortex-a72", A72)
    assert open_device("auto", RPI4).describe().kind == "local"


@pytest.mark.usefixtures("_runner")
def test_on_a_board_only_what_its_core_has_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library for a Pi 5 on a Pi 4 would end with an illegal instruction."""
    on_board(monkeypatch, "cortex-a72", A72)
    assert RPI5.misfit == "it is a cortex-a72 without dotprod and fullfp16"
    with pytest.raises(DeviceError, match=r"rpi5 \(cortex-a76\): it is a cortex-a72 without dotprod") as caught:
        open_device("local", RPI5)
    assert "--on emulated" in caught.value.hint
    assert open_device("auto", RPI5).describe().kind == "emulated"
    with pytest.raises(OptionError, match=r"This machine is no rpi5 \(cortex-a76\)"):
        open_measurer(RPI5, TuneOptions())


@pytest.mark.usefixtures("_runner")
def test_a_newer_core_runs_a_library_but_is_named_and_measures_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    on_board(monkeypatch, "cortex-a76", A76)
    info = open_device("local", RPI4).describe()
    assert info.description == "this machine (cortex-a76, with a library for cortex-a72)"
    assert info.cpu == "cortex-a76"
    assert open_device("local", RPI5).describe().description == "this machine (cortex-a76)"
    assert RPI5.is_this_core
    assert not RPI4.is_this_core
    assert load_target("generic-aarch64").is_this_core
    with pytest.raises(OptionError, match=r"This machine is no rpi4 \(cortex-a72\)"):
        open_measurer(RPI4, TuneOptions())


@pytest.mark.usefixtures("_runner")
def test_a_library_for_avx512_does_not_run_on_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(target_module, "host_core", lambda: "haswell")
    monkeypatch.setattr(target_module, "_cpu_flags", lambda: {"avx2", "fma", "sse4.2".replace(".", "")})
    features = ("avx2", "avx512f", "avx512_vnni")
    server = dataclasses.replace(NATIVE, triple="x86_64-linux-gnu", cpu="znver4", features=features)
    for kind in ("local", "auto"):
        with pytest.raises(DeviceError, match="it is a haswell without avx512f and avx512_vnni") as caught:
            open_device(kind, server)
        assert "-t host" in caught.value.hint
    older = dataclasses.replace(server, cpu="nehalem", features=("sse4_2",))
    assert open_device("auto", older).describe().kind == "local"


def test_a_machine_that_tells_nothing_is_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    on_board(monkeypatch, "generic", "")
    assert RPI5.misfit == ""


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
    with pytest.raises(
        DeviceError, match=r"cannot run code for rpi4 \(cortex-a72\): it is .*, and the code is riscv64"
    ):
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
