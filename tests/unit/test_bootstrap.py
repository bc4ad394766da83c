"""scripts/bootstrap.py against a fake machine: what it runs, what it prints, and when it does nothing."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

SCRIPT = Path(__file__).parents[2] / "scripts" / "bootstrap.py"
PYTHON = f"{sys.version_info[0]} {sys.version_info[1]}"


@dataclass
class Machine:
    """A machine on which every command works, unless told otherwise.

    Attributes:
        bootstrap: the script, loaded anew.
        top: the checkout.
        programs: what is on the PATH.
        commands: what was run, in order, probes of .venv aside.
        failing: commands that contain this fail.
        probe: what the Python in .venv says of itself.
    """

    bootstrap: ModuleType
    top: Path
    programs: set[str]
    commands: list[list[str]] = field(default_factory=list)
    failing: str = ""
    probe: str = PYTHON

    def run(self, command: Sequence[str], **_options: Any) -> SimpleNamespace:
        if "-c" in command:
            return SimpleNamespace(returncode=0, stdout=self.probe)
        self.commands.append(list(command))
        if self.failing and self.failing in " ".join(command):
            return SimpleNamespace(returncode=1, stdout=b"Collecting numpy\nERROR: no route to the index\n")
        if "venv" in command:
            (self.top / ".venv/bin").mkdir(parents=True, exist_ok=True)
            (self.top / ".venv/bin/python").touch()
        return SimpleNamespace(returncode=0, stdout=b"")

    def set_up(self) -> int:
        self.commands.clear()
        status: int = self.bootstrap.main()
        return status


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    spec = importlib.util.spec_from_file_location("bootstrap", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    bootstrap = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bootstrap)
    (tmp_path / "requirements.lock").write_text("numpy==2.0.0 --hash=sha256:00\n")
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    fake = Machine(bootstrap, tmp_path, {"g++", "aarch64-linux-gnu-g++", "qemu-aarch64", "apt-get"})
    monkeypatch.setattr(bootstrap, "TOP", tmp_path)
    monkeypatch.setattr(bootstrap, "VENV", tmp_path / ".venv")
    monkeypatch.setattr(subprocess, "run", fake.run)
    monkeypatch.setattr(shutil, "which", lambda name, **_: name if name in fake.programs else None)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object())
    return fake


def test_installs_the_lock_with_hashes_and_then_the_checkout(machine: Machine) -> None:
    assert machine.set_up() == 0
    create, lock, checkout = machine.commands
    assert create[1:4] == ["-m", "venv", "--clear"]
    assert lock[0] == checkout[0] == str(machine.top / ".venv/bin/python")
    assert {"--require-hashes", "--no-deps", str(machine.top / "requirements.lock")} <= set(lock)
    assert checkout[-4:] == ["--no-deps", "--no-build-isolation", "--editable", str(machine.top)]


def test_second_run_starts_nothing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.set_up()
    capsys.readouterr()
    assert machine.set_up() == 0
    assert machine.commands == []
    assert capsys.readouterr().out == "setup  .venv is up to date\n"


@pytest.mark.parametrize("name", ["requirements.lock", "pyproject.toml"])
def test_changed_requirements_are_installed_into_the_same_environment(machine: Machine, name: str) -> None:
    machine.set_up()
    with (machine.top / name).open("a") as file:
        file.write("# more\n")
    assert machine.set_up() == 0
    assert ["venv" in command for command in machine.commands] == [False, False]


def test_another_python_makes_the_environment_anew(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.set_up()
    monkeypatch.setattr(sys, "base_prefix", "/opt/another")
    assert machine.set_up() == 0
    assert ["venv" in command for command in machine.commands] == [True, False, False]


def test_an_environment_that_is_not_whole_is_made_anew(machine: Machine) -> None:
    (machine.top / ".venv/bin").mkdir(parents=True)
    (machine.top / ".venv/bin/python").touch()
    machine.probe = ""
    assert machine.set_up() == 0
    assert ["venv" in command for command in machine.commands] == [True, False, False]


def test_a_working_environment_made_by_hand_is_kept(machine: Machine) -> None:
    (machine.top / ".venv/bin").mkdir(parents=True)
    (machine.top / ".venv/bin/python").touch()
    assert machine.set_up() == 0
    assert ["venv" in command for command in machine.commands] == [False, False]


def test_a_failed_install_leaves_no_stamp_and_says_what_pip_said(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.failing = "--require-hashes"
    assert machine.set_up() == 1
    said = capsys.readouterr().err
    assert "ERROR: no route to the index" in said
    assert "Could not install the packages of requirements.lock. Check the network" in said
    machine.failing = ""
    assert machine.set_up() == 0
    assert len(machine.commands) == 2


def test_root_installs_what_is_missing_in_one_go(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine.programs = {"apt-get"}
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert machine.set_up() == 0
    update, install = machine.commands[:2]
    assert update == ["apt-get", "update"]
    venv = f"python{PYTHON.replace(' ', '.')}-venv"
    assert install[-4:] == [venv, "g++-aarch64-linux-gnu", "qemu-user", "g++"]


def test_others_get_the_one_line_with_all_that_is_missing(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machine.programs = {"apt-get", "g++"}
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert machine.set_up() == 1
    assert machine.commands == []
    lines = [line for line in capsys.readouterr().err.splitlines() if "apt-get" in line]
    assert [line.strip() for line in lines] == [
        "sudo apt-get update && sudo apt-get install -y --no-install-recommends g++-aarch64-linux-gnu qemu-user"
    ]
    assert not (machine.top / ".venv").exists()


def test_without_apt_the_packages_are_named(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    machine.programs = {"g++"}
    assert machine.set_up() == 1
    assert "g++-aarch64-linux-gnu qemu-user" in capsys.readouterr().err


@pytest.mark.parametrize("emulator", ["qemu-aarch64", "qemu-aarch64-static"])
def test_either_emulator_serves(machine: Machine, emulator: str) -> None:
    machine.programs = {"g++", "aarch64-linux-gnu-g++", emulator}
    assert machine.bootstrap.missing_packages() == []


def test_an_aarch64_machine_needs_only_its_compiler(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    machine.programs = set()
    assert machine.bootstrap.missing_packages() == ["g++"]


def test_an_old_python_is_refused_before_anything_is_done(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(machine.bootstrap, "OLDEST_PYTHON", (4, 0))
    machine.programs = set()
    assert machine.set_up() == 1
    assert machine.commands == []
    assert "PYTHON=python3" in capsys.readouterr().err


def test_ctrl_c_ends_with_a_line_and_no_traceback(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_arguments: object, **_options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupt)
    assert machine.set_up() == 130
    assert "goes on from here" in capsys.readouterr().err
