"""Scales and zero points that make no sense, and integer operators written as QDQ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_models import model

from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.quantization import check_quantization
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.onnx_model.rewrites.qoperators import to_qdq
from tvmbuild.support.errors import ModelError

WEIGHT = np.random.default_rng(5).integers(-127, 128, (4, 3, 2, 2)).astype(np.int8)


def qdq(scale: Any, zero: Any, **attributes: Any) -> onnx.ModelProto:
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["v"], name="weights", **attributes),
        helper.make_node("Conv", ["x", "v"], ["y"]),
    ]
    weights = {"w": WEIGHT, "scale": np.asarray(scale), "zero": np.asarray(zero)}
    return model(nodes, {"x": [1, 3, 4, 4]}, ["y"], weights)


FOUR = np.full(4, 0.1, np.float32)
ZEROS = np.zeros(4, np.int8)


@pytest.mark.parametrize(
    ("scale", "zero", "attributes", "said"),
    [
        (np.float32(0), np.int8(0), {}, "'scale' has 0 at index 0, which is not above zero"),
        (FOUR * [1, 1, -1, 1], ZEROS, {"axis": 0}, "at index 2, which is not above zero"),
        (FOUR * [1, np.nan, 1, 1], ZEROS, {"axis": 0}, "at index 1, which is not finite"),
        (np.float32(np.inf), np.int8(0), {}, "not finite"),
        (np.float32(1e-40), np.int8(0), {}, "below the smallest normal number"),
        (FOUR[:3], ZEROS[:3], {"axis": 0}, "has 3 elements, but axis 0 of 'w' has 4"),
        (FOUR, ZEROS, {"axis": 1}, "has 4 elements, but axis 1 of 'w' has 3"),
        (FOUR, ZEROS, {"axis": 4}, "its axis 4 is outside the 4 axes of 'w'"),
        (FOUR.reshape(2, 2), ZEROS, {"axis": 0}, "has 2 axes and not one"),
        (FOUR, ZEROS[:2], {"axis": 0}, "the zero point 'zero' has 2 elements and the scale 4"),
        (np.float32(1), np.uint8(0), {}, "the zero point 'zero' is uint8, but 'w' is int8"),
    ],
)
def test_absurd_parameters_are_named(scale: Any, zero: Any, attributes: dict[str, int], said: str) -> None:
    proto = qdq(np.asarray(scale, np.float32), zero, **attributes)
    with pytest.raises(ModelError) as caught:
        check_quantization(Path("m.onnx"), proto)
    assert "DequantizeLinear 'weights'" in caught.value.message
    assert said in caught.value.message


def test_sound_parameters_pass() -> None:
    check_quantization(Path("m.onnx"), qdq(FOUR, ZEROS, axis=0))
    check_quantization(Path("m.onnx"), qdq(np.float32(0.1), np.int8(3)))


CODES = {
    "xs": np.float32(0.02),
    "xz": np.uint8(100),
    "ws": np.random.default_rng(6).uniform(0.01, 0.02, 4).astype(np.float32),
    "wz": ZEROS,
    "ys": np.float32(0.05),
    "yz": np.uint8(120),
    "w": WEIGHT,
    "b": np.array([5, -9, 100, 0], np.int32),
    "m": np.random.default_rng(7).integers(-127, 128, (4, 5)).astype(np.int8),
    "ms": np.random.default_rng(8).uniform(0.01, 0.02, 5).astype(np.float32),
    "mz": np.zeros(5, np.int8),
}
IMAGE = [1, 3, 5, 4]
INTEGER = [
    ("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz", "b"], "", {"pads": [1, 0, 1, 0]}, IMAGE, "uint8"),
    ("QLinearMatMul", ["x", "xs", "xz", "m", "ms", "mz", "ys", "yz"], "", {}, IMAGE, "uint8"),
    ("ConvInteger", ["x", "w", "xz"], "", {"strides": [2, 1]}, IMAGE, "int32"),
    ("MatMulInteger", ["x", "m", "xz", "mz"], "", {}, IMAGE, "int32"),
    ("QLinearAdd", ["x", "xs", "xz", "x", "ys", "yz", "ys", "yz"], "com.microsoft", {}, IMAGE, "uint8"),
    ("QLinearConcat", ["ys", "yz", "x", "xs", "xz", "x", "ys", "yz"], "com.microsoft", {"axis": 1}, IMAGE, "uint8"),
    ("QLinearGlobalAveragePool", ["x", "xs", "xz", "ys", "yz"], "com.microsoft", {"channels_last": 0}, IMAGE, "uint8"),
]


@pytest.mark.parametrize(("kind", "inputs", "domain", "attributes", "shape", "dtype"), INTEGER)
def test_integer_operators_become_qdq(
    kind: str,
    inputs: list[str],
    domain: str,
    attributes: dict[str, Any],
    shape: list[int],
    dtype: str,
    tmp_path: Path,
) -> None:
    node = helper.make_node(kind, inputs, ["y"], name="integer", domain=domain, **attributes)
    kinds = {"x": TensorProto.UINT8, "y": TensorProto.UINT8 if dtype == "uint8" else TensorProto.INT32}
    constants = {name: CODES[name] for name in inputs if name in CODES}
    proto = model([node], {"x": shape}, ["y"], constants, dtypes=kinds)
    onnx.save(proto, tmp_path / "m.onnx")
    codes = {"x": np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)}
    wanted = run_reference(proto, codes)["y"].astype(int)
    assert to_qdq(proto) == (f"1 {kind} rewritten to QDQ",)
    assert "DequantizeLinear" in {each.op_type for each in proto.graph.node}
    # A tie may be rounded to either of two codes; sums below 2**24 are exact.
    assert np.abs(run_reference(proto, codes)["y"].astype(int) - wanted).max() <= (dtype == "uint8")
    assert f"1 {kind} rewritten to QDQ" in prepare(tmp_path / "m.onnx").notes
