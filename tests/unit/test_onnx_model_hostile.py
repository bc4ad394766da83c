"""Small files that ask for much: each is refused by name, quickly, and with the flag that raises the limit."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import FunctionProto, TensorProto, helper, numpy_helper
from onnx_models import model, relu_model, saved

from tvmbuild.onnx_model.intake.open import open_model
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.rewrites import fold
from tvmbuild.onnx_model.rewrites.fold import fold_constants
from tvmbuild.onnx_model.shapes import freeze_shapes
from tvmbuild.support.budget import Budget, Limits
from tvmbuild.support.errors import LimitError, ModelError, ShapeError, UnsupportedOperatorError

_OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]


def _function(name: str, called: list[str]) -> FunctionProto:
    """A function that calls others one after the other, or Relu."""
    names = ["a", *(f"t{index}" for index in range(len(called) - 1)), "b"]
    nodes = [
        helper.make_node(each, [names[index]], [names[index + 1]], domain="" if each == "Relu" else "own")
        for index, each in enumerate(called)
    ]
    return helper.make_function("own", name, ["a"], ["b"], nodes, _OPSETS)


def _with_functions(functions: list[FunctionProto]) -> onnx.ModelProto:
    proto = model([helper.make_node(functions[-1].name, ["x"], ["y"], domain="own")], {"x": [1, 4]}, ["y"])
    proto.functions.extend(functions)
    return proto


@pytest.mark.parametrize("depth", [18, 90])
def test_nested_functions_are_counted_before_they_are_inlined(tmp_path: Path, depth: int) -> None:
    functions = [_function("F0", ["Relu"])]
    functions += [_function(f"F{level}", [f"F{level - 1}"] * 2) for level in range(1, depth + 1)]
    with pytest.raises(LimitError, match="with its functions inlined has") as caught:
        open_model(saved(_with_functions(functions), tmp_path))
    assert "--limit nodes=" in caught.value.hint


def test_functions_nested_too_deep_are_refused(tmp_path: Path) -> None:
    functions = [_function("F0", ["Relu"])]
    functions += [_function(f"F{level}", [f"F{level - 1}"]) for level in range(1, 1500)]
    with pytest.raises(ModelError, match="depth exceeds limit"):
        open_model(saved(_with_functions(functions), tmp_path))


def test_functions_that_call_each_other_are_refused(tmp_path: Path) -> None:
    functions = [_function("F0", ["F1"]), _function("F1", ["F0"])]
    with pytest.raises(ModelError):
        open_model(saved(_with_functions(functions), tmp_path))


def test_functions_are_inlined_within_the_limit(tmp_path: Path) -> None:
    functions = [_function("F0", ["Relu", "Relu"]), _function("F1", ["F0", "F0", "Relu"])]
    path = saved(_with_functions(functions), tmp_path)
    assert [node.op_type for node in open_model(path, Budget(path, Limits(nodes=5))).proto.graph.node] == ["Relu"] * 5
    with pytest.raises(LimitError):
        open_model(path, Budget(path, Limits(nodes=4)))


@pytest.mark.parametrize(("count", "elements"), [(1, 1_000_000_000), (40, 500_000_000)])
def test_large_constants_are_refused_before_they_are_computed(tmp_path: Path, count: int, elements: int) -> None:
    nodes = [helper.make_node("ConstantOfShape", ["s"], [f"c{index}"]) for index in range(count)]
    nodes += [helper.make_node("ReduceSum", [f"c{index}"], [f"r{index}"], keepdims=0) for index in range(count)]
    nodes.append(helper.make_node("Sum", ["x", *(f"r{index}" for index in range(count))], ["y"]))
    path = saved(model(nodes, {"x": [1, 4]}, ["y"], {"s": np.array([elements])}), tmp_path)
    with pytest.raises(LimitError, match="constants that folding computes") as caught:
        prepare(path)
    assert "--limit bytes=" in caught.value.hint


def test_constants_grown_from_small_ones_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Expand", ["w", "s"], ["e"]), helper.make_node("ReduceMax", ["e"], ["r"], keepdims=0)]
    nodes.append(helper.make_node("Add", ["x", "r"], ["y"]))
    weights = {"w": np.ones(1, np.float32), "s": np.array([30_000, 30_000])}
    with pytest.raises(LimitError, match="take 3,599,999,9"):
        prepare(saved(model(nodes, {"x": [1, 4]}, ["y"], weights), tmp_path))


def test_constants_made_of_weights_are_allowed(tmp_path: Path) -> None:
    nodes = [helper.make_node("Transpose", ["w"], ["t"]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    proto = model(nodes, {"x": [1, 64]}, ["y"], {"w": np.ones((64, 64), np.float32)})
    prepared = prepare(saved(proto, tmp_path), limits=Limits(bytes=1))
    assert [node.op_type for node in prepared.proto.graph.node] == ["MatMul"]


def _loop(rounds: int) -> onnx.ModelProto:
    infos = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Add", ["v", "v"], ["w"])],
        "body",
        [infos("i", TensorProto.INT64, []), infos("go", TensorProto.BOOL, []), infos("v", TensorProto.FLOAT, [1, 4])],
        [infos("on", TensorProto.BOOL, []), infos("w", TensorProto.FLOAT, [1, 4])],
    )
    nodes = [helper.make_node("Loop", ["m", "c", "k"], ["q"], body=body), helper.make_node("Add", ["x", "q"], ["y"])]
    weights = {"m": np.array(rounds), "c": np.array(True), "k": np.ones((1, 4), np.float32)}
    return model(nodes, {"x": [1, 4]}, ["y"], weights)


def test_a_constant_loop_ends_with_the_time(tmp_path: Path) -> None:
    with pytest.raises(LimitError, match="folding its constants was not done") as caught:
        prepare(saved(_loop(1 << 62), tmp_path), limits=Limits(seconds=2))
    assert "--limit seconds=" in caught.value.hint


def test_a_constant_loop_of_few_rounds_is_folded(tmp_path: Path) -> None:
    prepared = prepare(saved(_loop(3), tmp_path))
    assert [node.op_type for node in prepared.proto.graph.node] == ["Add"]


def test_shapes_that_double_at_each_node_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Shape", ["x"], ["s0"])]
    nodes += [helper.make_node("Concat", [f"s{index}"] * 2, [f"s{index + 1}"], axis=0) for index in range(40)]
    nodes += [helper.make_node("ReduceSum", ["s40"], ["r"], keepdims=0), helper.make_node("Cast", ["r"], ["f"], to=1)]
    nodes.append(helper.make_node("Add", ["x", "f"], ["y"]))
    with pytest.raises(LimitError, match="inferring its shapes takes more memory") as caught:
        prepare(saved(model(nodes, {"x": [1, 4]}, ["y"]), tmp_path), limits=Limits(memory=256 << 20))
    assert "--limit memory=" in caught.value.hint


def test_unrolled_layers_are_counted(tmp_path: Path) -> None:
    weights = {"w": np.ones((1, 8, 4), np.float32), "r": np.ones((1, 8, 2), np.float32)}
    proto = model([helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=2)], {"x": [60, 1, 4]}, ["y"], weights)
    with pytest.raises(LimitError, match="with its recurrent layers unrolled"):
        prepare(saved(proto, tmp_path), limits=Limits(nodes=1000))


def test_weights_that_share_a_file_are_counted(tmp_path: Path) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(4096))
    names = [f"w{index}" for index in range(50)]
    proto = model([helper.make_node("Sum", ["x", *names], ["y"])], {"x": [1024]}, ["y"])
    for name in names:
        tensor = proto.graph.initializer.add(
            name=name, data_type=TensorProto.FLOAT, dims=[1024], data_location=TensorProto.EXTERNAL
        )
        tensor.external_data.add(key="location", value="w.bin")
    path = saved(proto, tmp_path)
    assert len(open_model(path).external) == 1
    with pytest.raises(LimitError, match="weights that share bytes of their files take 200,704 bytes"):
        open_model(path, Budget(path, Limits(bytes=1 << 16)))


@pytest.mark.parametrize("place", ["input", "weight", "inside", "given"])
def test_a_tensor_of_too_many_axes_is_refused(tmp_path: Path, place: str) -> None:
    proto = model([helper.make_node("Relu", ["x"], ["y"])], {"x": [1] * 1000 if place == "input" else [2]}, ["y"])
    if place == "weight":
        proto.graph.node[0].CopyFrom(helper.make_node("Add", ["x", "w"], ["y"]))
        proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1] * 65, [1.0]))
    if place == "inside":
        proto.graph.node[0].CopyFrom(helper.make_node("Unsqueeze", ["x", "axes"], ["y"]))
        proto.graph.initializer.append(numpy_helper.from_array(np.arange(64), "axes"))
    if place == "given":
        proto.graph.input[0].type.tensor_type.ClearField("shape")
        with pytest.raises(ShapeError, match="has 70 dimensions"):
            freeze_shapes(proto, {"x": (1,) * 70})
        return
    with pytest.raises(ModelError, match="axes, more than the 64"):
        prepare(saved(proto, tmp_path))


def test_a_pipe_is_no_model(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "m.onnx")
    with pytest.raises(ModelError, match="is no plain file"):
        open_model(tmp_path / "m.onnx")


def test_a_file_larger_than_a_message_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    with path.open("wb") as stream:
        stream.truncate(1 << 31)
    with pytest.raises(ModelError, match="2147483648 bytes; an ONNX file has at most"):
        open_model(path)


def test_a_model_without_outputs_is_not_called_truncated(tmp_path: Path) -> None:
    proto = relu_model()
    del proto.graph.output[:]
    with pytest.raises(ModelError, match="has 1 nodes and no output"):
        open_model(saved(proto, tmp_path))


_REFUSED = ["INT4", "UINT4", "FLOAT4E2M1", "COMPLEX64"]
_REFUSED += [name for name in ("INT2", "UINT2", "FLOAT6E2M3") if name in TensorProto.DataType.keys()]  # noqa: SIM118


@pytest.mark.parametrize("name", _REFUSED)
@pytest.mark.parametrize("place", ["weight", "cast", "input", "branch"])
def test_dtypes_that_cannot_be_compiled_are_refused_by_name(tmp_path: Path, name: str, place: str) -> None:
    number = TensorProto.DataType.Value(name)
    cast, back = helper.make_node("Cast", ["x"], ["c"], to=number), helper.make_node("Cast", ["c"], ["y"], to=1)
    weight = TensorProto(name="w", data_type=number, dims=[4], raw_data=bytes(4 * 8 if name == "COMPLEX64" else 2))
    if name in ("INT2", "UINT2", "FLOAT6E2M3"):
        weight.raw_data = bytes({"INT2": 1, "UINT2": 1, "FLOAT6E2M3": 4}[name])
    branch = helper.make_graph([cast, back], "b", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, [4])])
    nodes = {
        "weight": [helper.make_node("Cast", ["w"], ["c"], to=1), helper.make_node("Add", ["x", "c"], ["y"])],
        "cast": [cast, back],
        "input": [helper.make_node("Cast", ["x"], ["y"], to=1)],
        "branch": [helper.make_node("If", ["t"], ["y"], then_branch=branch, else_branch=branch)],
    }[place]
    proto = model(nodes, {"x": [4]}, ["y"], {"t": np.array(True)}, opset=onnx.defs.onnx_opset_version())
    proto.ir_version = onnx.IR_VERSION
    if place == "weight":
        proto.graph.initializer.append(weight)
    if place == "input":
        proto.graph.input[0].type.tensor_type.elem_type = number
    with pytest.raises(UnsupportedOperatorError, match=f"not supported: {name.lower()} "):
        open_model(saved(proto, tmp_path))


@pytest.mark.parametrize("name", ["STRING", "FLOAT8E5M2"])
def test_inputs_of_dtypes_that_only_constants_may_have_are_refused(tmp_path: Path, name: str) -> None:
    number = TensorProto.DataType.Value(name)
    proto = model([helper.make_node("Cast", ["x"], ["y"], to=1)], {"x": [4]}, ["y"], opset=19, dtypes={"x": number})
    with pytest.raises(UnsupportedOperatorError, match=f"not supported: {name.lower()} \\('x'\\)"):
        open_model(saved(proto, tmp_path))


def test_unused_weights_go_when_the_model_is_opened(tmp_path: Path) -> None:
    proto = relu_model()
    proto.graph.initializer.extend(numpy_helper.from_array(np.ones(1, np.float32), f"w{index}") for index in range(500))
    assert not open_model(saved(proto, tmp_path)).proto.graph.initializer


def test_folding_takes_work_in_proportion_to_the_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    from onnxslim.third_party.onnx_graphsurgeon.ir.tensor import Variable

    calls = 0
    plain = Variable.__eq__

    def counting(self: object, other: object) -> bool:
        nonlocal calls
        calls += 1
        return bool(plain(self, other))

    monkeypatch.setattr(Variable, "__eq__", counting)
    counts = []
    for size in (100, 200):
        names = [f"x{index}" for index in range(size)]
        proto = model([helper.make_node("Sum", names, ["y"])], {name: [1, 4] for name in names}, ["y"])
        calls = 0
        folded = fold_constants(proto)
        assert [value.name for value in folded.graph.input] == names
        assert [node.op_type for node in folded.graph.node] == ["Sum"]
        counts.append(calls)
    assert counts[1] <= 2 * counts[0] + 100


def test_many_inputs_are_folded_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = [
        helper.make_node("Shape", ["x1"], ["s"]),
        helper.make_node("Reshape", ["x0", "s"], ["a"]),
        helper.make_node("Identity", ["x2"], ["b"]),
        helper.make_node("Add", ["a", "b"], ["y"]),
    ]
    proto = model(nodes, {"x0": [4, 2], "x1": [2, 4], "x2": [2, 4], "unused": [1]}, ["y"])
    few = fold_constants(onnx.ModelProto.FromString(proto.SerializeToString()))
    monkeypatch.setattr(fold, "_MANY_INPUTS", 1)
    many = fold_constants(proto)
    assert [node.op_type for node in many.graph.node] == [node.op_type for node in few.graph.node] == ["Reshape", "Add"]
    assert [value.name for value in many.graph.input] == ["x0", "x1", "x2", "unused"]
    assert many.opset_import == few.opset_import
