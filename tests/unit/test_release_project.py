from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import os
import shlex
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from xml.etree import ElementTree

import onnx
import pytest
import yaml
from onnx import helper
from onnx_models import model
from test_artifact import MANIFEST

from tvmbuild.artifact.depfile import depfile_text
from tvmbuild.artifact.epoch import source_date_epoch
from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.commands.bundle import next_on_board
from tvmbuild.commands.console import Console
from tvmbuild.releases import cell
from tvmbuild.releases.bundle import _decimal
from tvmbuild.releases.junit import junit_text
from tvmbuild.releases.notes import notes, read_report
from tvmbuild.releases.plan import read_plan
from tvmbuild.releases.project_files import write_project
from tvmbuild.releases.reproducible import compare_folders
from tvmbuild.releases.run import _named
from tvmbuild.releases.signing import check_signature, load_signer, new_keys
from tvmbuild.releases.templates import fill
from tvmbuild.support.errors import (
    ArtifactError,
    InputDataError,
    OptionError,
    OutputError,
    ShapeError,
    TargetError,
    UnsupportedOperatorError,
)
from tvmbuild.support.resolve import read_project_file
from tvmbuild.support.tensor import TensorSpec
from tvmbuild.support.versions import installed_from

MODEL = '[[release.models]]\npath = "net.onnx"\n'


def plan_of(folder: Path, text: str) -> Any:
    (folder / "tvmbuild.toml").write_text(text)
    return read_plan(folder)


def test_a_plan_is_models_by_targets_by_precisions(tmp_path: Path) -> None:
    text = '[release]\nversion = "1.2"\ntargets = ["rpi4", "rpi5"]\n' + MODEL + 'shape = ["x=1,3"]\n'
    plan = plan_of(tmp_path, text + MODEL + 'name = "half"\ntargets = ["rpi5"]\nprecision = ["fp32", "fp16"]\n')
    assert plan.version == "1.2"
    names = [cell.options.name for cell in plan.cells]
    assert names == ["net-rpi4", "net-rpi5", "half-rpi5", "half-rpi5-fp16"]
    assert plan.cells[0].options.shape == ("x=1,3",)
    assert plan.cells[0].model == tmp_path / "net.onnx"
    assert [cell.options.precision for cell in plan.cells] == ["fp32", "fp32", "fp32", "fp16"]


def test_bundles_are_one_a_board_or_one_for_all_boards_of_a_model(tmp_path: Path) -> None:
    def bundles(text: str, targets: tuple[str, ...] = ()) -> dict[str, list[str]]:
        (tmp_path / "tvmbuild.toml").write_text(text)
        plan = read_plan(tmp_path, targets=targets)
        assert [cell for bundle in plan.bundles for cell in bundle.cells] == list(plan.cells)
        return {bundle.name: [cell.options.name for cell in bundle.cells] for bundle in plan.bundles}

    boards = '[release]\ntargets = ["rpi4", "rpi5"]\n'
    assert bundles(boards + MODEL) == {"net-rpi4": ["net-rpi4"], "net-rpi5": ["net-rpi5"]}
    assert bundles(boards + 'bundles = "combined"\n' + MODEL) == {"net": ["net-rpi4", "net-rpi5"]}
    half = 'name = "half"\ntargets = ["rpi5"]\nprecision = ["fp32", "fp16"]\nbundles = "combined"\n'
    assert bundles(boards + MODEL + MODEL + half) == {
        "net-rpi4": ["net-rpi4"],
        "net-rpi5": ["net-rpi5"],
        "half": ["half-rpi5"],
        "half-fp16": ["half-rpi5-fp16"],
    }
    assert bundles(boards + MODEL + 'targets = ["rpi5"]\n', ("rpi3", "rpi4")) == {"net": ["net-rpi3", "net-rpi4"]}


