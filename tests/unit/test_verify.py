from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from onnx import helper, numpy_helper
from onnx_models import model

from tvmbuild.artifact.manifest import Manifest
from tvmbuild.artifact.open import Artifact
from tvmbuild.checking import int8_rounding
from tvmbuild.checking.difference import difference, rms_ratio
from tvmbuild.checking.verify import Verification, own_tolerance, require_passed
from tvmbuild.support.errors import ArtifactError, VerificationError
from tvmbuild.support.tensor import TensorSpec

SPEC = TensorSpec("y", "float32", (2, 3))


def array(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float32).reshape(2, 3)


def test_the_largest_difference_is_found_with_its_place() -> None:
    found = difference(SPEC, array(1, 2, 3, 4, 5, -10), array(1, 2, 3, 4, 5.5, -10), 0.0)
    assert (found.largest, found.largest_reference, found.worst_index) == (0.5, 10.0, (1, 1))
    assert found.relative == pytest.approx(0.05)
    assert not found.passed


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_special_values_equal_only_themselves(value: float) -> None:
    special = array(1, value, 3, 4, 5, 6)
    assert difference(SPEC, special, special.copy(), 0.0).passed
    broken = difference(SPEC, special, array(1, 2, 3, 4, 5, 6), 0.0)
    assert broken.largest == np.inf
    assert not broken.passed
    assert not difference(SPEC, array(1, 2, 3, 4, 5, 6), special, 0.0).passed


@pytest.mark.parametrize(
    ("precision", "dtype", "allowed"),
    [("fp32", "float32", 1e-4), ("fp16", "float32", 1e-2), ("fp16", "int64", 0), ("int8-fp16", "float32", 1e-2)],
)
def test_an_artifact_in_half_precision_has_a_tolerance_of_its_own(precision: str, dtype: str, allowed: float) -> None:
    spec = TensorSpec("y", dtype, (2,))
    manifest = Manifest("m", {}, (), (spec,), {}, {}, {}, options={"precision": precision})
    assert own_tolerance(Artifact(Path(), manifest), spec) == allowed


@pytest.mark.parametrize(
    ("rounding", "dtype", "allowed"),
    [
        ({"code_bits": 8, "half": False}, "float32", 0.1),
        ({"code_bits": 8, "half": False}, "int8", 0.1),
        ({"code_bits": 16, "half": False}, "float32", 0.1 / 256),
        ({"code_bits": 16, "half": False}, "uint16", 0.1 / 256),
        ({"code_bits": 16, "half": True}, "float32", 1e-2),
        ({"code_bits": 8, "half": False}, "int64", 0),
        ({"code_bits": 0, "half": True}, "float32", 1e-2),
        ({"code_bits": 0, "half": False}, "float32", 1e-4),
        ({"code_bits": 0, "half": False}, "uint8", 0),
    ],
)
def test_the_model_says_what_its_outputs_are_rounded_to(rounding: dict[str, Any], dtype: str, allowed: float) -> None:
    """Whatever kernels it got: here none computes in integers."""
    spec = TensorSpec("y", dtype, (2,))
    manifest = Manifest("m", {"rounding": rounding}, (), (spec,), {}, {}, {})
    assert own_tolerance(Artifact(Path(), manifest), spec) == allowed


def test_a_manifest_with_an_odd_rounding_is_damaged() -> None:
    for odd in ({}, 8, {"code_bits": "many", "half": False}):
        manifest = Manifest("m", {"rounding": odd}, (), (SPEC,), {}, {}, {})
        with pytest.raises(ArtifactError, match="no usable rounding"):
            own_tolerance(Artifact(Path(), manifest), SPEC)


@pytest.mark.parametrize(("dtype", "allowed"), [("float32", 0.1), ("uint8", 0.1), ("int64", 0)])
def test_an_older_artifact_with_integer_kernels_may_differ_by_steps(dtype: str, allowed: float) -> None:
    spec = TensorSpec("y", dtype, (2,))
    manifest = Manifest("m", {}, (), (spec,), {}, {}, {}, fusion={"int8": {"int8": 10, "total": 20}})
    assert own_tolerance(Artifact(Path(), manifest), spec) == allowed


def test_integers_must_be_equal() -> None:
    spec = TensorSpec("y", "int64", (2,))
    assert difference(spec, np.array([1, 2]), np.array([1, 2]), 0.0).passed
    assert not difference(spec, np.array([1, 2]), np.array([1, 3]), 0.0).passed


def test_empty_and_all_zero_outputs() -> None:
    assert difference(TensorSpec("y", "float32", (0, 3)), np.zeros((0, 3)), np.zeros((0, 3)), 0.0).passed
    zeros = np.zeros((2, 3), np.float32)
    found = difference(SPEC, zeros, zeros, 0.0)
    assert found.passed
    assert found.cosine == 1.0
    assert not difference(SPEC, zeros, zeros + 1e-3, 0.0).passed


