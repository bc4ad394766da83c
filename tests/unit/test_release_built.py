"""What ``build`` made is what a release verifies and packs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from onnx import helper
from onnx_models import model, saved
from test_artifact import MANIFEST

from tvmbuild.artifact.build_store import BuildStore
from tvmbuild.artifact.manifest import file_entry
from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.releases import cell
from tvmbuild.releases.built import keep_build, take_build
from tvmbuild.releases.plan import read_plan
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.precision import Precision

INPUTS = {"the model": "1"}


@pytest.fixture(autouse=True)
def _own_folder(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_empty_folder / "cache"))


def result(folder: Path) -> Any:
    folder.mkdir()
    for name in ("net.so", "net.tar", "net.json"):
        (folder / name).write_text(name)
    files = tuple(file_entry(folder / name) for name in ("net.so", "net.tar"))
    manifest = dataclasses.replace(MANIFEST, name="net", files=files)
    return SimpleNamespace(manifest=manifest, folder=folder, quantized=None)


def taken(inputs: dict[str, str], folder: Path) -> bool:
    folder.mkdir()
    with BuildStore() as store:
        return take_build(inputs, store, folder)


def test_a_kept_build_is_found_by_all_that_it_depends_on() -> None:
    keep_build(INPUTS, result(Path("dist")))
    assert taken(INPUTS, Path("a"))
    assert sorted(path.name for path in Path("a").iterdir()) == ["net.json", "net.so", "net.tar"]
    assert not taken({"the model": "2"}, Path("b"))
    assert not list(Path("b").iterdir())


def test_files_that_changed_meanwhile_are_not_kept() -> None:
    changed = result(Path("dist"))
    Path("dist/net.so").write_text("another")
    keep_build(INPUTS, changed)
    assert not taken(INPUTS, Path("a"))


def test_a_cache_that_cannot_be_written_fails_no_build(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", "file")
    keep_build(INPUTS, result(Path("dist")))
    monkeypatch.setenv("TVMBUILD_CACHE_SIZE", "much")
    keep_build(INPUTS, result(Path("dist2")))


def test_a_release_asks_for_what_the_makefile_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cell, "find_toolchain", lambda *_: Toolchain("gnu", (), (), "gcc", False))
    saved(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]}, ["y"]), Path(), "net.onnx")
    Path("tvmbuild.toml").write_text('[release]\n[[release.models]]\npath = "net.onnx"\nshape = ["x=1,3"]\n')
    (planned,) = read_plan(Path()).cells

    def inputs(options: BuildOptions) -> dict[str, str]:
        return cell.artifact_inputs(Path("net.onnx"), planned.target, options, None)

    asked = cell.artifact_inputs(planned.model, planned.target, planned.options, planned.quantization)
    assert asked == inputs(BuildOptions(shape=("x=1,3",), name="net-rpi4", output=Path("elsewhere"), seed=3))
    for other in ({"precision": Precision.FP16}, {"shape": ()}, {"use_records": False}, {"name": "net"}):
        options = dataclasses.replace(BuildOptions(shape=("x=1,3",), name="net-rpi4"), **other)
        assert inputs(options) != asked
