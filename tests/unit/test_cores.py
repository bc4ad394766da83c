"""The table of cores: every board's core is in it, and C++ has the same table."""

from __future__ import annotations

import dataclasses

import onnx
import pytest
from onnx import helper
from onnx_models import model

from tvmbuild.device.fleet.fit import require_fit
from tvmbuild.inspection import inspect_model
from tvmbuild.support.errors import BoardMismatchError, TargetError
from tvmbuild.support.place import NATIVE
from tvmbuild.target import cores
from tvmbuild.target.target import known_targets, load_target, predicted_core

BOARDS = [name for name in known_targets() if load_target(name).cpu.startswith("cortex-")]


@pytest.mark.parametrize("name", BOARDS)
def test_the_core_of_every_board_has_a_row_and_a_prediction(name):
    target = load_target(name)
    assert target.core.llvm_cpu == target.cpu
    assert target.stand_in == ""
    assert predicted_core(target) is target.core


def test_the_header_of_the_programs_on_boards_is_up_to_date():
    assert (NATIVE / "common" / "cores.h").read_text(encoding="utf-8") == cores.header()


def test_part_numbers_and_names_are_distinct():
    parts = [core.part for core in cores.CORES.values()]
    assert len(set(parts)) == len(parts) == len({core.name for core in cores.CORES.values()})


@pytest.mark.parametrize(
    ("features", "nearest", "why"),
    [(("neon",), "Cortex-A72", "lack"), (("neon", "dotprod"), "Cortex-A76", "have")],
)
def test_an_unknown_core_is_scheduled_as_the_nearest_one_and_says_so(features, nearest, why):
    target = dataclasses.replace(load_target("rpi4"), cpu="cortex-a710", features=features)
    assert target.core.name == nearest
    assert "cortex-a710" in target.stand_in
    assert nearest in target.stand_in
    assert why in target.stand_in


def test_features_that_the_core_lacks_are_refused(tmp_path):
    path = tmp_path / "wrong.toml"
    body = 'triple = "aarch64-linux-gnu"\ncpu = "cortex-a72"\nfeatures = ["neon", "dotprod"]\ncores = 4\n'
    path.write_text(body + 'l1d_kib = 32\nl2_kib = 1024\nglibc = "2.31"\n')
    with pytest.raises(TargetError, match="dotprod, which a Cortex-A72 does not have"):
        load_target(str(path))


def test_a_board_of_another_known_core_is_refused():
    told = {"machine": "aarch64", "core": "neoverse-n1"}
    with pytest.raises(BoardMismatchError, match="neoverse-n1"):
        require_fit(told, load_target("rpi4"), "b")
    require_fit({**told, "core": "cortex-a72"}, load_target("rpi4"), "b")
    require_fit(told, load_target("generic-aarch64"), "b")
    require_fit({**told, "core": "Some core"}, load_target("rpi4"), "b")


def test_what_stands_in_for_a_core_is_said_of_a_model(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1, 3]}, ["y"]), path)
    unknown = dataclasses.replace(load_target("rpi4"), cpu="cortex-a710")
    assert unknown.stand_in in inspect_model(path, (), (), unknown).notes
    assert not any("table of cores" in note for note in inspect_model(path, (), (), load_target("rpi4")).notes)