def test_int8_models_that_differ_are_published_under_the_artifacts_names(tmp_path: Path) -> None:
    def made(name: str, content: str) -> Any:
        (tmp_path / name).mkdir()
        (tmp_path / name / "net.int8.onnx").write_text(content)
        return SimpleNamespace(manifest=SimpleNamespace(name=name), files=(tmp_path / name / "net.int8.onnx",))

    a, b, c = made("net-a", "1"), made("net-b", "1"), made("net-c", "2")
    assert [name for name, _ in _named([a, b])] == ["net.int8.onnx", "net.int8.onnx"]
    assert [name for name, _ in _named([a, b, c])] == ["net-a.onnx", "net-b.onnx", "net-c.onnx"]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        ("", OptionError, "no \\[release\\] table"),
        ("[release]\nversion = '1'\n", OptionError, "no models"),
        ("[release]\nverson = '1'\n" + MODEL, OptionError, "unknown key 'verson'"),
        ("[release]\nversion = 1\n" + MODEL, OptionError, "must be a text"),
        ("[release]\nversion = '../1'\n" + MODEL, OptionError, "cannot be part"),
        ("[release]\ntargets = ['rpi44']\n" + MODEL, TargetError, "rpi44"),
        ("[release]\nprecision = ['fp8']\n" + MODEL, OptionError, "no precision 'fp8'"),
        ("[release]\nprecision = ['int8']\n" + MODEL, OptionError, "no samples"),
        ("[release]\n" + MODEL + MODEL, OptionError, "called net-rpi4"),
        ("[release]\n[[release.models]]\nname = 'x'\n", OptionError, "'models.0.' lacks path"),
        ("[release]\nmodels = ['net.onnx']\n", OptionError, "must be a table"),
        ("[release]\ntargets = [4]\n" + MODEL, OptionError, "'targets.0.' must be a text"),
        ("[release]\nprecision = [['fp32']]\n" + MODEL, OptionError, "must be a text"),
        ("[release]\ntargets = []\n" + MODEL, OptionError, "'targets' must be a list of length >= 1"),
        ("[release]\n" + MODEL + "precision = []\n", OptionError, "'models.0..precision' must be a list"),
        ("[release]\n" + MODEL + "tolerance = nan\n", OptionError, "tolerance"),
        ("[release]\n" + MODEL + "tolerance = -1\n", OptionError, "tolerance"),
        ("[release]\n" + MODEL + "license = 'none'\n", OptionError, "licence .*none"),
        ("[release]\n" + MODEL + f"name = '{'x' * 70}'\n", OptionError, "longer than"),
        (f"[release]\nversion = '{'1' * 80}'\n" + MODEL, OptionError, "longer than"),
        ("[release]\nbundles = 'combine'\n" + MODEL, OptionError, "no bundles 'combine'"),
        (
            "[release]\ntargets = ['rpi4']\n" + MODEL + MODEL + "name = 'net-rpi4'\nbundles = 'combined'\n",
            OptionError,
            "Two bundles of the release are called net-rpi4",
        ),
    ],
)
def test_a_wrong_plan_is_refused(tmp_path: Path, text: str, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        plan_of(tmp_path, text)


def test_an_int8_cell_depends_on_the_contents_of_its_files_and_not_on_their_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cell, "find_toolchain", lambda *_: Toolchain("gnu", (), (), "gcc", False))
    text = '[release]\nprecision = ["int8"]\n[quantize]\ntable = "net.table"\nimages = "recipe.toml"\n'
    inputs = []
    for place, table, recipe in (("a", "1", "2"), ("b", "1", "2"), ("c", "other", "2"), ("d", "1", "other")):
        folder = tmp_path / place
        (folder / "samples").mkdir(parents=True)
        (folder / "net.table").write_text(table)
        (folder / "recipe.toml").write_text(recipe)
        onnx.save(model([helper.make_node("Relu", ["x"], ["y"])], {"x": (1, 3)}, ["y"]), folder / "net.onnx")
        inputs.append(cell.build_inputs(plan_of(folder, text + MODEL + 'calibrate = "samples"\n').cells[0]))
    assert inputs[0] == inputs[1]
    assert [key for key in inputs[0] if inputs[0][key] != inputs[2][key]] == ["the files of [quantize]"]
    assert [key for key in inputs[0] if inputs[0][key] != inputs[3][key]] == ["the files of [quantize]"]


@pytest.mark.parametrize("name", ["run.sh", "example.py", "example.c", "tvmbuild_model.h", "README.txt"])
def test_templates_are_filled_whole(name: str) -> None:
    manifest = dataclasses.replace(MANIFEST, target={"name": "rpi4", "triple": "aarch64-linux-gnu"})
    text = fill(name, "net", [manifest], "1.0")
    assert "@NAME@" not in text
    if name == "example.py":
        compile(text, name, "exec")
        assert len(text.splitlines()) <= 20
    if name == "example.c":
        assert "static int64_t shape_0[] = {1, 3, 8, 8};" in text
        assert ".ndim = 0, .dtype = {kDLInt, 64, 1}" in text


