"""Integer products of the reference against exact sums in NumPy: they must not depend on the CPU.

``tests/integration/test_other_cpus.py`` runs this file on emulated CPUs without VNNI.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx_models import model

from tvmbuild.onnx_model.exact_sums import with_exact_sums
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.quantization.calibration.activation_session import ActivationSession

KINDS = {"int8": TensorProto.INT8, "uint8": TensorProto.UINT8, "int32": TensorProto.INT32, "float32": TensorProto.FLOAT}
MICROSOFT = "com.microsoft"
DEEP = 96


def extreme(dtype: str, *shape: int, seed: int = 0) -> np.ndarray:
    """Codes near the ends of their range, of one sign in runs: pairs of their products leave 16 bits."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    rng = np.random.default_rng(seed)
    codes = np.where(
        rng.random(shape) < 0.8, rng.integers(high - 9, high + 1, shape), rng.integers(low, high + 1, shape)
    )
    return codes.astype(dtype)


def product(a: np.ndarray, a_zero: Any, b: np.ndarray, b_zero: Any) -> np.ndarray:
    return (a.astype(np.int64) - np.int64(a_zero)) @ (b.astype(np.int64) - np.asarray(b_zero, np.int64))


def convolution(x: np.ndarray, x_zero: Any, w: np.ndarray, w_zero: Any, group: int) -> np.ndarray:
    x, w = x.astype(np.int64) - np.int64(x_zero), w.astype(np.int64) - np.int64(w_zero)
    windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[2:], axis=(2, 3))
    parts = zip(np.split(windows, group, axis=1), np.split(w, group), strict=True)
    return np.concatenate([np.einsum("nchwij,ocij->nohw", data, kernel) for data, kernel in parts], axis=1)


def codes_of(sums: np.ndarray, scale: float, zero: int, dtype: str) -> np.ndarray:
    return np.clip(np.rint(sums * scale) + zero, np.iinfo(dtype).min, np.iinfo(dtype).max).astype(np.int64)


PAIRS = [("uint8", "int8"), ("int8", "int8"), ("uint8", "uint8")]


@pytest.mark.parametrize("is_constant", [True, False], ids=["constant", "computed"])
@pytest.mark.parametrize("zeros", ["none", "scalar", "channel"])
@pytest.mark.parametrize(("left", "right"), [*PAIRS, ("int8", "uint8")])
def test_matmul_integer(left: str, right: str, zeros: str, is_constant: bool) -> None:
    a, b = extreme(left, 3, DEEP), extreme(right, DEEP, 5, seed=1)
    weights: dict[str, np.ndarray] = {"b": b}
    if zeros != "none":
        weights["az"] = np.array(7, left)
        weights["bz"] = np.array(3, right) if zeros == "scalar" else np.arange(5).astype(right)
    given = {"a": a} if is_constant else {"a": a, "b": weights.pop("b")}
    node = helper.make_node("MatMulInteger", ["a", "b"] + (["az", "bz"] if zeros != "none" else []), ["y"])
    dtypes = {"a": KINDS[left], "b": KINDS[right], "y": TensorProto.INT32}
    proto = model([node], {name: array.shape for name, array in given.items()}, ["y"], weights, dtypes=dtypes)
    wanted = product(a, weights.get("az", 0), b, weights.get("bz", 0))
    np.testing.assert_array_equal(run_reference(proto, given)["y"], wanted)


@pytest.mark.parametrize("weight", ["int8", "uint8"])
def test_conv_integer(weight: str) -> None:
    x, w = extreme("uint8", 1, 12, 6, 6), extreme(weight, 4, 12, 3, 3, seed=1)
    constants = {"w": w, "xz": np.uint8(9)}
    dtypes = {"x": TensorProto.UINT8, "y": TensorProto.INT32}
    proto = model(
        [helper.make_node("ConvInteger", ["x", "w", "xz"], ["y"])], {"x": x.shape}, ["y"], constants, dtypes=dtypes
    )
    np.testing.assert_array_equal(run_reference(proto, {"x": x})["y"], convolution(x, 9, w, 0, 1))