def test_the_error_names_the_worst_output_first() -> None:
    outputs = (
        difference(TensorSpec("good", "float32", (2, 3)), array(1, 1, 1, 1, 1, 1), array(1, 1, 1, 1, 1, 1), 0.0),
        difference(TensorSpec("bad", "float32", (2, 3)), array(1, 1, 1, 1, 1, 1), array(1, 1, 1, 1, 1, 1.01), 0.0),
        difference(TensorSpec("worse", "float32", (2, 3)), array(1, 1, 1, 1, 1, 1), array(1, 1, 1, 1, 1, 2), 0.0),
    )
    with pytest.raises(VerificationError) as caught:
        require_passed(Verification(outputs, 1, "here", (0.1,), 0))
    assert "2 of 3 outputs" in caught.value.message
    assert caught.value.message.index("worse") < caught.value.message.index("bad:")
    assert "good" not in caught.value.message


@given(hnp.arrays(np.float32, (2, 3), elements=st.floats(-100, 100, width=32)), st.floats(1e-3, 10.0))
def test_a_difference_beyond_the_tolerance_never_passes(reference: np.ndarray, gap: float) -> None:
    scale = float(np.abs(reference).max()) or 1.0
    actual = reference.astype(np.float64)
    actual[1, 2] += gap * scale
    assert not difference(SPEC, reference, actual, gap / 2).passed
    assert difference(SPEC, reference, actual, gap * 2).passed


def test_the_root_mean_square_is_over_that_of_the_reference() -> None:
    assert rms_ratio(array(3, 4, 0, 0, 0, 0), array(3, 4, 0, 0, 0, 5)) == pytest.approx(1.0)
    assert rms_ratio(array(0, 0, 0, 0, 0, 0), array(1e-5, 0, 0, 0, 0, 0)) < 0.1
    assert rms_ratio(array(1, np.nan, 3, 4, 5, np.inf), array(1, np.nan, 3, 4, 5, np.inf)) == 0.0
    assert rms_ratio(array(1, 2, 3, 4, 5, 6), array(1, 2, 3, 4, 5, np.nan)) == np.inf


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.1, 10.0])
def test_rounding_allows_much_to_an_int8_model_but_never_a_wrong_output(noise: float) -> None:
    rng = np.random.default_rng(0)
    reference = rng.normal(size=1000)
    again = reference + noise * rng.normal(size=1000)
    tolerance = int8_rounding.allowed(reference, again)
    assert tolerance >= min(2 * noise, 0.5)
    for wrong in (np.zeros(1000), np.roll(reference, 1), -reference, reference + 1, 2 * reference):
        assert rms_ratio(reference, wrong) > tolerance


def test_a_nudge_changes_floats_by_a_millionth_and_leaves_integers() -> None:
    inputs: dict[str, np.ndarray[Any, Any]] = {"x": np.ones((4, 4), np.float32), "n": np.arange(4)}
    changed = int8_rounding.nudged_inputs(inputs, 0)
    assert changed["x"].dtype == np.float32
    assert 0 < np.abs(changed["x"] - 1).max() <= 1.2e-6
    assert np.array_equal(changed["n"], inputs["n"])


def test_a_nudge_changes_data_and_no_structure() -> None:
    """Scales of codes and weights are data; what Resize, Pow, Pad, Range and size arithmetic read is structure."""
    node = helper.make_node
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], ["q"]),
        node("DequantizeLinear", ["q", "scale", "zero"], ["d"]),
        node("Constant", [], ["kernel"], value=numpy_helper.from_array(np.ones((2, 2, 1, 1), np.float32))),
        node("Conv", ["d", "kernel", "shift"], ["c"]),
        node("Resize", ["c", "", "factors"], ["r"]),
        node("Pow", ["r", "exponent"], ["p"]),
        node("Mul", ["p", "shared"], ["m"]),
        node("Resize", ["m", "", "shared"], ["y"]),
        node("DequantizeLinear", ["q", "shared", "zero"], ["z"]),
    ]
    weights = {"scale": np.float32(0.1), "zero": np.int8(0), "shift": np.ones(2, np.float32)}
    weights |= {name: np.full(4, 2, np.float32) for name in ("factors", "exponent", "shared")}
    proto = model(nodes, {"x": [1, 2, 3, 3]}, ["y", "z"], weights)
    nudged = int8_rounding.nudged_model(proto, 0)

    def constants(of: onnx.ModelProto) -> dict[str, bytes]:
        found = {tensor.name: tensor.SerializeToString() for tensor in of.graph.initializer}
        return found | {
            each.output[0]: each.SerializeToString() for each in of.graph.node if each.op_type == "Constant"
        }

    before, after = constants(proto), constants(nudged)
    assert {name for name in before if before[name] != after[name]} == {"scale", "shift", "kernel"}
    assert [each.SerializeToString() for each in nudged.graph.node if each.op_type != "Constant"] == [
        each.SerializeToString() for each in nodes if each.op_type != "Constant"
    ]
