"""The commands end to end on a small model, and what a user can get wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from onnx import TensorProto, helper, numpy_helper

from tvmbuild.commands.app import run
from tvmbuild.support import errors

TOP = Path(__file__).parents[2]


def small_net(path: Path, channels: int = 8) -> Path:
    """Write Conv+BatchNorm+Relu, Conv, residual Add, with an input and an output whose names are no identifiers."""
    rng = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(rng.normal(0, 0.3, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["input.1", "w1", "b1"], ["c1"], "first conv", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["c1", "scale", "shift", "mean", "var"], ["n1"], "norm"),
        helper.make_node("Relu", ["n1"], ["r1"], "relu"),
        helper.make_node("Conv", ["r1", "w2"], ["c2"], "second/conv", pads=[1, 1, 1, 1]),
        helper.make_node("Add", ["c2", "r1"], ["out:0"], "add"),
    ]
    var = numpy_helper.from_array(rng.uniform(0.5, 2, channels).astype(np.float32), "var")
    vectors = [weight(name, channels) for name in ("b1", "scale", "shift", "mean")]
    weights = [weight("w1", channels, 3, 3, 3), weight("w2", channels, channels, 3, 3), var, *vectors]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("input.1", TensorProto.FLOAT, ["n", 3, 12, 10])],
        [helper.make_tensor_value_info("out:0", TensorProto.FLOAT, ["n", channels, 12, 10])],
        weights,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return small_net(tmp_path / "net.onnx")


def built(net: Path, target: str, capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, object]:
    arguments = ["build", str(net), "-t", target, "--shape", "input.1=1,3,12,10", "-o", str(net.parent / "dist")]
    assert run([*arguments, *flags, "--json"]) == 0
    manifest: dict[str, object] = json.loads(capsys.readouterr().out)
    return manifest


@pytest.mark.parametrize("target", ["rpi3", "rpi4", "rpi5", "rpizero2w", "generic-aarch64", "host"])
def test_build_then_verify_for_every_target(target: str, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = built(net, target, capsys)
    assert manifest["inputs"] == [{"name": "input.1", "dtype": "float32", "shape": [1, 3, 12, 10]}]
    assert manifest["outputs"] == [{"name": "out:0", "dtype": "float32", "shape": [1, 8, 12, 10]}]
    dist = net.parent / "dist"
    assert {path.name for path in dist.iterdir()} == {f"net-{target}{ending}" for ending in (".so", ".tar", ".json")}
    assert run(["verify", str(dist / f"net-{target}.so"), "--model", str(net), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["passed"]
    assert report["outputs"][0]["relative"] < 1e-5


def test_the_same_build_gives_the_same_bytes(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = built(net, "rpi4", capsys)
    assert first["files"] == built(net, "rpi4", capsys)["files"]


def test_inspect_shows_an_artifact_and_a_model(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(net, "rpi4", capsys)
    for ending in ("so", "tar", "json"):
        assert run(["inspect", str(net.parent / "dist" / f"net-rpi4.{ending}")]) == 0
        assert "1 of 1 BatchNorm folded" in capsys.readouterr().out
    assert run(["inspect", str(net)]) == 0
    shown = capsys.readouterr().out
    assert "1 of 1 BatchNorm folded" in shown
    assert "the open batch of 'input.1' is taken as 1" in shown


def test_a_lone_library_says_what_it_is_and_is_verified(
    net: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = built(net, "host", capsys)
    alone = tmp_path / "alone"
    alone.mkdir()
    for ending in (".so", ".tar"):
        lone = (net.parent / "dist" / f"net-host{ending}").rename(alone / f"renamed{ending}")
        assert run(["inspect", str(lone), "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {**manifest, "files": []}
    assert run(["verify", str(alone / "renamed.so"), "--model", str(net)]) == 0
    # Without the .so its objects are linked here as they would be on the board.
    (alone / "renamed.so").unlink()
    assert run(["verify", str(alone / "renamed.tar"), "--model", str(net)]) == 0
    # The object with the manifest hinders no linker, TVM's own included.
    loaded = tvm.runtime.load_module(str(alone / "renamed.tar"))
    assert loaded.implements_function("vm_load_executable")


def test_a_wrong_library_fails_verification_and_is_bisected(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Another model's library under this model's name: the outputs differ, and the error says by how much."""
    built(net, "host", capsys)
    dist = net.parent / "dist"
    good = json.loads((dist / "net-host.json").read_text())
    other = small_net(net.parent / "other.onnx")
    model = onnx.load(other)
    for weight in model.graph.initializer:
        if weight.name == "w2":
            weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * 1.01, "w2"))
    onnx.save(model, other)
    assert (
        run(["build", str(other), "-t", "host", "--shape", "input.1=1,3,12,10", "-o", str(dist), "--name", "net-host"])
        == 0
    )
    wrong = json.loads((dist / "net-host.json").read_text())
    wrong["model"] = good["model"]
    (dist / "net-host.json").write_text(json.dumps(wrong))
    capsys.readouterr()
    code = run(["verify", str(dist / "net-host.so"), "--model", str(net), "--json", "--bisect"])
    assert code == errors.VerificationError.exit_code
    error = json.loads(capsys.readouterr().out)["error"]
    assert error["outputs"][0]["spec"]["name"] == "out:0"
    # The compiler itself is right, so no layer is to blame, and the report says so.
    assert "every layer agrees" in error["first_difference"]


