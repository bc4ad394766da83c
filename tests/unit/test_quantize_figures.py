"""What a quantization says of itself and decides by: each figure by its definition, each bound on both of its sides."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper
from onnx_models import model
from seeded import rng

from tvmbuild.quantization import accuracy, layer_shape
from tvmbuild.quantization.accuracy import Similarity, compare, sqnr
from tvmbuild.quantization.budget import Budget, parse_budget, search
from tvmbuild.quantization.calibration.sample_set import SampleRef
from tvmbuild.quantization.judge import Accuracy
from tvmbuild.quantization.report import QuantizationReport
from tvmbuild.quantization.speed import LayerSpeed, ModelSpeed, predict_speed
from tvmbuild.support.errors import AccuracyError, OptionError
from tvmbuild.target.target import load_target

RPI4 = load_target("rpi4")


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("sqnr>=30", Budget("sqnr", True, 30.0)),
        (" cosine >= 9.99e-1 ", Budget("cosine", True, 0.999)),
        ("top1>=0.99", Budget("top1", True, 0.99)),
        ("metric>=-2", Budget("metric", True, -2.0)),
        ("metric-loss<=0.01", Budget("metric-loss", False, 0.01)),
        *(
            (text, None)
            for text in ("", "sqnr", "sqnr>30", "sqnr<=30", "metric-loss>=1", "psnr>=1", "sqnr>=1e", "sqnr>=.")
        ),
    ],
)
def test_a_budget_is_a_measure_and_its_bound(text: str, budget: Budget | None) -> None:
    if budget is None:
        with pytest.raises(OptionError, match="has another form"):
            parse_budget(text)
        return
    assert parse_budget(text) == budget
    assert parse_budget(str(budget)) == budget
    nearer, farther = (budget.bound + step if budget.at_least else budget.bound - step for step in (1e-9, -1e-9))
    assert [budget.met(value) for value in (budget.bound, nearer, farther)] == [True, True, False]


@settings(max_examples=60)
@given(losses=st.lists(st.integers(1, 9), min_size=1, max_size=9), bound=st.integers(0, 30))
def test_the_search_keeps_the_shortest_run_of_the_worst_layers_that_is_enough(losses: list[int], bound: int) -> None:
    """The model has 30 dB less what its layers in int8 lose."""
    names = [f"layer{number}" for number in range(len(losses))]
    loss = dict(zip(names, losses, strict=True))

    def value(kept: Sequence[str]) -> float:
        return 30.0 - sum(loss[name] for name in names if name not in kept)

    order = sorted(names, key=lambda name: (-loss[name], name))
    enough = [count for count in range(len(names) + 1) if value(order[:count]) >= bound]
    budget = Budget("sqnr", True, float(bound))
    if enough[0] == len(names):
        with pytest.raises(AccuracyError, match="only with every layer in float"):
            search(budget, names, lambda name: -float(loss[name]), value)
        return
    found = search(budget, names, lambda name: -float(loss[name]), value)
    assert found.keep == tuple(order[: enough[0]])
    assert all(trial.value == value(order[: trial.kept]) for trial in found.trials)
    assert all(trial.met == (trial.value >= bound) for trial in found.trials)
    assert found.trials[0].kept == 0
    if enough[0]:
        assert list(found.sensitivity.items()) == [(name, -loss[name]) for name in order]
        assert len(found.trials) <= 2 + math.ceil(math.log2(len(names)))
    else:
        assert (found.sensitivity, len(found.trials)) == ({}, 1)


def test_a_budget_that_even_the_float_model_misses_says_so() -> None:
    with pytest.raises(AccuracyError, match="missed even with every layer in float: 7"):
        search(Budget("sqnr", True, 30.0), ["a", "b"], lambda _: 0.0, lambda _: 7.0)


@pytest.mark.parametrize(
    ("signal", "noise", "expected"),
    [(100.0, 1.0, 20.0), (1.0, 100.0, -20.0), (2.0, 2.0, 0.0), (5.0, 0.0, None), (0.0, 0.0, None), (0.0, 1.0, "worst")],
)
def test_a_ratio_of_signal_to_noise_is_in_decibels_and_always_a_number(
    signal: float, noise: float, expected: Any
) -> None:
    most = accuracy._EQUAL_DB
    assert sqnr(signal, noise) == pytest.approx({None: most, "worst": -most}.get(expected, expected))
    assert sqnr(1e77, 1e-90) == most
    assert sqnr(1e-90, 1e77) == -most


def net(*scales: float, rank: int = 2) -> onnx.ModelProto:
    """Outputs that are the input, each times something and one more with its sign turned at one place."""
    turned = np.ones(4, np.float32)
    turned[1] = -1
    nodes = [helper.make_node("Mul", ["x", f"s{at}"], [f"y{at}"]) for at in range(len(scales))]
    nodes.append(helper.make_node("Mul", ["x", "turned"], ["z"]))
    weights = {f"s{at}": np.float32(scale) for at, scale in enumerate(scales)}
    shape = [2, 4] if rank == 2 else [1, 1, 2, 4]
    return model(nodes, {"x": shape}, [*(f"y{at}" for at in range(len(scales))), "z"], {**weights, "turned": turned})


@pytest.mark.parametrize("rank", [2, 4])
def test_models_are_alike_by_the_sums_over_all_samples(rank: int) -> None:
    shape = (2, 4) if rank == 2 else (1, 1, 2, 4)
    samples = [rng().standard_normal(shape).astype("float32") for _ in range(3)]
    refs = [SampleRef(str(at), str(at), lambda each=each: {"x": each}) for at, each in enumerate(samples)]  # type: ignore[misc]
    names = ["y0", "y1", "z"]
    first, second = net(1.0, 0.0, rank=rank), net(0.5, 0.0, 0.5, rank=rank)
    pairs = {"y0": "y0", "y1": "y1", "z": "y2"}
    found = {each.name: each for each in compare(first, second, pairs, dict.fromkeys(names, 8), refs)}
    data = np.concatenate([each.ravel() for each in samples]).astype(np.float64)
    assert list(found) == names
    assert found["y0"].sqnr == pytest.approx(10 * math.log10(4.0), abs=1e-4)
    assert found["y0"].cosine == pytest.approx(1.0)
    turned = data * np.tile([1, -1, 1, 1], data.size // 4)
    noise = turned - 0.5 * data
    assert found["z"].sqnr == pytest.approx(10 * math.log10((turned @ turned) / (noise @ noise)), abs=1e-4)
    assert found["z"].cosine == pytest.approx((turned @ data) / (data @ data), abs=1e-5)
    assert (found["y1"].sqnr, found["y1"].cosine) == (accuracy._EQUAL_DB, 1.0)
    if rank == 4:
        assert {each.top1 for each in found.values()} == {None}
    else:
        rows = np.stack([turned, data]).reshape(2, -1, 4).argmax(-1)
        assert found["z"].top1 == pytest.approx(np.mean(rows[0] == rows[1]))
        assert found["y0"].top1 == 1.0


def report(**more: Any) -> QuantizationReport:
    told: dict[str, Any] = {
        "model": "net.onnx",
        "layers": ("a", "b"),
        "kept": {"c": "it is an output"},
        "notes": ("a is always 0",),
        "mode": "kl_divergence",
        "samples": 7,
        "accuracy": None,
    }
    return QuantizationReport(**{**told, **more})


def test_a_report_counts_layers_and_says_what_stays_and_why() -> None:
    assert report(speed="int8 does not pay").lines() == [
        "2 of 3 layers in int8, ranges by kl_divergence from 7 samples",
        "  c stays in float: it is an output",
        "  int8 does not pay",
        "  note: a is always 0",
    ]
    many = report(notes=tuple(f"note {number}" for number in range(30)))
    short, whole = many.lines(), many.lines(verbose=True)
    assert [line for line in whole if "note: note" in line] == [f"  note: note {number}" for number in range(30)]
    assert len(short) < len(whole)
    assert short[:4] == whole[:4]


def test_a_report_says_how_close_the_model_is_on_which_samples() -> None:
    alike = Accuracy((Similarity("y", 31.25, 0.99951, 0.875),), (Similarity("t", 12.5, 0.9),), 5, True, (0.75, 0.5))
    text = "\n".join(report(accuracy=alike).lines())
    for part in (
        "against the float model on 5 held-out samples:",
        "31.2 dB",
        "0.9995",
        "top-1 agrees in 87.5%",
        "12.5",
        "0.75",
        "0.5",
    ):
        assert part in text
    overlap = Accuracy((Similarity("y", 31.25, 0.99951),), (), 5, False)
    text = "\n".join(report(accuracy=overlap).lines())
    assert "samples that also calibrated" in text
    assert "top-1" not in text


def test_a_report_shows_each_step_of_the_search() -> None:
    found = search(
        Budget("sqnr", True, 25.0),
        ["a", "b"],
        lambda name: {"a": 20.0, "b": 28.04}[name],
        lambda kept: 20.0 + 6 * len(kept),
    )
    lines = report(search=found).lines()
    assert "  search: 0 layers in float give 20, not enough" in lines
    assert "  search: 1 layers in float give 26" in lines
    assert lines[-2:] == ["  alone in int8: a 20.0 dB", "  alone in int8: b 28.0 dB"]


@pytest.mark.parametrize(
    ("int8", "fp32", "borders", "slower"),
    [(110.0, 100.0, 0.0, False), (110.1, 100.0, 0.0, True), (121.0, 100.0, 10.0, False), (121.1, 100.0, 10.0, True)],
)
def test_int8_stays_unless_a_tenth_slower(int8: float, fp32: float, borders: float, slower: bool) -> None:
    assert LayerSpeed(fp32, int8, borders).is_slower == slower


def test_a_model_pays_when_what_is_mixed_is_faster() -> None:
    layers = {"a": LayerSpeed(10e6, 8e6, 1e6), "b": LayerSpeed(10e6, 12e6, 1e6)}
    speed = ModelSpeed(RPI4, layers)
    assert "take 20.0 Mcycles, in float 20.0" in speed.note(())
    assert speed.note(("b",)) == ""
    assert "take 22.0 Mcycles" in speed.note(("a", "b")) or "take 22.0" in speed.note(("a", "b"))


@pytest.mark.parametrize(
    ("attributes", "known"),
    [
        ({}, True),
        ({"auto_pad": "NOTSET", "group": 1}, True),
        ({"auto_pad": "SAME_UPPER"}, False),
        ({"group": 2}, False),
        ({"strides": [2, 2], "pads": [1, 1, 1, 1], "dilations": [1, 1]}, True),
    ],
)
def test_only_dense_convolutions_of_known_padding_are_predicted(attributes: dict[str, Any], known: bool) -> None:
    group = attributes.get("group", 1)
    weights = {"w": np.ones((8, 8 // group, 3, 3), np.float32)}
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="conv", **attributes)
    speed = predict_speed(onnx.shape_inference.infer_shapes(model([node], {"x": [1, 8, 9, 9]}, ["y"], weights)), RPI4)
    assert set(speed.layers) == ({"conv"} if known else set())
    if known:
        layer = speed.layers["conv"]
        # The input and the output are the model's: nothing lies between layers.
        assert layer.borders == 0.0
        assert layer.int8 > 8 * 9 * 9


def layer(kind: str, inputs: Sequence[str] = ("x", "w"), domain: str = "", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, list(inputs), ["y"], domain=domain, **attributes)


F32 = np.float32
CONSTANTS: dict[str, Any] = {
    "w": np.ones((6, 4, 1, 1), F32),
    "m": np.ones((4, 6), F32),
    "m3": np.ones((2, 4, 6), F32),
    "d": np.ones((4, 6), np.float64),
    "e": np.ones((0, 4, 1, 1), F32),
    "b6": np.ones(6, F32),
    "b1": np.ones(1, F32),
    "b4": np.ones(4, F32),
    "bd": np.ones(6, np.float64),
}


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (layer("Conv"), True),
        (layer("Conv", domain="ai.onnx"), True),
        (layer("Conv", domain="com.microsoft"), False),
        (layer("Relu", ("x",)), False),
        (layer("Conv", ("x",)), False),
        (layer("Conv", ("w", "w")), False),
        (layer("Conv", ("x", "z")), False),
        (layer("Conv", ("x", "e")), False),
        (layer("Conv", ("x", "w", "")), True),
        (layer("Conv", ("x", "w", "b6")), True),
        (layer("Conv", ("x", "w", "b1")), True),
        (layer("Conv", ("x", "w", "b4")), False),
        (layer("Conv", ("x", "w", "bd")), False),
        (layer("Conv", ("x", "w", "computed")), False),
        (layer("MatMul", ("x", "m")), True),
        (layer("MatMul", ("x", "m3")), False),
        (layer("MatMul", ("x", "d")), False),
        (layer("Gemm", ("x", "m", "b6")), True),
        (layer("Gemm", ("x", "m"), alpha=1.0, beta=1.0, transA=0), True),
        (layer("Gemm", ("x", "m"), alpha=0.5), False),
        (layer("Gemm", ("x", "m"), beta=0.5), False),
        (layer("Gemm", ("x", "m"), transA=1), False),
        (layer("Gemm", ("x", "m", "b4"), transB=1), True),
        (layer("ConvTranspose", ("x", "w", "b4")), True),
    ],
    ids=str,
)
def test_a_layer_is_data_times_constant_weights_and_a_plain_bias(node: onnx.NodeProto, expected: bool) -> None:
    assert layer_shape.is_layer(node, CONSTANTS) == expected


@pytest.mark.parametrize(
    ("node", "axis", "groups", "channels"),
    [
        (layer("Conv"), 0, 1, 6),
        (layer("Conv", group=2), 0, 2, 6),
        (layer("ConvTranspose"), 1, 1, 4),
        (layer("ConvTranspose", group=3), 1, 3, 12),
        (layer("MatMul", ("x", "m")), 1, 1, 6),
        (layer("Gemm", ("x", "m")), 1, 1, 6),
        (layer("Gemm", ("x", "m"), transB=0), 1, 1, 6),
        (layer("Gemm", ("x", "m"), transB=1), 0, 1, 4),
    ],
    ids=str,
)
def test_the_output_channels_of_a_layer(node: onnx.NodeProto, axis: int, groups: int, channels: int) -> None:
    assert layer_shape.channel_axis(node) == axis
    assert layer_shape.group_count(node) == groups
    assert layer_shape.channel_count(node, CONSTANTS) == channels


def test_weights_by_channel_are_a_row_each() -> None:
    weights = np.arange(24).reshape(2, 3, 4)
    for axis, size in enumerate(weights.shape):
        rows = layer_shape.by_channel(weights, axis)
        assert rows.shape == (size, 24 // size)
        for channel in range(size):
            np.testing.assert_array_equal(rows[channel], weights.take(channel, axis).ravel())