@pytest.mark.subprocess
def test_run_sh_is_a_shell_script(tmp_path: Path) -> None:
    manifest = dataclasses.replace(MANIFEST, target={"triple": "aarch64-linux-gnu"})
    (tmp_path / "run.sh").write_text(fill("run.sh", "net", [manifest], "1.0"))
    subprocess.run(["sh", "-n", str(tmp_path / "run.sh")], check=True)


def test_numbers_that_the_board_reads_have_no_exponent() -> None:
    assert [_decimal(value) for value in (1e-4, 0.0, 2e-2, 1.0)] == ["0.0001", "0", "0.02", "1"]


def test_keys_sign_and_refuse(tmp_path: Path) -> None:
    private, public = new_keys(tmp_path / "k")
    _, other = new_keys(tmp_path / "o")
    assert private.stat().st_mode & 0o777 == 0o600
    with pytest.raises(OptionError, match="there already"):
        new_keys(tmp_path / "k")
    signed, signature = tmp_path / "SHA256SUMS", tmp_path / "SHA256SUMS.sig"
    signed.write_bytes(b"sums")
    signature.write_bytes(load_signer(private).sign(b"sums"))
    check_signature(signed, signature, public)
    with pytest.raises(ArtifactError, match="not a signature"):
        check_signature(signed, signature, other)
    signed.write_bytes(b"Sums")
    with pytest.raises(ArtifactError, match="not a signature"):
        check_signature(signed, signature, public)
    with pytest.raises(ArtifactError, match="not signed"):
        check_signature(signed, tmp_path / "none", public)
    for wrong in (public, tmp_path / "none", signed):
        with pytest.raises(OptionError):
            load_signer(wrong)
    with pytest.raises(OptionError, match="cannot be read"):
        check_signature(signed, signature, signed)


@pytest.mark.parametrize("step", [1, 2, 3, 4])
def test_keys_for_which_the_disk_has_no_room_are_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    count, fsync = itertools.count(1), os.fsync

    def full(descriptor: int) -> None:
        if next(count) == step and step < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        fsync(descriptor)

    def moved(source: Path, target: Path) -> Path:
        if next(moves) == step - 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        return replace(source, target)

    moves, replace = itertools.count(1), Path.replace
    monkeypatch.setattr(os, "fsync", full)
    monkeypatch.setattr(Path, "replace", moved)
    with pytest.raises(OutputError, match="Nothing in it was changed"):
        new_keys(tmp_path)
    assert list(tmp_path.iterdir()) == []
    monkeypatch.undo()
    private, public = new_keys(tmp_path)
    assert load_signer(private).verifier().accepts(b"x", load_signer(private).sign(b"x"))
    assert public.exists()
    public.unlink()
    with pytest.raises(OptionError, match=r"without release\.pub") as refused:
        new_keys(tmp_path)
    assert "openssl pkey" in refused.value.hint


def test_a_depfile_is_as_make_reads_it() -> None:
    text = depfile_text([Path("d/x.so")], [Path("a b.onnx"), Path("c$#.toml"), Path("a b.onnx")])
    assert text == "d/x.so: a\\ b.onnx c$$\\#.toml\na\\ b.onnx:\nc$$\\#.toml:\n"


def test_source_date_epoch() -> None:
    assert source_date_epoch({}) == 0
    assert source_date_epoch({"SOURCE_DATE_EPOCH": "1700000000"}) == 1700000000
    for wrong in ("yesterday", "-1", "99999999999"):
        with pytest.raises(OptionError, match="SOURCE_DATE_EPOCH"):
            source_date_epoch({"SOURCE_DATE_EPOCH": wrong})


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / "1.npy").write_text("")

    def refuse(path: Path) -> str:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(cell, "sha256_of", refuse)
    with pytest.raises(InputDataError, match=r"samples/1\.npy cannot be read: Permission denied"):
        cell.tree_digest(tmp_path / "samples")


def test_junit_counts_what_failed_and_escapes_names() -> None:
    spec = TensorSpec('<out & "1">', "float32", (1,))
    outputs = [
        {"spec": dataclasses.asdict(spec), "relative": 1e-7, "tolerance": 1e-4, "passed": True},
        {"spec": dataclasses.asdict(spec), "relative": 1e-1, "tolerance": 1e-4, "passed": False},
    ]
    suite = ElementTree.fromstring(junit_text([("net", {"outputs": outputs, "device": "emulated"})]))[0]
    assert (suite.get("tests"), suite.get("failures")) == ("2", "1")
    assert suite[0].get("name") == '<out & "1"> is as ONNX Runtime\'s'
    assert suite[1].find("failure") is not None


