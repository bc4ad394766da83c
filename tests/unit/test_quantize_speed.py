from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import model, saved

from tvmbuild.quantization import quantize_model
from tvmbuild.quantization.graph_view import view
from tvmbuild.quantization.placement import find_layers
from tvmbuild.quantization.speed import LayerSpeed, ModelSpeed, predict_speed
from tvmbuild.target.target import load_target


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def net() -> onnx.ModelProto:
    """Return 1x1, 3x3 (which Winograd computes in float) and 1x1; 64 channels, 28x28."""
    rng = np.random.default_rng(0)
    nodes, weights, data = [], {}, "x"
    for name, size in (("first", 1), ("middle", 3), ("last", 1)):
        weights[f"w_{name}"] = (rng.standard_normal((64, 64, size, size)) * (2 / 64) ** 0.5 / size).astype(np.float32)
        pads = [size // 2] * 4
        nodes.append(
            helper.make_node("Conv", [data, f"w_{name}"], [name], name=name, kernel_shape=[size] * 2, pads=pads)
        )
        data = name
    return model(nodes, {"x": [1, 64, 28, 28]}, ["last"], weights)


@pytest.mark.parametrize(("board", "slower"), [("rpi4", {"middle"}), ("rpi5", set())])
def test_winograd_in_float_beats_int8_on_cores_without_dot_products_alone(board: str, slower: set[str]) -> None:
    proto = net()
    target = load_target(board)
    speed = predict_speed(proto, dataclasses.replace(target, cores=1))
    # Four cores wait for Winograd's weights, which are sixteen times those of int8.
    together = predict_speed(proto, target)
    assert not [layer for layer in find_layers(view(proto)) if together.reason(layer)]
    assert {layer.name for layer in find_layers(view(proto)) if speed.reason(layer)} == slower
    assert set(speed.layers) == {"first", "middle", "last"}
    elements = 64 * 28 * 28
    # Only what lies between layers is converted when a layer stays in float.
    assert [speed.layers[name].borders for name in ("first", "middle", "last")] == [elements, 2 * elements, elements]


def test_ties_stay_in_int8_and_conversions_count() -> None:
    assert not LayerSpeed(fp32=100.0, int8=109.0, borders=0.0).is_slower
    assert LayerSpeed(fp32=100.0, int8=111.0, borders=0.0).is_slower
    assert not LayerSpeed(fp32=100.0, int8=120.0, borders=10.0).is_slower


def test_the_whole_model_is_judged_with_the_layers_that_stay() -> None:
    layers = {"a": LayerSpeed(10e6, 30e6, 1e6), "b": LayerSpeed(10e6, 9.5e6, 1e6)}
    speed = ModelSpeed(load_target("rpi4"), layers)
    assert "int8 does not pay on cortex-a72" in speed.note(())
    assert "20.5 Mcycles, in float 20.0" in speed.note(("a",))
    assert not ModelSpeed(load_target("rpi4"), {"b": LayerSpeed(10e6, 5e6, 1e6)}).note(())
    assert not ModelSpeed(load_target("rpi4"), {}).note(())


def test_cores_that_were_never_predicted_keep_int8() -> None:
    assert not predict_speed(net(), load_target("host")).layers


def test_quantize_for_a_board_reports_what_stays_and_force_int8_does_not(tmp_path: Path) -> None:
    path, board = saved(net(), tmp_path), dataclasses.replace(load_target("rpi4"), cores=1)
    samples = list(np.random.default_rng(1).standard_normal((10, 1, 64, 28, 28), np.float32))
    report = quantize_model(path, samples, target=board).report
    assert set(report.kept) == {"middle"}
    assert "predicted slower in int8 on cortex-a72" in "\n".join(report.lines())
    assert not quantize_model(path, samples, target=board, force_int8=True).report.kept
    assert not quantize_model(path, samples).report.kept
