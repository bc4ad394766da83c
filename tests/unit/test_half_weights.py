"""Weights as float16: which layers may have them, which do, and what a build, its manifest and verify say of it."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_artifact import MANIFEST
from tvm import relax

from tvmbuild.artifact.manifest import Manifest, read_manifest
from tvmbuild.artifact.open import Artifact
from tvmbuild.checking.difference import difference
from tvmbuild.checking.verify import own_tolerance, weights_of
from tvmbuild.checking.weight_rounding import MOST, allowed, rounded
from tvmbuild.commands.app import run
from tvmbuild.graph import stored
from tvmbuild.graph.rewriter import flat_bindings, op_name
from tvmbuild.records.apply import TunedSchedules
from tvmbuild.releases.plan import read_plan
from tvmbuild.schedules.gemm.register_tile import RegisterTile
from tvmbuild.schedules.gemm.tile_plan import plan_conv2d
from tvmbuild.schedules.gemm.widening import AHEAD_CYCLES, Tiles, plan_widening
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize import conv2d_storage
from tvmbuild.schedules.legalize.conv2d_choices import name_of, plan_key
from tvmbuild.schedules.legalize.storage import (
    DOES_NOT_PAY,
    MAX_ROUNDING,
    NEGLIGIBLE,
    Storage,
    StoredLayer,
    rounding_share,
    why_not_half,
)
from tvmbuild.support.errors import ArtifactError, OptionError
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.resolve import resolve
from tvmbuild.support.tensor import TensorSpec
from tvmbuild.support.weights import Prefer, Weights
from tvmbuild.target.target import Target, load_target, require_widening

RPI4 = load_target("rpi4")
SSE = dataclasses.replace(RPI4, name="old", triple="x86_64-linux-gnu", cpu="x86-64", features=())

#: float32 from far below float16's subnormal numbers to far above its largest.
ANY_SIZE = st.builds(
    lambda digits, power, sign: np.float32(sign * digits * 2.0**power),
    st.floats(1, 2, exclude_max=True),
    st.integers(-40, 20),
    st.sampled_from([-1, 1]),
)


@given(
    weights=st.lists(ANY_SIZE | st.just(np.float32(0)), min_size=12, max_size=12),
    inputs=st.lists(st.floats(-100, 100, width=32), min_size=4, max_size=4),
)
def test_a_layer_that_is_stored_as_float16_keeps_its_bound(weights: list[Any], inputs: list[float]) -> None:
    """Whatever the weights: nothing becomes infinite, and no output moves by more than was promised."""
    matrix = np.array(weights, np.float32).reshape(3, 4)
    if why_not_half(matrix, RPI4):
        return
    rounded = matrix.astype(np.float16).astype(np.float64)
    assert np.isfinite(rounded).all()
    sums = np.abs(matrix.astype(np.float64)).sum(axis=1)
    lost = np.abs(rounded - matrix).sum(axis=1)
    assert np.all(lost <= np.maximum(MAX_ROUNDING * sums, NEGLIGIBLE * sums.max()) * (1 + 1e-12))
    x = np.array(inputs, np.float64)
    moved = np.abs((rounded - matrix.astype(np.float64)) @ x)
    assert np.all(moved <= lost * np.abs(x).max() * (1 + 1e-12) + 1e-300)


@given(weights=st.lists(st.floats(2.0**-14, 65504, width=32), min_size=1, max_size=20))
def test_normal_numbers_are_always_within_the_bound(weights: list[float]) -> None:
    matrix = np.array([weights], np.float32)
    lost = np.abs(matrix.astype(np.float64) - matrix.astype(np.float16))
    assert np.all(lost <= MAX_ROUNDING * matrix)
    assert not why_not_half(matrix, RPI4)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (65505.0, "beyond float16's largest, 65504"),
        (np.inf, "beyond float16's largest"),
        (np.nan, "beyond float16's largest"),
        (3e-6, "below float16's normal numbers"),
        (65504.0, ""),
        (6.2e-5, ""),
    ],
)
def test_a_layer_that_float16_cannot_hold_says_why(value: float, reason: str) -> None:
    matrix = np.full((2, 5), value, np.float32)
    said = why_not_half(matrix, RPI4)
    assert reason in said
    assert bool(said) == bool(reason)


def test_an_output_without_weights_or_with_next_to_none_refuses_nothing() -> None:
    """Folded normalisations leave channels of 1e-9 in trained models: they add nothing, and lose nothing."""
    matrix = np.ones((3, 8), np.float32)
    matrix[1] = 0
    matrix[2] = 1e-9
    assert rounding_share(matrix) <= MAX_ROUNDING
    matrix[2] = 2e-3 / 8 * np.float32(1 + 2**-12)
    assert not why_not_half(matrix, RPI4)
    matrix[0] = 1e-4
    matrix[2] = 5e-7
    assert "normal numbers" in why_not_half(matrix, RPI4)


def test_a_core_that_cannot_widen_keeps_float32() -> None:
    matrix = np.ones((2, 5), np.float32)
    assert "cannot widen" in why_not_half(matrix, SSE)
    assert load_target("rpi3").widens_halves
    require_widening(SSE, Weights.AUTO)
    require_widening(SSE, None)
    with pytest.raises(OptionError, match=r"fp16 need an instruction that old \(x86-64\) lacks"):
        require_widening(SSE, Weights.FP16)


def weights_like(geometry: Conv2dGeometry, scale: float = 1.0) -> Any:
    shape = (geometry.out_channels, geometry.group_in, *geometry.kernel)
    return (np.random.default_rng(1).standard_normal(shape) * scale / np.sqrt(shape[1])).astype(np.float32)


#: Where F(4x4) is chosen with float32 weights, and where a product takes each weight once.
MIDDLE = Conv2dGeometry(1, 28, 28, 64, 64, (3, 3), padding=(1, 1, 1, 1))
VECTOR = Conv2dGeometry(1, 1, 1, 512, 256, (1, 1))
FIRST = Conv2dGeometry(1, 112, 112, 16, 24, (1, 1))


@pytest.mark.parametrize("geometry", [MIDDLE, VECTOR, FIRST])
@pytest.mark.parametrize("target", [RPI4, load_target("rpi5"), load_target("rpi3")])
def test_fp16_stores_every_layer_that_may_be(geometry: Conv2dGeometry, target: Target) -> None:
    found = conv2d_storage.choose(geometry, weights_like(geometry), target, Storage(Weights.FP16))
    assert found.half
    assert found.reason == ""
    assert name_of(found.plan).split()[0] in ("direct", "winograd2")


def test_transformed_weights_that_would_lose_too_much_stay_float32() -> None:
    kernel = weights_like(MIDDLE)
    errors = {
        name_of(plan): conv2d_storage.relative_error(MIDDLE, kernel, plan, half_weights=True)
        for plan in conv2d_storage.possible(MIDDLE, RPI4, "float32")
    }
    assert errors["winograd2"] < MAX_ROUNDING < errors["winograd3"] < errors["winograd4"]
    assert errors["winograd4"] < MAX_ROUNDING * 20


def test_auto_takes_float16_where_it_pays_and_says_where_not() -> None:
    once = conv2d_storage.choose(VECTOR, weights_like(VECTOR), RPI4, Storage(Weights.AUTO))
    assert once.half
    often = conv2d_storage.choose(MIDDLE, weights_like(MIDDLE), RPI4, Storage(Weights.AUTO))
    assert (often.half, often.reason) == (False, DOES_NOT_PAY)
    tiny = conv2d_storage.choose(VECTOR, weights_like(VECTOR, 1e-7), RPI4, Storage(Weights.AUTO))
    assert not tiny.half
    assert "normal numbers" in tiny.reason


@pytest.mark.parametrize("weights", [Weights.FP32, Weights.FP16, Weights.AUTO])
@pytest.mark.parametrize("scale", [1.0, 1e-7])
@pytest.mark.parametrize("geometry", [MIDDLE, Conv2dGeometry(1, 13, 13, 512, 1000, (1, 1))])
def test_preferring_size_never_enlarges_weights(geometry: Conv2dGeometry, scale: float, weights: Weights) -> None:
    kernel = weights_like(geometry, scale)
    found = conv2d_storage.choose(geometry, kernel, RPI4, Storage(weights, Prefer.SIZE))
    assert conv2d_storage.stored_bytes(geometry, found) <= kernel.nbytes


@settings(max_examples=30)
@given(
    rows=st.integers(1, 60), columns=st.integers(1, 8), blocks=st.integers(1, 40), depth=st.sampled_from([4, 64, 2048])
)
def test_a_plan_of_widening_fits_the_kernel_and_never_widens_more_often_than_it_uses(
    rows: int, columns: int, blocks: int, depth: int
) -> None:
    tiles = Tiles.of((1, rows, columns * 8, blocks, 8), (1, 1, depth), RegisterTile(8, 8), RPI4)
    plan = plan_widening(tiles, RPI4, parallel=True)
    assert rows % plan.rows == 0
    assert plan.ahead == 0 or blocks % plan.ahead == 0
    assert (rows // plan.rows) % plan.parts == 0
    once = blocks * tiles.vectors * AHEAD_CYCLES
    assert plan.ahead == 0 or plan.extra == pytest.approx(once * plan.parts)
    assert plan.extra <= tiles.count * tiles.vectors * 1.5 or plan.ahead


def test_a_weight_that_is_used_once_is_widened_in_registers() -> None:
    vector = Tiles.of((1, 1, 1, 25, 40), (1, 1, 512), RegisterTile(1, 40), RPI4)
    assert plan_widening(vector, RPI4, parallel=True).ahead == 0
    image = Tiles.of((1, 14, 14, 64, 8), (1, 1, 256), RegisterTile(7, 8), RPI4)
    assert plan_widening(image, RPI4, parallel=True).ahead > 0


@pytest.mark.parametrize(
    ("flags", "stored_as"),
    [
        ({}, Weights.FP32),
        ({"weights": "auto"}, Weights.AUTO),
        ({"prefer": "size"}, Weights.FP16),
        ({"prefer": "size", "weights": "fp32"}, Weights.FP32),
    ],
)
def test_size_means_float16_unless_told_otherwise(flags: dict[str, str], stored_as: Weights) -> None:
    options = resolve(BuildOptions, flags, environ={}).options
    assert options.stored_weights is stored_as
    again = resolve(BuildOptions, {}, project=flags, environ={}).options
    assert again == options


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (BuildOptions(), True),
        (BuildOptions(weights=Weights.AUTO), True),
        (BuildOptions(weights=Weights.AUTO, strips=False), False),
        (BuildOptions(weights=Weights.FP16), False),
        (BuildOptions(prefer=Prefer.SIZE), False),
        (BuildOptions(prefer=Prefer.SIZE, weights=Weights.FP32), False),
    ],
)
def test_chains_run_strip_by_strip_where_their_weights_may_be_float32(options: BuildOptions, expected: bool) -> None:
    assert options.runs_strips is expected


@pytest.mark.parametrize("named", [False, True])
def test_a_part_of_a_layer_has_float32_weights_and_is_not_counted_as_a_layer(named: bool) -> None:
    """The rows of a layer that runs strip by strip come from kernels of several shapes, for which one choice holds."""
    builder, kernel = relax.BlockBuilder(), weights_like(VECTOR)
    data = relax.Var("x", relax.TensorType((1, 1, 1, VECTOR.in_channels), "float32"))
    with builder.function("main", [data]):
        call = relax.op.nn.conv2d(data, relax.const(kernel), data_layout="NHWC", kernel_layout="OIHW")
        builder.emit_func_output(builder.emit(call))
    library = TunedSchedules((), Storage(Weights.AUTO))
    plans = {plan_key(VECTOR, "float32"): name_of(plan_conv2d(VECTOR, RPI4))} if named else {}
    legal = relax.transform.LegalizeOps(library.legalize_map(RPI4, plans))(builder.get())
    (call,) = [value for _, value in flat_bindings(legal["main"]) if op_name(value) == "call_tir"]
    assert str(call.args[1].fields[1].ty.dtype) == ("float32" if named else "float16")
    assert [layer.half for layer in library.storage.layers] == ([] if named else [True])


@pytest.mark.parametrize("told", [{"weights": "fp8"}, {"prefer": "speeed"}, {"weights": 16}])
def test_unknown_forms_are_refused_with_the_known_ones(told: dict[str, Any]) -> None:
    with pytest.raises(OptionError, match=r"must be one of (fp32, fp16, auto|speed, size)"):
        resolve(BuildOptions, {}, project=told, environ={})


def test_a_release_takes_the_form_of_its_weights_and_a_model_its_own(tmp_path: Path) -> None:
    models = '[[release.models]]\npath = "a.onnx"\n[[release.models]]\npath = "b.onnx"\nweights = "fp32"\n'
    (tmp_path / "tvmbuild.toml").write_text(f'[release]\nweights = "auto"\nprefer = "size"\n{models}')
    first, second = (cell.options for cell in read_plan(tmp_path).cells)
    assert (first.weights, first.prefer) == (Weights.AUTO, Prefer.SIZE)
    assert (second.weights, second.prefer) == (Weights.FP32, Prefer.SIZE)


LAYERS = (
    StoredLayer("conv a", "winograd4", 1000, 16_000, half=False, reason=DOES_NOT_PAY),
    StoredLayer("conv b", "strassen", 1_000_000, 7_000_000, half=False),
    StoredLayer("conv c", "winograd2", 1_000_000, 3_500_000, half=True),
    StoredLayer("conv d", "direct 8x8", 1_000_000, 2_100_000, half=True),
)


def test_a_build_says_why_its_library_is_larger_than_the_model() -> None:
    told = stored.lines(LAYERS)
    assert told[0] == "2 of 4 layers have their weights as float16, 5.6 MB"
    assert told[1] == f"  1: {DOES_NOT_PAY}"
    assert told[2].startswith("the weights take 12.6 MB where the model's take 12.0 MB, larger 3.0 MB by those for Str")
    assert told[2].endswith("0.1 MB by channels rounded up to whole vectors; --prefer size avoids it")
    assert "  conv a: it would not be faster" in stored.lines(LAYERS, verbose=True)
    plain = StoredLayer("conv", "direct 8x8", 1000, 4000, half=False)
    assert stored.lines([plain, plain]) == []
    small = StoredLayer("conv", "direct 8x8", 1000, 5000, half=False)
    assert stored.lines([small]) == []


def artifact(half_layers: int, **options: str) -> Artifact:
    fusion = {"weights": {"half_layers": half_layers}}
    return Artifact(Path(), Manifest("m", {}, (), (), {}, {}, {}, fusion=fusion, options=options))


@pytest.mark.parametrize(
    ("opened", "tolerance"),
    [
        (artifact(0, weights="auto"), 1e-4),
        (artifact(3, weights="auto"), Weights.AUTO.tolerance),
        (artifact(3, weights="fp16"), Weights.FP16.tolerance),
        (artifact(3, weights="fp16", precision="fp16"), 1e-2),
        (artifact(0), 1e-4),
    ],
)
def test_verify_allows_for_the_rounding_where_a_layer_has_it(opened: Artifact, tolerance: float) -> None:
    assert own_tolerance(opened, TensorSpec("y", "float32", (2,))) == tolerance
    assert own_tolerance(opened, TensorSpec("y", "int64", (2,))) == 0


def test_a_manifest_keeps_its_weights_and_refuses_foreign_ones(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    content = json.loads(MANIFEST.to_json())
    content["fusion"]["weights"] = stored.summary(LAYERS)
    content["options"] |= {"weights": "fp16", "prefer": "size"}
    path.write_text(json.dumps(content))
    manifest = read_manifest(path)
    assert manifest.fusion["weights"]["bytes"] == 12_616_000
    assert weights_of(Artifact(path, manifest)) is Weights.FP16
    for key, value in (("weights", "fp8"), ("prefer", 3)):
        path.write_text(json.dumps({**content, "options": {**content["options"], key: value}}))
        with pytest.raises(ArtifactError):
            read_manifest(path)


@given(weights=st.lists(st.floats(2.0**-14, 65504, width=32), min_size=1, max_size=20))
def test_rounding_for_the_reference_is_that_of_float16_without_its_range(weights: list[float]) -> None:
    array = np.array(weights, np.float32)
    np.testing.assert_array_equal(rounded(array), array.astype(np.float16).astype(np.float32))
    np.testing.assert_array_equal(rounded(-array * 2.0**-60), -array.astype(np.float16) * np.float32(2.0**-60))


@pytest.mark.parametrize(
    ("moved", "expected"), [((0.0, 0.0), 5e-3), ((1e-2, 2e-2), 6e-2), ((2e-2, 0.0), 6e-2), ((1.0, 0.0), MOST)]
)
def test_verify_allows_a_multiple_of_what_rounding_does_up_to_a_limit(
    moved: tuple[float, float], expected: float
) -> None:
    spec, reference = TensorSpec("y", "float32", (2,)), np.array([1.0, -2.0], np.float32)
    found = difference(spec, reference, reference, 5e-3)
    changed = (reference * np.float32(1 + share) for share in moved)
    assert allowed(found, reference, *changed) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("weights", "line"),
    [
        (stored.summary(LAYERS), "  weights 12.6 MB, in the model 12.0 MB; 2 of 4 layers as float16"),
        ({"layers": 3}, "  weights 0 B, in the model 0 B; 0 of 3 layers as float16"),
        ({}, ""),
    ],
)
def test_inspect_says_how_the_weights_of_an_artifact_lie(
    weights: dict[str, Any], line: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "m.json"
    path.write_text(dataclasses.replace(MANIFEST, fusion={**MANIFEST.fusion, "weights": weights}).to_json())
    assert run(["inspect", str(path)]) == 0
    shown = capsys.readouterr()
    found = [each for each in (shown.out + shown.err).splitlines() if each.startswith("  weights")]
    assert found == ([line] if line else [])
