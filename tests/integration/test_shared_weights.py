"""Bundles for several boards: equal weights are stored once, and every way to load a library finds them."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import tvm
from elftools.elf.elffile import ELFFile
from onnx import helper
from onnx_models import model, saved
from test_bundle import run
from tvm import relax

from tvmbuild.artifact.open import Artifact, open_artifact
from tvmbuild.artifact.relink import extract_objects
from tvmbuild.codegen.elf import neighbours, read_elf
from tvmbuild.codegen.weight_object import OBJECT_NAME, SECTION, StoredWeight, stored_weights
from tvmbuild.commands.app import run as main
from tvmbuild.device import open_device
from tvmbuild.device.fleet.emulated_boards import EmulatedBoards
from tvmbuild.device.protocol import RunRequest
from tvmbuild.pipeline import build
from tvmbuild.releases import golden, shared_weights
from tvmbuild.releases.bundle import BundleOptions, write_bundle
from tvmbuild.support.errors import ArtifactError, OptionError, VerificationError
from tvmbuild.support.options import BuildOptions
from tvmbuild.target.target import load_target

BOARDS = ("rpi3", "rpi4", "rpi5")
X = np.random.default_rng(0).normal(size=(1, 64, 8, 8)).astype(np.float32)


@pytest.fixture(scope="module")
def net(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two convolutions: boards pack the weights of the first alike, those of the second, with one channel, not all."""
    rng = np.random.default_rng(0)
    weights = {
        "w1": rng.normal(0, 0.1, (64, 64, 3, 3)).astype(np.float32),
        "w2": rng.normal(0, 0.1, (520, 64, 1, 1)).astype(np.float32),
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "w2"], ["y"]),
    ]
    return saved(model(nodes, {"x": [1, 64, 8, 8]}, ["y"], weights), tmp_path_factory.mktemp("model"), "net.onnx")


def artifacts(net: Path, targets: Sequence[str], names: Sequence[str], folder: Path) -> list[Artifact]:
    for target, name in zip(targets, names, strict=True):
        build(net, load_target(target), BuildOptions(name=name, output=folder))
    return [open_artifact(folder / f"{name}.so") for name in names]


def unpacked(archive: Path) -> Path:
    with tarfile.open(archive) as plain:
        plain.extractall(archive.parent, filter="data")
    return archive.parent / archive.name.removesuffix(".tar.gz")


@pytest.fixture(scope="module")
def boards(net: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Artifact], Path]:
    """The model for three boards, and the unpacked bundle of them."""
    folder = tmp_path_factory.mktemp("boards")
    built = artifacts(net, BOARDS, [f"net-{name}" for name in BOARDS], folder / "dist")
    return built, unpacked(write_bundle(built, BundleOptions(name="net", version="1", output=folder)))