@pytest.mark.parametrize("group", [1, 2, 8])
@pytest.mark.parametrize(("data", "weight"), PAIRS)
def test_qlinear_conv(data: str, weight: str, group: int) -> None:
    x, w = extreme(data, 1, 8, 7, 6), extreme(weight, 16, 8 // group, 3, 3, seed=1)
    zero = {"int8": -3, "uint8": 125}
    constants = {"xs": np.float32(0.02), "xz": np.array(zero[data], data), "w": w}
    constants |= {"ws": np.full(16, 0.01, np.float32), "wz": np.full(16, 0 if weight == "int8" else 128, weight)}
    constants |= {"ys": np.float32(1.2 / group), "yz": np.array(zero[data], data)}
    node = helper.make_node("QLinearConv", ["x", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["y"], group=group)
    proto = model([node], {"x": x.shape}, ["y"], constants, dtypes={"x": KINDS[data], "y": KINDS[data]})
    found = run_reference(proto, {"x": x})["y"]
    assert found.dtype == data
    sums = convolution(x, zero[data], w, constants["wz"][0], group)
    wanted = codes_of(sums, 0.02 * 0.01 / (1.2 / group), zero[data], data)
    assert np.abs(found - wanted).max() <= 1, "a tie may be rounded to either code"
    assert np.unique(wanted).size > 20, "most results are within the range of the codes"


@pytest.mark.parametrize(("kind", "domain"), [("QLinearMatMul", ""), ("QGemm", MICROSOFT)])
@pytest.mark.parametrize(("data", "weight"), PAIRS)
def test_products_with_codes_as_result(data: str, weight: str, kind: str, domain: str) -> None:
    a, b = extreme(data, 4, DEEP), extreme(weight, DEEP, 6, seed=1)
    constants = {
        "as": np.float32(0.02),
        "az": np.array(5, data),
        "b": b,
        "bs": np.float32(0.01),
        "bz": np.array(2, weight),
    }
    constants |= {"ys": np.float32(3), "yz": np.array(11, data)}
    inputs = ["a", "as", "az", "b", "bs", "bz", *([""] if domain else []), "ys", "yz"]
    node = helper.make_node(kind, inputs, ["y"], domain=domain)
    proto = model([node], {"a": a.shape}, ["y"], constants, dtypes={"a": KINDS[data], "y": KINDS[data]})
    wanted = codes_of(product(a, 5, b, 2), 0.02 * 0.01 / 3, 11, data)
    assert np.abs(run_reference(proto, {"a": a})["y"] - wanted).max() <= 1


def test_products_with_real_numbers_as_result() -> None:
    a, b = extreme("int8", 4, DEEP), extreme("int8", DEEP, 6, seed=1)
    constants = {"s": np.float32(0.5), "z": np.int8(3), "b": b}
    floats = {"a": KINDS["int8"]}
    wanted = product(a, 3, b, 3) * 0.25
    for kind, inputs in (
        ("QGemm", ["a", "s", "z", "b", "s", "z"]),
        ("MatMulIntegerToFloat", ["a", "b", "s", "s", "z", "z"]),
    ):
        proto = model(
            [helper.make_node(kind, inputs, ["y"], domain=MICROSOFT)], {"a": a.shape}, ["y"], constants, dtypes=floats
        )
        np.testing.assert_allclose(run_reference(proto, {"a": a})["y"], wanted, rtol=1e-6)


def dynamic(b: np.ndarray, kind: str = "MatMulInteger") -> ModelProto:
    """A product of a float input that the model quantizes as it runs."""
    nodes = [helper.make_node("DynamicQuantizeLinear", ["x"], ["q", "s", "z"])]
    if kind == "MatMulInteger":
        nodes += [helper.make_node(kind, ["q", "b", "z", "bz"], ["i"]), helper.make_node("Cast", ["i"], ["f"], to=1)]
        nodes += [helper.make_node("Mul", ["f", "s"], ["m"]), helper.make_node("Mul", ["m", "bs"], ["y"])]
    else:
        nodes = [helper.make_node(kind, ["x", "b", "bs", "bz"], ["y"], domain=MICROSOFT)]
    return model(nodes, {"x": [3, DEEP]}, ["y"], {"b": b, "bs": np.float32(0.01), "bz": np.int8(0)})


@pytest.mark.parametrize("kind", ["MatMulInteger", "DynamicQuantizeMatMul"])
def test_chain_of_dynamic_quantization(kind: str) -> None:
    b = extreme("int8", DEEP, 5)
    x = np.random.default_rng(1).uniform(0.5, 1.0, (3, DEEP)).astype(np.float32)
    x[0, 0] = 0
    scale = float(x.max()) / 255
    wanted = product(np.rint(x / scale).astype(np.uint8), 0, b, 0) * scale * 0.01
    np.testing.assert_allclose(run_reference(dynamic(b, kind), {"x": x})["y"], wanted, rtol=1e-3)


def test_inside_a_branch_and_a_function() -> None:
    a, b = extreme("uint8", 3, DEEP), extreme("int8", DEEP, 5, seed=1)
    branches = {}
    for name, operator in (("then_branch", "MatMulInteger"), ("else_branch", "Mine")):
        out = helper.make_tensor_value_info(f"{name}_y", TensorProto.INT32, [3, 5])
        node = helper.make_node(operator, ["a", "b"], [out.name], domain="" if name == "then_branch" else "local")
        branches[name] = helper.make_graph([node], name, [], [out])
    # The same weights outside: a branch may not define a name again.
    nodes = [helper.make_node("MatMulInteger", ["a", "b"], ["z"]), helper.make_node("If", ["c"], ["y"], **branches)]
    kinds = {"c": TensorProto.BOOL, "a": TensorProto.UINT8, "y": TensorProto.INT32, "z": TensorProto.INT32}
    proto = model(nodes, {"c": [], "a": [3, DEEP]}, ["y", "z"], {"b": b}, dtypes=kinds)
    body = [helper.make_node("MatMulInteger", ["l", "r"], ["o"])]
    proto.functions.append(
        helper.make_function("local", "Mine", ["l", "r"], ["o"], body, [helper.make_opsetid("", 17)])
    )
    proto.opset_import.append(helper.make_opsetid("local", 1))
    for condition in (True, False):
        for found in run_reference(proto, {"c": np.array(condition), "a": a}).values():
            np.testing.assert_array_equal(found, product(a, 0, b, 0))


def test_external_weights_and_codes_of_an_inner_tensor(tmp_path: Path) -> None:
    a, b = extreme("uint8", 3, DEEP), extreme("int8", DEEP, 50, seed=1)
    node = helper.make_node("MatMulInteger", ["a", "b"], ["i"])
    after = helper.make_node("Cast", ["i"], ["y"], to=TensorProto.FLOAT)
    proto = model([node, after], {"a": a.shape}, ["y"], {"b": b}, dtypes={"a": TensorProto.UINT8})
    np.testing.assert_array_equal(ActivationSession(proto, ["i"]).run({"a": a})["i"], product(a, 0, b, 0))
    onnx.save(proto, tmp_path / "m.onnx", save_as_external_data=True, location="w.bin")
    np.testing.assert_array_equal(run_reference(tmp_path / "m.onnx", {"a": a}, ["i"])["i"], product(a, 0, b, 0))


def test_no_int8_is_multiplied() -> None:
    proto = dynamic(extreme("int8", DEEP, 5))
    before = proto.SerializeToString()
    written = with_exact_sums(proto)
    assert proto.SerializeToString() == before
    types = {tensor.name: tensor.data_type for tensor in written.graph.initializer}
    (node,) = [node for node in written.graph.node if node.op_type == "MatMulInteger"]
    assert all(types.get(name) != TensorProto.INT8 for name in node.input)


def test_a_model_without_int8_products_stays_as_it_is() -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [3]}, ["y"])
    assert with_exact_sums(proto) is proto
    codes = {"b": extreme("uint8", DEEP, 5)}
    node = helper.make_node("MatMulInteger", ["a", "b"], ["y"])
    unsigned = model([node], {"a": [3, DEEP]}, ["y"], codes, dtypes={"a": TensorProto.UINT8, "y": TensorProto.INT32})
    assert list(with_exact_sums(unsigned).graph.node) == [node]
    assert numpy_helper.to_array(with_exact_sums(unsigned).graph.initializer[0]).dtype == np.uint8
