from __future__ import annotations

import dataclasses
import importlib.metadata
import importlib.util
import shutil
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from tvmbuild.codegen import toolchain
from tvmbuild.codegen.toolchain import find_toolchain, install_hint, run_compiler
from tvmbuild.support.errors import CompileError, OptionError, ToolchainError
from tvmbuild.target.target import load_target

RPI4 = load_target("rpi4")
VERSION = "aarch64-linux-gnu-g++ (Debian 12.2.0-14) 12.2.0"


def has(monkeypatch: pytest.MonkeyPatch, *, gnu: bool, zig: bool) -> None:
    """Make the machine one on which these toolchains are installed."""
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}" if gnu else None)
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: object() if zig else None)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "0.17.1")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: SimpleNamespace(stdout=f"{VERSION}\nCopyright\n"))
    toolchain._gnu_version.cache_clear()


@pytest.fixture(autouse=True)
def _forget_versions() -> Any:
    yield
    toolchain._gnu_version.cache_clear()


def test_the_targets_first_installed_preference_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, gnu=True, zig=True)
    assert find_toolchain(RPI4).name == "gnu"
    assert find_toolchain(dataclasses.replace(RPI4, toolchains=("zig", "gnu"))).name == "zig"
    has(monkeypatch, gnu=False, zig=True)
    assert find_toolchain(RPI4).name == "zig"


def test_gnu_is_the_cross_compiler_with_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, gnu=True, zig=False)
    found = find_toolchain(RPI4)
    assert found.cxx == found.linker == ("/usr/bin/aarch64-linux-gnu-g++",)
    assert found.version == VERSION
    assert not found.links_old_glibc


def test_zig_is_told_the_targets_glibc(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, gnu=True, zig=True)
    found = find_toolchain(RPI4, "zig")
    options = ("-target", "aarch64-linux-gnu.2.31")
    assert found.linker == (sys.executable, "-m", "ziglang", "cc", *options)
    assert found.cxx == (sys.executable, "-m", "ziglang", "c++", *options)
    assert found.links_old_glibc


def test_nothing_installed_names_every_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, gnu=False, zig=False)
    with pytest.raises(ToolchainError) as caught:
        find_toolchain(RPI4)
    assert "aarch64-linux-gnu-g++" in caught.value.message
    assert "sudo apt-get install -y g++-aarch64-linux-gnu" in caught.value.hint
    assert "pip install 'tvmbuild[zig]'" in caught.value.hint


def test_the_toolchain_asked_for_is_not_replaced_by_another(monkeypatch: pytest.MonkeyPatch) -> None:
    has(monkeypatch, gnu=True, zig=False)
    with pytest.raises(ToolchainError) as caught:
        find_toolchain(RPI4, "zig")
    assert "apt-get" not in caught.value.hint


def test_an_unknown_toolchain_names_the_nearest() -> None:
    with pytest.raises(OptionError) as caught:
        find_toolchain(RPI4, "gnuu")
    assert "'gnu'" in caught.value.hint


def test_the_native_compiler_has_the_plain_name() -> None:
    assert install_hint("gnu", load_target("host")) == "sudo apt-get install -y g++"


def test_a_refusal_shows_the_compilers_last_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    refused = SimpleNamespace(returncode=1, stdout="", stderr="".join(f"line {n}\n" for n in range(40)))
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: refused)
    with pytest.raises(CompileError) as caught:
        run_compiler(["/usr/bin/g++", "x.o"], "the library x.so")
    assert caught.value.message.startswith("g++ could not make the library x.so:\nline 28\n")
    assert caught.value.message.endswith("line 39")


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (subprocess.TimeoutExpired("g++", 900), "15 minutes"),
        (FileNotFoundError(2, "No such file"), "cannot be started"),
    ],
)
def test_a_compiler_that_hangs_or_is_gone_is_a_plain_error(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, words: str
) -> None:
    def run(*_arguments: object, **_options: object) -> None:
        raise raised

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(CompileError) as caught:
        run_compiler(["g++"], "the runner")
    assert words in caught.value.message