def test_an_open_batch_is_built_as_one(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dist = net.parent / "dist"
    assert run(["build", str(net), "-t", "host", "-o", str(dist)]) == 0
    assert "note: the open batch of 'input.1' is taken as 1" in capsys.readouterr().out
    assert json.loads((dist / "net-host.json").read_text())["inputs"][0]["shape"] == [1, 3, 12, 10]
    assert run(["verify", str(dist / "net-host.so"), "--model", str(net)]) == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--shape", "inptu=1,3,12,10"], errors.ShapeError.exit_code, "input.1"),
        (["--shape", "input.1=1,3,12"], errors.ShapeError.exit_code, "4 dimensions"),
        (["--shape", "input.1=0,3,12,10"], errors.ShapeError.exit_code, "1 or more"),
        (["--shape", "input.1=1,3,12,10", "--toolchain", "gcc"], errors.OptionError.exit_code, "no toolchain 'gcc'"),
        (["--shape", "input.1=1,3,12,10", "-o", "/proc/dist"], errors.OutputError.exit_code, "cannot be written"),
        (["--shape", "input.1=1,3,12,10", "--dump-ir", "/proc/ir"], errors.OutputError.exit_code, "/proc/ir"),
    ],
)
def test_what_a_user_gets_wrong(
    arguments: list[str], code: int, words: str, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dist = net.parent / "dist"
    given = arguments if "-o" in arguments else [*arguments, "-o", str(dist)]
    assert run(["build", str(net), "-t", "rpi4", *given]) == code
    shown = capsys.readouterr().err
    assert words in shown
    assert "fix:" in shown
    assert "Traceback" not in shown
    assert not dist.exists() or list(dist.iterdir()) == []


def test_broken_models_are_refused(tmp_path: Path, net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = net.read_bytes()
    for name, content in (("cut", whole[: len(whole) // 2]), ("text", b"not a model"), ("empty", b"")):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        assert run(["build", str(path), "-o", str(tmp_path / "dist")]) == errors.ModelError.exit_code
        assert f"{name}.onnx" in capsys.readouterr().err
    assert run(["build", str(tmp_path / "none.onnx")]) == errors.ModelError.exit_code


def test_a_damaged_library_is_refused(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    built(net, "host", capsys)
    library = net.parent / "dist" / "net-host.so"
    content = bytearray(library.read_bytes())
    content[len(content) // 2] ^= 1
    library.write_bytes(content)
    assert run(["verify", str(library), "--model", str(net)]) == errors.ArtifactError.exit_code
    assert "damaged" in capsys.readouterr().err


def test_dumped_phases_are_whole_and_in_order(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = net.parent / "ir"
    arguments = ["build", str(net), "-t", "host", "--shape", "input.1=1,3,12,10", "-o", str(net.parent / "dist")]
    assert run([*arguments, "--dump-ir", str(folder)]) == 0
    names = sorted(path.name for path in folder.iterdir())
    assert [name.split("-")[0] for name in names] == [f"{k:02}" for k in range(1, len(names) + 1)]
    assert names[-1].endswith("-lower.py")
    assert all("@I.ir_module" in (folder / name).read_text() for name in names)


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_build_leaves_the_old_artifact(
    signal_number: int, net: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    built(net, "rpi4", capsys)
    dist = net.parent / "dist"
    before = {path.name: path.read_bytes() for path in dist.iterdir()}
    command = [sys.executable, str(TOP / "cli.py"), "build", str(net), "-t", "rpi4"]
    command += ["--shape", "input.1=1,3,12,10", "-o", str(dist)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
    assert process.stderr is not None
    for line in process.stderr:
        if "compare with the original" in line:
            break
    time.sleep(0.05)
    os.kill(process.pid, signal_number)
    said = process.stderr.read()
    process.wait(timeout=60)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    assert process.returncode == expected[signal.Signals(signal_number)]
    assert "Traceback" not in said
    assert {name: content for name, content in before.items() if (dist / name).read_bytes() != content} == {}


def test_an_int8_build_equals_its_qdq_model(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    data = net.parent / "samples.npy"
    np.save(data, rng.standard_normal((20, 3, 12, 10)).astype(np.float32))
    told = built(net, "rpi4", capsys, "--int8", "--calibrate", str(data))
    assert told["model"]["file"] == "net.int8.onnx"  # type: ignore[index]
    artifact = net.parent / "dist" / "net.int8-rpi4.so"
    # Against ONNX Runtime on the QDQ model: rounding to the next integer is the most that they differ by.
    tolerance = ["--tolerance", "0.02", "--inputs", str(net.parent / "one.npy")]
    np.save(net.parent / "one.npy", np.load(data)[:1])
    assert run(["verify", str(artifact), "--model", str(net.parent / "dist" / "net.int8.onnx"), *tolerance]) == 0
