"""What can be refused at once is refused before anything that takes minutes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_models import model, saved
from test_artifact import MANIFEST

from tvmbuild import pipeline
from tvmbuild.artifact.build_store import BuildStore
from tvmbuild.artifact.open import Artifact
from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.commands.app import run
from tvmbuild.quantization import quantize_model
from tvmbuild.releases import bundle, cell
from tvmbuild.releases.plan import read_plan
from tvmbuild.support import errors
from tvmbuild.support.atomic.staging import check_writable
from tvmbuild.target.target import load_target

SHAPE = (1, 3, 8, 8)


def reached(*_arguments: object, **_options: object) -> None:
    raise AssertionError("this takes minutes, and the check comes after it")


@pytest.fixture(autouse=True)
def _own_folder(in_empty_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_empty_folder / "cache"))
    (in_empty_folder / "samples").mkdir()
    for number in range(10):
        sample = np.random.default_rng(number).standard_normal(SHAPE).astype(np.float32)
        np.save(in_empty_folder / "samples" / f"{number}.npy", sample)
    weights = {"w": np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)}
    nodes = [helper.make_node("Conv", ["x", "w"], ["y"], name="conv", kernel_shape=[3, 3])]
    saved(model(nodes, {"x": ["n", *SHAPE[1:]]}, ["y"], weights), in_empty_folder, "net.onnx")
    (in_empty_folder / "file").write_text("in the way")


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A toolchain, whatever this machine has."""
    for place in (pipeline, cell):
        monkeypatch.setattr(place, "find_toolchain", lambda *_: Toolchain("gnu", (), (), "gcc", False))


@pytest.mark.parametrize("int8", [[], ["--int8", "--calibrate", "samples"]])
@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--toolchain", "gcc"], errors.OptionError),
        (["--fp16"], errors.OptionError),
        (["-o", "file/dist"], errors.OutputError),
        (["--dump-ir", "file/ir"], errors.OutputError),
        (["--board", "none", "--records", "logs"], errors.RecordsError),
    ],
)
def test_build_checks_its_surroundings_first(
    int8: list[str],
    flags: list[str],
    error: type[errors.TvmbuildError],
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    if "--toolchain" not in flags:
        request.getfixturevalue("installed")
    for name in ("prepare", "quantize_model"):
        monkeypatch.setattr(pipeline, name, reached)
    assert run(["build", "net.onnx", "-t", "rpi4", *int8, *flags]) == error.exit_code
    assert not Path("dist").exists()


@pytest.mark.usefixtures("installed")
def test_a_failed_int8_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise errors.CompileError("refused")

    monkeypatch.setattr(pipeline, "compile_module", refuse)
    arguments = ["build", "net.onnx", "--int8", "--calibrate", "samples", "--force-int8"]
    assert run(arguments) == errors.CompileError.exit_code
    assert not Path("dist").exists()


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        (["--budget", "sqnr>>30"], errors.OptionError),
        (["--budget", "metric>=1"], errors.OptionError),
        (["--metric", "none:none"], errors.OptionError),
        (["--calibrate-mode", "entropy"], errors.OptionError),
        (["--weight-scale", "median"], errors.OptionError),
        (["--held-out", "1"], errors.OptionError),
        (["--calibrate", "none"], errors.CalibrationError),
        (["--table", "file/table"], errors.OutputError),
        (["-o", "file/net.onnx"], errors.OutputError),
        (["-o", "samples"], errors.OutputError),
        (["--report", "file/report.json"], errors.OutputError),
    ],
)
def test_quantize_checks_its_options_before_it_reads_the_model(
    flags: list[str], error: type[errors.TvmbuildError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tvmbuild.quantization.quantizer.open_float_model", reached)
    assert run(["quantize", "net.onnx", "--calibrate", "samples", *flags]) == error.exit_code


def test_layers_to_keep_are_looked_up_before_calibration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvmbuild.quantization.quantizer.calibrate_table", reached)
    with pytest.raises(errors.OptionError, match="No layer matches"):
        quantize_model("net.onnx", "samples", keep_fp32=("none*",))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ('path = "none.onnx"\n', errors.ModelError),
        ('path = "net.onnx"\nshape = ["z=1"]\n', errors.ShapeError),
        ('path = "net.onnx"\nprecision = ["fp16"]\n', errors.OptionError),
        ('path = "net.onnx"\nprecision = ["int8"]\ncalibrate = "none"\n', errors.CalibrationError),
    ],
)
def test_a_release_checks_its_last_model_before_it_builds_the_first(
    wrong: str, error: type[errors.TvmbuildError], monkeypatch: pytest.MonkeyPatch
) -> None:
    models = '[[release.models]]\npath = "net.onnx"\n[[release.models]]\nname = "last"\n'
    Path("tvmbuild.toml").write_text(f"[release]\n{models}{wrong}")
    monkeypatch.setattr("tvmbuild.releases.run.make_cell", reached)
    assert run(["release"]) == error.exit_code
    cell.check_cell(read_plan(Path()).cells[0])


