"""What a model rounds to, read off the model, and how closely prepared models are compared by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from onnx_models import model, saved
from seeded import rng

from tvmbuild.onnx_model import prepare as prepare_module
from tvmbuild.onnx_model.compare import Allowed, allowed, check_same, same
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.rounding import Rounding, rounding_of
from tvmbuild.support.errors import PreparationError

NODE = helper.make_node


def quantized(zero: Any, **attributes: Any) -> ModelProto:
    inputs = ["x", "s"] + (["z"] if zero is not None else [])
    nodes = [NODE("QuantizeLinear", inputs, ["q"], **attributes), NODE("DequantizeLinear", ["q", *inputs[1:]], ["y"])]
    weights = {"s": np.float32(0.1)} | ({"z": zero} if zero is not None else {})
    return model(nodes, {"x": [3]}, ["y"], weights, opset=21)


@pytest.mark.parametrize(
    ("zero", "attributes", "bits"),
    [
        (np.int8(0), {}, 8),
        (np.uint8(3), {}, 8),
        (np.int16(0), {}, 16),
        (np.uint16(9), {}, 16),
        (None, {}, 8),
        (None, {"output_dtype": TensorProto.UINT16}, 16),
    ],
)
def test_bits_of_the_codes(zero: Any, attributes: dict[str, int], bits: int) -> None:
    assert rounding_of(quantized(zero, **attributes)) == Rounding(code_bits=bits)


def test_the_narrowest_codes_decide() -> None:
    proto = quantized(np.int16(0))
    proto.graph.node.append(NODE("DynamicQuantizeLinear", ["x"], ["a", "b", "c"]))
    assert rounding_of(proto) == Rounding(code_bits=8)
    assert (Rounding(8).step, Rounding(16).step, Rounding().step) == (1.0, 1 / 256, 0.0)


def test_constants_are_rounded_once() -> None:
    nodes = [NODE("QuantizeLinear", ["w", "s"], ["q"]), NODE("DequantizeLinear", ["q", "s"], ["d"])]
    nodes.append(NODE("MatMul", ["x", "d"], ["y"]))
    proto = model(nodes, {"x": [2, 3]}, ["y"], {"w": np.ones((3, 3), np.float32), "s": np.float32(0.1)})
    assert rounding_of(proto) == Rounding()


def half_inside() -> ModelProto:
    """float32 in and out; half precision between."""
    weights = {"w": np.random.default_rng(0).standard_normal((3, 3)).astype(np.float16)}
    nodes = [
        NODE("Cast", ["x"], ["h"], to=TensorProto.FLOAT16),
        NODE("MatMul", ["h", "w"], ["m"], name="product"),
        NODE("Cast", ["m"], ["y"], to=TensorProto.FLOAT),
    ]
    return model(nodes, {"x": [2, 3]}, ["y"], weights)


def test_half_precision_is_found_wherever_it_is() -> None:
    assert rounding_of(half_inside()).half
    cast = NODE("Cast", ["x"], ["t"], to=TensorProto.BFLOAT16)
    back = NODE("Cast", ["t"], ["y"], to=TensorProto.FLOAT)
    assert rounding_of(model([cast, back], {"x": [2]}, ["y"])).half
    call = model([NODE("Mine", ["x"], ["y"], domain="local")], {"x": [2]}, ["y"])
    call.functions.append(helper.make_function("local", "Mine", ["x"], ["y"], [cast, back], call.opset_import))
    assert rounding_of(call).half
    out = helper.make_tensor_value_info("t", TensorProto.FLOAT, [2])
    inner = helper.make_graph([cast, NODE("Cast", ["t"], ["u"], to=TensorProto.FLOAT)], "inner", [], [out])
    branch = model([NODE("If", ["c"], ["y"], then_branch=inner, else_branch=inner)], {"c": [], "x": [2]}, ["y"])
    assert rounding_of(branch).half
    assert rounding_of(model([NODE("Relu", ["x"], ["y"])], {"x": [2]}, ["y"])) == Rounding()


def test_weights_that_are_only_kept_in_half_do_not_count() -> None:
    """They are cast at once: everything is computed in float32."""
    nodes = [NODE("Cast", ["w"], ["wide"], to=TensorProto.FLOAT), NODE("MatMul", ["x", "wide"], ["y"])]
    kept = np.ones((3, 3), np.float16)
    proto = model(nodes, {"x": [2, 3]}, ["y"], {"w": kept})
    proto.graph.value_info.append(helper.make_tensor_value_info("w", TensorProto.FLOAT16, [3, 3]))
    assert not rounding_of(proto).half
    # A product in half precision, though nothing is declared.
    direct = model([NODE("MatMul", ["x", "w"], ["y"])], {"x": [2, 3]}, ["y"], {"w": kept})
    assert rounding_of(direct).half


def test_the_loosest_reason_decides() -> None:
    plain, half, codes = Rounding(), Rounding(half=True), Rounding(code_bits=8)
    assert allowed(plain) == Allowed(1e-5, 0.0)
    assert allowed(plain, reordered=True) == Allowed(1e-4, 0.0)
    assert allowed(half) == allowed(half, reordered=True) == Allowed(4e-3, 0.0)
    assert allowed(codes) == Allowed(1e-5, 0.0)
    assert allowed(codes, reordered=True) == allowed(half, rewritten=True) == Allowed(0.1, 0.1)


def test_whole_numbers_stay_exact_beside_half_precision() -> None:
    wanted, got = np.array([1000, 5]), np.array([999, 5])
    assert not same(wanted, got, allowed(Rounding(half=True)))
    assert same(wanted, got, allowed(Rounding(), rewritten=True))
    assert not same(np.array([2**60]), np.array([2**60 + 1]))


def test_float_outputs_with_half_precision_inside_may_round_as_half() -> None:
    x = {"x": np.ones((2, 3), np.float32)}
    original, moved, wrong = half_inside(), half_inside(), half_inside()
    for proto, by in ((moved, 1e-3), (wrong, 0.1)):
        weight = np.frombuffer(proto.graph.initializer[0].raw_data, np.float16)
        proto.graph.initializer[0].raw_data = (weight * np.float16(1 + by)).tobytes()
    check_same(Path("m.onnx"), original, Path(), moved, x)
    with pytest.raises(PreparationError, match="MatMul 'product'") as caught:
        check_same(Path("m.onnx"), original, Path(), wrong, x)
    assert "opset 13" not in caught.value.hint


def modulated(kind: type[np.floating[Any]]) -> ModelProto:
    """Convolutions whose weights are scaled at run time, one after the other."""
    weights = {name: rng().standard_normal((8, 8, 3, 3)).astype(kind) for name in ("w0", "w1")}
    nodes = []
    for index, data in enumerate(("x", "c0")):
        nodes.append(NODE("Mul", [f"w{index}", "s"], [f"m{index}"]))
        nodes.append(NODE("Conv", [data, f"m{index}"], [f"c{index}"]))
    dtype = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    shapes = {"x": [1, 8, 9, 9], "s": [1, 8, 1, 1]}
    return model(nodes, shapes, ["c1"], weights, opset=20, dtypes=dict.fromkeys(("x", "s", "c1"), dtype))


def test_half_precision_with_scaled_weights_is_compared_as_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(*arguments: Any, **more: Any) -> Any:
        seen.append(allowed(*arguments, **more))
        return seen[-1]

    # The comparison itself runs in a child of this process.
    monkeypatch.setattr(prepare_module, "allowed", spy)
    prepared = prepare(saved(modulated(np.float16), tmp_path))
    assert any("weights scaled at run time" in note for note in prepared.notes)
    assert prepared.rounding == Rounding(half=True)
    assert seen == [Allowed(4e-3, 0.0)]