def test_notes_compare_with_the_last_release() -> None:
    one = {
        "name": "net-rpi4",
        "board": "Pi",
        "library_bytes": 1_100_000,
        "library_bytes_before": 1_000_000,
        "same_library": False,
        "kernels": 4,
        "fused_kernels": 2,
        "int8_share": 0.5,
        "largest_difference": 8e-7,
    }
    bundle = {"file": "net-2.tar.gz", "targets": ["rpi3", "rpi4"], "bytes": 7e6}
    text = notes({"version": "2", "last_version": "1", "cells": [one], "bundles": [bundle]})
    assert "Compared with 1." in text
    assert "| net-rpi4 | Pi | 1.10 MB (+10.0%) | 4 | 2 | 50% | 8e-07 |" in text
    assert "| net-2.tar.gz | rpi3, rpi4 | 7.00 MB |" in text


def test_a_report_that_is_none_is_refused(tmp_path: Path) -> None:
    cells: list[Any] = [1, [1], [{}], [{"name": 1}], [{"name": "net-rpi4", "library_bytes": "many"}]]
    for content in ("", "[]", "{}", *(json.dumps({"format": "tvmbuild-release", "cells": each}) for each in cells)):
        (tmp_path / "x").write_text(content)
        with pytest.raises(ArtifactError):
            read_report(tmp_path / "x")


def test_differences_are_shown_member_by_member(tmp_path: Path) -> None:
    import tarfile

    for name, text in (("a", "1"), ("b", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "notes.md").write_text(text)
        (tmp_path / name / "same").write_text("same")
        with tarfile.open(tmp_path / name / "x.tar", "w") as archive:
            archive.add(tmp_path / name / "notes.md", "n")
            archive.add(tmp_path / "a" / "same", "s", filter=lambda m: m.replace(mtime=0, deep=False))
    (tmp_path / "b" / "more").write_text("")
    assert compare_folders(tmp_path / "a", tmp_path / "b") == [
        "more is in one of them only",
        "notes.md",
        "x.tar (n)",
    ]


def test_a_project_keeps_the_files_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "Makefile").write_text("mine")
    assert tmp_path / "tvmbuild.toml" in write_project(tmp_path, "nets/net.onnx", ["rpi4"], ["x=1"])
    assert (tmp_path / "Makefile").read_text() == "mine"
    with pytest.raises(OptionError, match="Makefile"):
        write_project(tmp_path, "my nets/net.onnx", ["rpi4"], [])


RECIPES = (".github/workflows/models.yml", ".gitlab-ci.yml")


def test_the_recipes_install_what_they_are_told(tmp_path: Path) -> None:
    """tvmbuild is on no index: "pip install tvmbuild" would install a stranger's package of that name, or none."""
    write_project(tmp_path, "net.onnx", ["rpi4"], [], source="git+https://example.org/you/tvmbuild@v1")
    for place in RECIPES:
        text = (tmp_path / place).read_text()
        assert "pip install tvmbuild" not in text
        assert 'TVMBUILD_SOURCE: "git+https://example.org/you/tvmbuild@v1"' in text
        assert 'pip install "$TVMBUILD_SOURCE"' in text


def test_one_job_may_publish_and_no_other_may_write(tmp_path: Path) -> None:
    write_project(tmp_path, "net.onnx", ["rpi4"], [])
    recipe = yaml.safe_load((tmp_path / RECIPES[0]).read_text())
    assert recipe["permissions"] == {"contents": "read"}
    writing = {name: job for name, job in recipe["jobs"].items() if "permissions" in job}
    assert {name: job["permissions"] for name, job in writing.items()} == {"publish": {"contents": "write"}}
    publishing = writing["publish"]["steps"][-1]
    assert "gh release create" in publishing["run"]
    assert "gh release create" not in str(recipe["jobs"]["models"])
    # gh finds the repository by a checkout, which this job has not, or by this.
    assert publishing["env"]["GH_REPO"] == "${{ github.repository }}"


