from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import NodeProto, helper
from onnx_models import model, saved

from tvmbuild.commands.app import run
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.quantization import quantize_model
from tvmbuild.quantization.calibration.table import read_table
from tvmbuild.support.errors import AccuracyError, CalibrationError, OptionError

SHAPE = (1, 3, 8, 8)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def net(seed: int = 0, scale: float = 1.0) -> onnx.ModelProto:
    """Return three convolutions with ReLU and a residual, then classes; float32[1, 3, 8, 8] to [1, 5]."""
    rng = np.random.default_rng(seed)

    def random(*shape: int) -> np.ndarray:
        return (rng.standard_normal(shape) * scale / np.sqrt(np.prod(shape[1:]))).astype(np.float32)

    def node(operator: str, inputs: list[str], output: str, **attributes: Any) -> NodeProto:
        return helper.make_node(operator, inputs, [output], name=f"{output}_node", **attributes)

    nodes = [
        node("Conv", ["x", "w1", "b1"], "a", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Relu", ["a"], "b"),
        node("Conv", ["b", "w2"], "c", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        node("Add", ["c", "b"], "d"),
        node("Relu", ["d"], "e"),
        node("GlobalAveragePool", ["e"], "f"),
        node("Flatten", ["f"], "g"),
        node("Gemm", ["g", "w3", "b3"], "y", transB=1),
    ]
    weights = {"w1": random(8, 3, 3, 3), "b1": random(8), "w2": random(8, 8, 3, 3), "w3": random(5, 8), "b3": random(5)}
    return model(nodes, {"x": list(SHAPE)}, ["y"], weights)


def samples(count: int = 20) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(1)
    return (rng.standard_normal(SHAPE, np.float32) for _ in range(count))


def files(folder: Path, count: int = 20) -> Path:
    folder.mkdir()
    for index, array in enumerate(samples(count)):
        np.save(folder / f"{index}.npy", array)
    return folder


def test_the_names_of_the_python_interface(tmp_path: Path) -> None:
    done = quantize_model(
        saved(net(), tmp_path), calibrate=samples(), calibrate_mode="kl_divergence", weight_scale="max"
    )
    done.save(tmp_path / "q.onnx")
    assert done.report.accuracy is not None
    assert done.report.accuracy.held_out
    assert done.report.accuracy.outputs[0].sqnr > 25
    inputs = {"x": next(samples())}
    expected, found = (run_reference(tmp_path / name, inputs)["y"] for name in ("m.onnx", "q.onnx"))
    np.testing.assert_allclose(found, expected, atol=0.1 * np.abs(expected).max())
    with pytest.raises(OptionError) as caught:
        quantize_model(tmp_path / "m.onnx", samples(), calibration_mode="max")
    assert "calibrate_mode" in caught.value.hint


@pytest.mark.parametrize("mode", ["kl_divergence", "percentile", "mse", "max"])
def test_every_choice_gives_a_model_that_runs(tmp_path: Path, mode: str) -> None:
    path = saved(net(), tmp_path)
    for choice in ({}, {"symmetric": True}, {"power2": True}, {"weight_scale": "mse"}):
        done = quantize_model(path, samples(), calibrate_mode=mode, **choice)
        assert done.report.accuracy is not None
        assert done.report.accuracy.outputs[0].sqnr > 15


def test_the_table_is_the_same_bytes_in_any_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, texts = saved(net(), tmp_path), set()
    forward = files(tmp_path / "forward")
    backward = tmp_path / "backward"
    backward.mkdir()
    for index, file in enumerate(sorted(forward.iterdir(), reverse=True)):
        shutil.copy(file, backward / f"{index:03}.npy")
    for index, folder in enumerate((forward, backward, forward)):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{index}"))
        done = quantize_model(path, folder, table=tmp_path / f"{index}.json")
        texts.add((tmp_path / f"{index}.json").read_bytes())
        texts.add(done.table.to_json().encode())
    assert len(texts) == 1


def test_a_table_is_reused_and_may_be_edited(tmp_path: Path) -> None:
    table = tmp_path / "t.json"
    first = quantize_model(saved(net(), tmp_path), samples(), table=table)
    content = json.loads(table.read_text())
    content["tensors"]["b"]["high"] = 0.5
    table.write_text(json.dumps(content))
    # Other weights, no samples: the table alone.
    again = quantize_model(saved(net(seed=5), tmp_path, "other.onnx"), table=table)
    scales = [
        next(onnx.numpy_helper.to_array(t) for t in each.proto.graph.initializer if t.name == "b_scale")
        for each in (first, again)
    ]
    assert scales[1] == np.float32(0.5 / 255)
    assert scales[0] != scales[1]
    assert again.report.accuracy is None


def test_damaged_histograms_in_the_cache_are_made_anew(tmp_path: Path) -> None:
    path, data = saved(net(), tmp_path), files(tmp_path / "data")
    quantize_model(path, data, table=tmp_path / "a.json")
    for content in (b"", b"PK", b"\x93NUMPY\x01\x00"):
        for kept in (tmp_path / "cache").rglob("histograms.npz"):
            kept.write_bytes(content)
        (tmp_path / "b.json").unlink(missing_ok=True)
        quantize_model(path, data, table=tmp_path / "b.json")
        assert (tmp_path / "a.json").read_text() == (tmp_path / "b.json").read_text()


def test_tables_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    path, table = saved(net(), tmp_path), tmp_path / "t.json"
    quantize_model(path, samples(), table=table)
    content = json.loads(table.read_text())

    def refused(change: dict[str, Any], said: str) -> None:
        table.write_text(json.dumps({**content, **change}))
        with pytest.raises(CalibrationError, match=said):
            quantize_model(path, table=table)

    entries = content["tensors"]
    refused({"version": 99}, "version 99")
    refused({"tensors": {name: row for name, row in entries.items() if name != "b"}}, "lacks 1 .* b")
    refused({"tensors": {**entries, "b": {"low": 0.0, "high": float("inf")}}}, "'b': 'high' must be a number <= ")
    refused({"tensors": {**entries, "b": {"low": 0.0, "high": 1e39}}}, "'b': 'high' must be a number <= ")
    refused({"tensors": {**entries, "b": {"low": 1.0, "high": 2.0}}}, "'b': 'low' must be a number <= 0")
    refused({"tensors": {**entries, "b": {"low": "x", "high": 2.0}}}, "'b': 'low' must be a number, not a text")
    table.write_text("{")
    with pytest.raises(CalibrationError, match="cannot be read"):
        read_table(table)
    with pytest.raises(CalibrationError, match="no samples"):
        quantize_model(path, table=tmp_path / "none.json")


def test_layers_kept_in_float(tmp_path: Path) -> None:
    path = saved(net(), tmp_path)
    done = quantize_model(
        path, samples(), keep_fp32=("c_*", "Gemm"), decide=lambda layer: "slow" * (layer.name == "a_node")
    )
    assert done.report.layers == ()
    assert set(done.report.kept.values()) == {
        "asked for by --keep-fp32 c_*",
        "asked for by --keep-fp32 Gemm",
        "slow",
    }
    with pytest.raises(OptionError, match="No layer matches"):
        quantize_model(path, samples(), keep_fp32=("conv*",))


def test_a_budget_keeps_the_worst_layers_in_float(tmp_path: Path) -> None:
    proto = net()
    # Weights of one channel that are far larger spoil the tensor between the first two layers.
    weight = next(tensor for tensor in proto.graph.initializer if tensor.name == "w1")
    array = onnx.numpy_helper.to_array(weight).copy()
    array[0] *= 300.0
    weight.CopyFrom(onnx.numpy_helper.from_array(array, "w1"))
    path = saved(proto, tmp_path)
    plain = quantize_model(path, samples()).report.accuracy
    assert plain is not None
    wanted = plain.outputs[0].sqnr + 3.0
    done = quantize_model(path, samples(), budget=f"sqnr>={wanted}")
    assert done.report.accuracy is not None
    assert done.report.accuracy.outputs[0].sqnr >= wanted
    assert 0 < len(done.report.kept) < 3
    assert done.report.search is not None
    assert list(done.report.search.sensitivity.values()) == sorted(done.report.search.sensitivity.values())
    assert not done.report.search.trials[0].met
    assert done.report.search.trials[-1].met or len(done.report.search.trials) > 1
    assert "alone in int8" in "\n".join(done.report.lines())


def test_metrics_as_functions_and_their_budget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.py").write_text(
        "def first(outputs, name):\n    assert name\n    return outputs['y'][0, 0] > -1e9\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    path = saved(net(), tmp_path)
    done = quantize_model(path, samples(), metric="mine:first", budget="metric-loss<=0")
    assert done.report.accuracy is not None
    assert done.report.accuracy.metric == (1.0, 1.0)
    with pytest.raises(AccuracyError, match="metric>=2"):
        quantize_model(path, samples(), metric="mine:first", budget="metric>=2")
    with pytest.raises(AccuracyError, match="only with every layer in float"):
        quantize_model(path, samples(), budget="sqnr>=150")
    with pytest.raises(OptionError, match="cannot be imported"):
        quantize_model(path, samples(), metric="mine:second")
    with pytest.raises(OptionError, match="none is given"):
        quantize_model(path, samples(), budget="metric>=2")
    with pytest.raises(OptionError, match="another form"):
        quantize_model(path, samples(), budget="sqnr=30")


@pytest.mark.subprocess
def test_metrics_as_commands(tmp_path: Path) -> None:
    program = tmp_path / "metric.py"
    program.write_text(
        "import json, sys, pathlib\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "print(len(json.loads((folder / 'samples.json').read_text())) - len(list(folder.glob('*.npz'))))\n"
    )
    path = saved(net(), tmp_path)
    done = quantize_model(path, samples(), metric=f"{sys.executable} {program}")
    assert done.report.accuracy is not None
    assert done.report.accuracy.metric == (0.0, 0.0)
    with pytest.raises(OptionError, match="failed"):
        quantize_model(path, samples(), metric=f"{sys.executable} {tmp_path / 'none.py'}")


def test_bias_correction_takes_mean_errors_out(tmp_path: Path) -> None:
    path, errors = saved(net(), tmp_path), []
    for corrected in (False, True):
        # Scales that are powers of two round coarsely, hence with a mean.
        done = quantize_model(path, samples(40), power2=True, symmetric=True, bias_correction=corrected)
        inputs = list(samples(40))
        found = [run_reference(done.proto, {"x": x})["y"] - run_reference(path, {"x": x})["y"] for x in inputs]
        errors.append(np.abs(np.mean(found, axis=0)).max())
    assert errors[1] < 0.3 * errors[0]


def test_constant_and_dead_activations_are_told(tmp_path: Path) -> None:
    proto = net()
    for name in ("w1", "b1"):
        tensor = next(each for each in proto.graph.initializer if each.name == name)
        zeros = np.zeros(tuple(tensor.dims), np.float32)
        tensor.CopyFrom(onnx.numpy_helper.from_array(zeros, name))
    done = quantize_model(saved(proto, tmp_path), samples())
    assert "activation 'b' is always zero: it gets the scale 1" in done.report.notes
    assert any("8 of 8 channels are all zero" in note for note in done.report.notes)
    for tensor in done.proto.graph.initializer:
        if tensor.name.endswith("_scale"):
            scale = onnx.numpy_helper.to_array(tensor)
            assert np.isfinite(scale).all()
            assert (scale > 0).all()


def test_infinite_activations_are_named(tmp_path: Path) -> None:
    path = saved(net(scale=1e30), tmp_path)
    with pytest.raises(CalibrationError, match="activation 'e' has NaN or infinity for sample"):
        quantize_model(path, samples(), compare=False)


def test_models_that_cannot_be_quantized(tmp_path: Path) -> None:
    path = saved(net(), tmp_path)
    quantize_model(path, samples()).save(tmp_path / "q.onnx")
    with pytest.raises(CalibrationError, match=r"q\.onnx is quantized already"):
        quantize_model(tmp_path / "q.onnx", samples())
    nothing = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2, 3]}, ["y"])
    with pytest.raises(CalibrationError, match="no convolution"):
        quantize_model(saved(nothing, tmp_path, "relu.onnx"), samples())


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data, report = saved(net(), tmp_path), files(tmp_path / "data"), tmp_path / "report.json"
    arguments = ["quantize", str(path), "--calibrate", str(data), "--report", str(report), "--json"]
    assert run(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["file"] == str(tmp_path / "m.int8.onnx")
    assert len(told["layers"]) == 3
    assert json.loads(report.read_text())["accuracy"]["samples"] == 4
    onnx.checker.check_model(onnx.load(told["file"]), full_check=True)
    (data / "0.npy").write_bytes(b"no")
    assert run(arguments) == CalibrationError.exit_code
    shown = capsys.readouterr().err
    assert "0.npy cannot be read" in shown
    assert "Traceback" not in shown


def test_build_takes_samples_only_with_int8(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "m.onnx", "--calibrate", "data"]) == OptionError.exit_code
    assert "Add --int8" in capsys.readouterr().err


def test_an_open_batch_is_one(tmp_path: Path) -> None:
    proto = net()
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "n"
    done = quantize_model(saved(proto, tmp_path), calibrate=samples())
    assert done.assumed == ("the open batch of 'x' is taken as 1",)
    assert [size.dim_value for size in done.proto.graph.input[0].type.tensor_type.shape.dim] == list(SHAPE)
