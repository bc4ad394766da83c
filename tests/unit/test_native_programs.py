"""The sources of the C and C++ programs: each file belongs to a program, and a program to the files it includes."""

from __future__ import annotations

import json
import re
import shutil

import pytest

from tvmbuild.codegen import native_programs
from tvmbuild.codegen.native_programs import program_folders, sources, sources_digest
from tvmbuild.support.place import BESIDE, NATIVE

LISTED = json.loads((NATIVE / "programs.json").read_text(encoding="utf-8"))
PROGRAMS = [*LISTED["programs"], *LISTED["tests"]]
HEADERS = sorted(NATIVE.rglob("*.h"))


def included(text: str) -> set[str]:
    """Return the folders that a source includes files of."""
    return {path.split("/")[0] for path in re.findall(r'#include "([^"]+/[^"]+)"', text)}


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_a_program_includes_lies_in_its_folders(name):
    folders = set(program_folders(name))
    texts = [path.read_text(encoding="utf-8") for folder in folders for path in (NATIVE / folder).iterdir()]
    if name in LISTED["tests"]:
        texts.append((BESIDE / "tests" / name).read_text(encoding="utf-8"))
    assert set().union(*map(included, texts)) <= folders


def test_every_folder_belongs_to_a_program():
    used = {folder for name in PROGRAMS for folder in program_folders(name)}
    assert {path.name for path in NATIVE.iterdir() if path.is_dir()} == {*used, "startup"}


def test_a_program_has_one_main_and_a_test_brings_its_own():
    for name in ("runner", "check"):
        mains = [path for path in sources(program_folders(name)) if path.name == "main.cc"]
        assert [path.parent.name for path in mains] == [name]
        assert set(sources(program_folders(name), with_main=False)) == set(sources(program_folders(name))) - set(mains)


@pytest.mark.parametrize("path", HEADERS, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_the_guard_of_a_header_is_its_path(path):
    guard = "TVMBUILD_" + re.sub(r"\W", "_", str(path.relative_to(NATIVE))).upper() + "_"
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^#ifndef (\w+)\n#define (\w+)$", text, re.MULTILINE).groups() == (guard, guard)


@pytest.fixture
def copied(monkeypatch, tmp_path):
    """A copy of the sources that may be changed."""
    folder = tmp_path / "native"
    shutil.copytree(NATIVE, folder)
    monkeypatch.setattr(native_programs, "NATIVE", folder)
    monkeypatch.setattr(native_programs, "_LIST", folder / "programs.json")
    return folder


@pytest.mark.parametrize("name", ["common/failure.h", "runner/main.cc", "server/socket.cc", "programs.json"])
def test_any_change_of_a_source_header_or_option_makes_another_program(copied, name):
    before = sources_digest(program_folders("runner"))
    (copied / name).write_text((copied / name).read_text(encoding="utf-8") + "\n", encoding="utf-8")
    assert sources_digest(program_folders("runner")) != before


def test_a_change_of_another_program_leaves_this_one(copied):
    before = sources_digest(program_folders("check"))
    (copied / "server" / "socket.cc").write_text("", encoding="utf-8")
    assert sources_digest(program_folders("check")) == before


def test_a_file_that_moves_makes_another_program(copied):
    before = sources_digest(program_folders("runner"))
    (copied / "runner" / "options.cc").rename(copied / "server" / "options.cc")
    assert sources_digest(program_folders("runner")) != before
