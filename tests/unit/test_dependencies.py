from __future__ import annotations

import os
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tvmbuild.artifact.dependencies import Dependencies, build_dependencies
from tvmbuild.artifact.depfile import depfile_text
from tvmbuild.support.options import BuildOptions, QuantizeOptions
from tvmbuild.support.precision import Precision
from tvmbuild.target.target import targets_folder


@pytest.fixture
def model(in_empty_folder: Path) -> Path:
    """A model with its weight in a file of its own, given by a path relative to the working folder."""
    weight = numpy_helper.from_array(np.ones((400, 4), "float32"), "w")
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 400])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "net", [x], [y], [weight])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path = in_empty_folder / "models" / "net.onnx"
    path.parent.mkdir()
    onnx.save(proto, path, save_as_external_data=True, location="net.data")
    return path.relative_to(in_empty_folder)


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text("")


def present(found: Dependencies) -> set[str]:
    return {str(path) for path in found.present}


def test_a_build_depends_on_model_weights_target_project_and_records(model: Path) -> None:
    write("tvmbuild.toml", "tuning_logs/rpi4/board/records.jsonl", "tuning_logs/rpi5/board/records.jsonl")
    expected = {
        "models/net.onnx",
        "models/net.data",
        str(targets_folder() / "rpi4.toml"),
        "tvmbuild.toml",
        "tuning_logs/rpi4",
        "tuning_logs/rpi4/board",
        "tuning_logs/rpi4/board/records.jsonl",
    }
    assert present(build_dependencies(model, BuildOptions())) == expected
    without = build_dependencies(model, BuildOptions(use_records=False))
    assert present(without) == {name for name in expected if "tuning" not in name}


def test_a_board_of_ones_own_has_records_by_its_name(model: Path) -> None:
    write("boards/mine.toml", "tuning_logs/mine/board/board.json")
    found = present(build_dependencies(model, BuildOptions(target="boards/mine.toml")))
    assert {"boards/mine.toml", "tuning_logs/mine/board/board.json"} <= found


def test_an_int8_build_depends_on_samples_table_recipe_and_metric(model: Path) -> None:
    write("photos/cats/1.png", "photos/2.npy", "net.table", "recipe.toml", "mymetric.py", "labels.txt")
    quantization = QuantizeOptions(table=Path("net.table"), images="recipe.toml", metric="mymetric:top1")
    options = BuildOptions(precision=Precision.INT8, calibrate=Path("photos"))
    found = present(build_dependencies(model, options, quantization))
    samples = {"photos", "photos/cats", "photos/cats/1.png", "photos/2.npy"}
    assert samples | {"models/net.data", "net.table", "recipe.toml", "mymetric.py"} <= found
    assert not present(build_dependencies(model, options)) & samples
    command = QuantizeOptions(metric="python3 mymetric.py --labels labels.txt")
    single = BuildOptions(precision=Precision.INT8, calibrate=Path("photos/2.npy"))
    found = present(build_dependencies(model, single, command))
    assert {"photos/2.npy", "mymetric.py", "labels.txt"} <= found
    assert "photos/cats/1.png" not in found


def test_what_is_not_there_is_named_apart(model: Path) -> None:
    """Make would take a name that does not exist for one that just changed, and build each time."""
    quantization = QuantizeOptions(table=Path("none.table"), images="imagenet", metric="mine.metric:mean")
    found = build_dependencies(model, BuildOptions(precision=Precision.INT8), quantization)
    assert all(path.exists() for path in found.present)
    absent = {"tvmbuild.toml", "tuning_logs/rpi4", "none.table", "mine/metric.py", "mine/metric/__init__.py"}
    assert {str(path) for path in found.absent} == absent
    assert {str(path) for path in build_dependencies(model, BuildOptions(use_records=False)).absent} == {
        "tvmbuild.toml"
    }


@pytest.mark.subprocess
@pytest.mark.parametrize("name", ["tvmbuild.toml", "logs/rpi4", "a b#c$d(e).toml"])
def test_make_builds_again_when_something_appears(name: str, in_empty_folder: Path) -> None:
    """However old the file is that appears; and once only, since the next depfile lists it."""
    write("net.onnx")
    Path("Makefile").write_text("net.so:\n\ttouch $@\n\techo built\n-include net.d\n")

    def make() -> bool:
        done = subprocess.run(["make", "net.so"], capture_output=True, text=True, check=True)
        inputs = [Path("net.onnx"), Path(name)]
        there = [path for path in inputs if path.exists()]
        text = depfile_text([Path("net.so")], there, [path for path in inputs if path not in there])
        Path("net.d").write_text(text)
        return "built" in done.stdout

    assert [make(), make(), make()] == [True, False, False]
    write(name)
    os.utime(name, (0, 0))
    assert [make(), make()] == [True, False]
    Path(name).unlink()
    assert [make(), make()] == [True, False]
