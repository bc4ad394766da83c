"""The wheel holds all that building a model takes: boards, C++ sources, presets, templates."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import model

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return how to start a tvmbuild that was installed from its wheel into an environment of its own.

    Its dependencies are those of this environment, found by a path that does not bring the checkout in.
    """
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(build, cwd=TOP, check=True, capture_output=True)
    venv.create(folder / "venv", with_pip=False)
    (wheel,) = folder.glob("*.whl")
    python = folder / "venv" / "bin" / "python"
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    return [str(python), "-m", "tvmbuild"]


def run(program: list[str], folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    environment |= {"PYTHONPATH": sysconfig.get_paths()["purelib"]}
    done = subprocess.run([*program, *arguments], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_model_is_built_verified_and_bundled_by_the_wheel_alone(program: list[str], tmp_path: Path) -> None:
    where = "import tvmbuild; print(tvmbuild.__file__)"
    python = [program[0], "-c", where]
    assert str(TOP) not in run(python, tmp_path)
    weights = np.random.default_rng(0).normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    onnx.save(model(nodes, {"x": ["n", 3, 12, 12]}, ["y"], {"w": weights}), tmp_path / "net.onnx")
    assert "rpi4" in run(program, tmp_path, "targets")
    run(program, tmp_path, "init", "net.onnx", "-o", "project")
    run(program, tmp_path, "build", "net.onnx", "-t", "rpi4")
    run(program, tmp_path, "verify", "dist/net-rpi4.so", "--model", "net.onnx")
    run(program, tmp_path, "bundle", "dist/net-rpi4.so", "--version", "1")
    assert (tmp_path / "dist" / "net-rpi4-1.tar.gz").is_file()