def test_a_release_checks_its_folder_first(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("tvmbuild.toml").write_text('[release]\n[[release.models]]\npath = "net.onnx"\n')
    monkeypatch.setattr("tvmbuild.releases.run.check_cell", reached)
    assert run(["release", "-o", "file/dist"]) == errors.OutputError.exit_code


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["bundle", "net.so", "--model-license", "none"], errors.OptionError),
        (["bundle", "net.so", "--key", "none"], errors.OptionError),
        (["verify", "net.so", "--model", "net.onnx", "--junit", "file/net.xml"], errors.OutputError),
        (["bench", "net.so", "--against", "onnxruntime", "--model", "none"], errors.OptionError),
    ],
)
def test_other_files_are_looked_for_before_the_artifact_is_linked(
    arguments: list[str], error: type[errors.TvmbuildError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tvmbuild.artifact.open.open_artifact", reached)
    assert run(arguments) == error.exit_code


@pytest.mark.parametrize(
    ("folder", "name"), [(Path("file"), ""), (Path("file/below"), ""), (Path(), "samples"), (Path("x" * 300), "")]
)
def test_a_folder_that_cannot_be_written_is_found(folder: Path, name: str) -> None:
    with pytest.raises(errors.OutputError, match="cannot be written"):
        check_writable(folder, name)


def test_a_folder_that_can_be_written_stays_as_it_was() -> None:
    before = sorted(Path().rglob("*"))
    check_writable(Path("new/deep"), "net.so")
    check_writable(Path("samples"), "0.npy")
    assert sorted(Path().rglob("*")) == before


def test_a_bundle_asks_for_its_device_and_its_folder_before_it_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_arguments: object) -> None:
        raise errors.DeviceError("no emulator")

    monkeypatch.setattr(bundle, "_collected", reached)
    monkeypatch.setattr(bundle, "target_of", lambda _artifact: load_target("rpi4"))
    monkeypatch.setattr(bundle, "open_device", refuse)
    with pytest.raises(errors.DeviceError):
        bundle.write_bundle([Artifact(Path(), MANIFEST)], bundle.BundleOptions())
    with pytest.raises(errors.OutputError):
        bundle.write_bundle([Artifact(Path(), MANIFEST)], bundle.BundleOptions(output=Path("file/dist")))


@pytest.mark.usefixtures("installed")
def test_a_cell_looks_for_the_tools_of_its_prediction_before_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise errors.ToolchainError("no llvm-mca")

    Path("tvmbuild.toml").write_text('[release]\npredict = true\n[[release.models]]\npath = "net.onnx"\n')
    monkeypatch.setattr("tvmbuild.device.open_device", lambda *_: None)
    monkeypatch.setattr("tvmbuild.predict.llvm.find_llvm", refuse)
    monkeypatch.setattr("tvmbuild.releases.built.take_build", reached)
    with BuildStore() as store, pytest.raises(errors.ToolchainError):
        cell.make_cell(read_plan(Path()).cells[0], store)