@pytest.fixture(scope="module")
def here(net: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked bundle of two libraries for this machine."""
    folder = tmp_path_factory.mktemp("here")
    built = artifacts(net, ("host", "host"), ("one", "two"), folder / "dist")
    return unpacked(write_bundle(built, BundleOptions(name="net", version="1", output=folder)))


def weights_of(artifact: Artifact, folder: Path) -> list[StoredWeight]:
    folder.mkdir()
    extract_objects(artifact.archive, folder)
    return stored_weights(folder / OBJECT_NAME)


def weight_bytes(library: Path) -> int:
    with library.open("rb") as stream:
        section = ELFFile(stream).get_section_by_name(SECTION)
        return int(section["sh_size"]) if section else 0


def test_each_weight_is_stored_once(boards: tuple[list[Artifact], Path], tmp_path: Path) -> None:
    built, bundle = boards
    weights = [weight for artifact in built for weight in weights_of(artifact, tmp_path / artifact.manifest.name)]
    distinct = sum({weight.digest: weight.bytes for weight in weights}.values())
    assert distinct < sum(weight.bytes for weight in weights)
    # All are multiples of 64 bytes, to which each is aligned.
    assert sum(map(weight_bytes, bundle.glob("*.so"))) == distinct
    assert list(bundle.glob("weights-*.so"))
    assert all(neighbours(artifact.library) == () for artifact in built)


@pytest.mark.parametrize("board", BOARDS)
def test_the_selftest_passes_on_each_core_with_the_library_for_it(
    board: str, boards: tuple[list[Artifact], Path]
) -> None:
    code, said = run(boards[1], "--selftest", cpu=load_target(board).qemu_cpu)
    assert code == 0, said
    assert f"; library net-{board}\n" in said


def test_shared_weights_are_mapped_and_never_written(boards: tuple[list[Artifact], Path]) -> None:
    for library in boards[1].glob("weights-*.so"):
        with library.open("rb") as stream:
            elf = ELFFile(stream)
            section = elf.get_section_by_name(SECTION)
            loaded = [part for part in elf.iter_segments("PT_LOAD") if part.section_in_segment(section)]
            assert [part["p_flags"] for part in loaded] == [4], "read, and nothing else"
        assert read_elf(library).needed == ()


def test_a_missing_library_of_weights_is_told(boards: tuple[list[Artifact], Path], tmp_path: Path) -> None:
    library = next(boards[1].glob("weights-*.so"))
    aside = library.rename(tmp_path / library.name)
    try:
        code, said = run(boards[1], "--selftest", cpu="cortex-a72")
        assert (code, f"{library.name} " in said) == (1, True), said
        assert main(["inspect", str(boards[1] / "net-rpi4.json")]) == ArtifactError.exit_code
    finally:
        aside.rename(library)


def test_a_bundle_for_several_boards_is_inspected_verified_and_predicted(
    boards: tuple[list[Artifact], Path], net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = str(boards[1].parent / "net-1.tar.gz")
    assert main(["inspect", archive]) == 0
    said = capsys.readouterr().out
    assert all(f"net-{board}: net.onnx for " in said for board in BOARDS)
    assert main(["inspect", archive, "--json"]) == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)["artifacts"]] == [f"net-{b}" for b in BOARDS]
    for path in (archive, str(boards[1])):
        assert main(["verify", path, "-t", "rpi5", "--model", str(net)]) == 0
    assert main(["verify", str(boards[1] / "net-rpi3.json"), "--model", str(net)]) == 0
    assert main(["bench", archive, "-t", "rpi4", "--predict"]) == 0
    capsys.readouterr()
    for flags, words in (([], "you named none"), (["-t", "host"], "not for host")):
        assert main(["verify", archive, *flags, "--model", str(net)]) == ArtifactError.exit_code
        told = capsys.readouterr().err
        assert words in told
        assert "Name one of them: -t rpi3" in told


def test_python_and_boards_behind_a_tracker_find_the_weights(here: Path) -> None:
    assert len(list(here.glob("weights-*.so"))) == 1
    assert [weight_bytes(here / f"{name}.so") for name in ("one", "two")] == [0, 0]
    expected = np.load(here / "golden" / "one" / "output_0.npy")
    given = np.load(here / "golden" / "input_0.npy")
    machine = relax.VirtualMachine(tvm.runtime.load_module(str(here / "one.so")), tvm.cpu())
    np.testing.assert_array_equal(machine["main"](tvm.runtime.tensor(given)).numpy(), expected)
    said = subprocess.run([sys.executable, str(here / "example.py")], check=True, capture_output=True, text=True).stdout
    assert "output 0: float32[1, 520, 8, 8], largest difference from the golden one 0.0e+00" in said
    target = load_target("host")
    with EmulatedBoards(target, native=True, log=here.parent / "boards.log") as found:
        device = open_device("rpc", target, tracker=found.tracker, key=found.key)
        np.testing.assert_array_equal(device.run(RunRequest(here / "two.so", [given])).outputs[0], expected)


def test_little_is_not_worth_a_file(net: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shared_weights, "_LEAST_BYTES", 1 << 30)
    built = artifacts(net, ("host", "host"), ("one", "two"), tmp_path / "dist")
    alone = unpacked(write_bundle(built, BundleOptions(name="net", version="1", output=tmp_path)))
    assert not list(alone.glob("weights-*.so"))
    assert (alone / "one.so").read_bytes() == (tmp_path / "dist" / "one.so").read_bytes()


def test_libraries_without_their_tar_keep_their_weights(boards: tuple[list[Artifact], Path], tmp_path: Path) -> None:
    built = []
    for artifact in boards[0]:
        copy = tmp_path / artifact.library.name
        copy.write_bytes(artifact.library.read_bytes())
        built.append(open_artifact(copy))
    alone = unpacked(write_bundle(built, BundleOptions(name="net", version="1", output=tmp_path)))
    assert not list(alone.glob("weights-*.so"))
    assert (alone / "net-rpi5.so").read_bytes() == (tmp_path / "net-rpi5.so").read_bytes()


def test_a_board_with_other_outputs_is_no_part_of_a_bundle(
    boards: tuple[list[Artifact], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = golden._run

    def run_wrong(artifact: Artifact, inputs: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
        outputs = real(artifact, inputs)
        return [output * np.float32(1.01) for output in outputs] if artifact.manifest.name == "net-rpi4" else outputs

    monkeypatch.setattr(golden, "_run", run_wrong)
    with pytest.raises(VerificationError, match="net-rpi4 gives other outputs than net-rpi3"):
        write_bundle(boards[0], BundleOptions(name="net", version="1", output=tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_int8_models_of_boards_may_differ_and_each_has_its_golden_outputs(
    boards: tuple[list[Artifact], Path], tmp_path: Path
) -> None:
    def changed(artifact: Artifact, code_bits: int) -> Artifact:
        rounding = {"code_bits": code_bits, "half": False}
        model = {**artifact.manifest.model, "sha256": artifact.manifest.name, "rounding": rounding}
        return dataclasses.replace(artifact, manifest=dataclasses.replace(artifact.manifest, model=model))

    with pytest.raises(OptionError, match="net-rpi4 and net-rpi3 are not one model"):
        write_bundle([changed(each, 0) for each in boards[0]], BundleOptions(name="net", version="1", output=tmp_path))
    int8 = [changed(each, 8) for each in boards[0]]
    bundle = unpacked(write_bundle(int8, BundleOptions(name="net", version="1", output=tmp_path)))
    outputs = sorted(str(path.relative_to(bundle)) for path in bundle.glob("golden/*/*"))
    assert outputs == [f"golden/net-{board}/output_0.npy" for board in BOARDS]