@pytest.mark.subprocess
def test_a_recipe_that_knows_no_source_says_so(tmp_path: Path) -> None:
    write_project(tmp_path, "net.onnx", ["rpi4"], [])
    github, gitlab = (yaml.safe_load((tmp_path / place).read_text()) for place in RECIPES)
    scripts = [step["run"] for job in github["jobs"].values() for step in job["steps"] if "run" in step]
    scripts += [*gitlab["models"]["before_script"], *gitlab["models"]["script"]]
    for script in scripts:
        subprocess.run(["sh", "-n", "-c", script], check=True)
    for script in (script for script in scripts if "pip install" in script):
        environment = {"TVMBUILD_SOURCE": "", "PATH": "/usr/bin:/bin"}
        done = subprocess.run(["sh", "-e", "-c", script], env=environment, capture_output=True, text=True)
        assert (done.returncode, "say in this file what to install" in done.stderr) == (1, True)


@pytest.mark.parametrize(
    ("record", "source"),
    [
        (
            {"url": "https://x/t", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "git+https://x/t@c0ffee",
        ),
        ({"url": "https://x/t.whl", "archive_info": {}}, "https://x/t.whl"),
        ({"url": "https://me:secret@x/t.whl", "archive_info": {}}, ""),
        ({"url": "file:///home/me/t", "dir_info": {"editable": True}}, ""),
        ({"url": 1}, ""),
        ([], ""),
    ],
)
def test_where_tvmbuild_came_from(record: Any, source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = SimpleNamespace(read_text=lambda _: json.dumps(record))
    monkeypatch.setattr("tvmbuild.support.versions.metadata.distribution", lambda _: found)
    assert installed_from() == source


def test_the_next_step_after_a_bundle_is_the_board(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    packed = tmp_path / "my net-1.0.tar.gz"
    packed.write_text("")
    (tmp_path / "net-1.0").mkdir()
    next_on_board(Console(), packed)
    next_on_board(Console(), tmp_path / "net-1.0")
    said = capsys.readouterr().out.splitlines()
    assert shlex.split(said[0]) == ["next:", "scp", str(packed), "pi@raspberrypi.local:"]
    unpack = "tar xzf 'my net-1.0.tar.gz' && cd 'my net-1.0' && ./run.sh --selftest"
    assert shlex.split(said[1]) == ["then:", "ssh", "pi@raspberrypi.local", unpack]
    assert shlex.split(said[2]) == ["next:", "scp", "-r", str(tmp_path / "net-1.0"), "pi@raspberrypi.local:"]
    assert shlex.split(said[3])[-1] == "cd net-1.0 && ./run.sh --selftest"


def test_a_project_of_a_model_that_is_there_can_build(tmp_path: Path) -> None:
    """The batch is written down; what else is open is asked for, before a file is written."""
    node = helper.make_node("Relu", ["x"], ["y"])
    onnx.save(model([node], {"x": ["n", 3, 8]}, ["y"]), tmp_path / "net.onnx")
    write_project(tmp_path, "net.onnx", ["rpi4"], [])
    assert read_plan(tmp_path).cells[0].options.shape == ("x=1,3,8",)
    assert read_project_file("build", tmp_path)["shape"] == ["x=1,3,8"]
    (tmp_path / "new").mkdir()
    onnx.save(model([node], {"x": ["n", 3, "w"]}, ["y"]), tmp_path / "open.onnx")
    with pytest.raises(ShapeError, match="x") as caught:
        write_project(tmp_path / "new", "../open.onnx", ["rpi4"], [])
    assert "--shape x=" in caught.value.hint
    with pytest.raises(ShapeError, match="no input 'z'"):
        write_project(tmp_path / "new", "../open.onnx", ["rpi4"], ["z=1"])
    assert not list((tmp_path / "new").iterdir())


def test_a_project_of_a_model_that_cannot_be_built_is_refused(tmp_path: Path) -> None:
    onnx.save(model([helper.make_node("Det", ["x"], ["y"])], {"x": [3, 3]}, ["y"]), tmp_path / "net.onnx")
    with pytest.raises(UnsupportedOperatorError, match="Det"):
        write_project(tmp_path, "net.onnx", ["rpi4"], [])
    assert sorted(tmp_path.iterdir()) == [tmp_path / "net.onnx"]


def test_a_project_keeps_frozen_inputs(tmp_path: Path) -> None:
    onnx.save(model([helper.make_node("Add", ["x", "k"], ["y"])], {"x": [1, 3], "k": []}, ["y"]), tmp_path / "net.onnx")
    write_project(tmp_path, "net.onnx", ["rpi4"], [], frozen=["k=2"])
    assert read_plan(tmp_path).cells[0].options.value == ("k=2",)
