"""The public Python functions, as a program would use them."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
from onnx import helper
from onnx_models import model

import tvmbuild


@pytest.fixture
def network(tmp_path: Path) -> Path:
    path = tmp_path / "net.onnx"
    onnx.save(model([helper.make_node("Relu", ["x"], ["y"])], {"x": ["n", 3]}, ["y"]), path)
    return path


@pytest.mark.subprocess
def test_importing_the_package_sets_no_variable_and_imports_nothing_else() -> None:
    code = (
        "import os, sys; before = dict(os.environ); import tvmbuild; assert dict(os.environ) == before; "
        "heavy = {'tvm', 'onnx', 'numpy', 'typer', 'msgspec'} & sys.modules.keys(); assert not heavy, heavy; "
        "tvmbuild.targets; assert dict(os.environ) == before"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=dict(os.environ))


@pytest.mark.parametrize("name", tvmbuild.__all__)
def test_every_public_name_is_there_and_described(name: str) -> None:
    value = getattr(tvmbuild, name)
    assert name in dir(tvmbuild)
    assert isinstance(value, str) or inspect.getdoc(value)


def test_what_is_not_listed_is_not_there() -> None:
    with pytest.raises(AttributeError, match="nothing_of_this_name"):
        tvmbuild.nothing_of_this_name  # noqa: B018


def test_the_boards_are_listed() -> None:
    assert "rpi4" in [target.name for target in tvmbuild.targets()]


def test_a_model_is_looked_at(network: Path) -> None:
    found = tvmbuild.inspect(network, "rpi5")
    assert found.operators == {"Relu": 1}
    assert found.graph is not None
    assert any("taken as 1" in note for note in found.notes)
    with pytest.raises(tvmbuild.TvmbuildError, match="does not exist"):
        tvmbuild.inspect("absent.onnx")


def test_an_unknown_or_wrong_option_is_named(network: Path) -> None:
    with pytest.raises(tvmbuild.errors.OptionError, match="no option 'shapes'") as caught:
        tvmbuild.build(network, shapes=["x=1,3"])
    assert "shape" in caught.value.hint
    with pytest.raises(tvmbuild.errors.OptionError, match="seed must be"):
        tvmbuild.build(network, seed=2.7)
    with pytest.raises(tvmbuild.errors.OptionError, match="int8=True"):
        tvmbuild.build(network, quantization={"budget": "sqnr>=30"})
    with pytest.raises(tvmbuild.errors.TargetError, match="rpi44"):
        tvmbuild.build(network, "rpi44")


def test_the_environment_and_the_project_file_do_not_speak(
    network: Path, monkeypatch: pytest.MonkeyPatch, in_empty_folder: Path
) -> None:
    monkeypatch.setenv("TVMBUILD_SEED", "nonsense")
    Path("tvmbuild.toml").write_text("nonsense")
    assert tvmbuild.inspect(network).refusal is None


def test_the_version_is_that_of_the_distribution() -> None:
    pyproject = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert f'version = "{tvmbuild.__version__}"' in pyproject
