"""Reading files: whole, damaged and hostile ones."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from onnx_models import model, relu_model, saved

from tvmbuild.onnx_model.intake.names import unsafe_reason
from tvmbuild.onnx_model.intake.open import load_external_data, open_model
from tvmbuild.support.errors import ModelError


def test_hash_is_that_of_the_file(tmp_path: Path) -> None:
    path = saved(relu_model(), tmp_path)
    opened = open_model(path)
    assert opened.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert opened.external == ()
    assert opened.notes == ()


def test_missing_file_lists_its_neighbours(tmp_path: Path) -> None:
    saved(relu_model(), tmp_path, "other.onnx")
    with pytest.raises(ModelError, match="does not exist") as caught:
        open_model(tmp_path / "m.onnx")
    assert "other.onnx" in caught.value.hint


def test_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        open_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\x89PNG\r\n\x1a\n" + bytes(64), b"<html></html>", bytes(100)])
def test_foreign_content_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match="not an ONNX model"):
        open_model(path)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(share=st.floats(0, 0.999))
def test_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    weights = {"w": np.ones((3, 4), np.float32)}
    proto = model([helper.make_node("MatMul", ["x", "w"], ["y"])], {"x": [2, 3]}, ["y"], weights)
    # The opset comes after the graph, so that every cut takes something that is needed.
    data = proto.SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(ModelError):
        open_model(path)


def test_old_file_format_is_refused(tmp_path: Path) -> None:
    proto = relu_model()
    proto.ir_version = 2
    with pytest.raises(ModelError, match="IR version 2"):
        open_model(saved(proto, tmp_path))


def test_unknown_operator_version_is_refused(tmp_path: Path) -> None:
    proto = model([helper.make_node("HardSwish", ["x"], ["y"])], {"x": [2]}, ["y"], opset=9)
    with pytest.raises(ModelError, match="not a valid ONNX model"):
        open_model(saved(proto, tmp_path))


def test_cycle_is_refused_with_its_nodes(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", ["x", "c"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
        helper.make_node("Neg", ["b"], ["c"], name="third"),
        helper.make_node("Abs", ["c"], ["y"], name="outside"),
    ]
    with pytest.raises(ModelError, match="cycle of 3 nodes") as caught:
        open_model(saved(model(nodes, {"x": [2]}, ["y"]), tmp_path))
    assert "first -> second -> third -> first" in caught.value.message
    assert "outside" not in caught.value.message


def test_node_that_reads_itself_is_a_cycle(tmp_path: Path) -> None:
    proto = model([helper.make_node("Add", ["x", "y"], ["y"], name="loop")], {"x": [2]}, ["y"])
    with pytest.raises(ModelError, match="cycle of 1 node"):
        open_model(saved(proto, tmp_path))


def test_unsorted_nodes_are_sorted(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Neg", ["x"], ["a"])]
    opened = open_model(saved(model(nodes, {"x": [2]}, ["y"]), tmp_path))
    assert [node.op_type for node in opened.proto.graph.node] == ["Neg", "Relu"]
    assert "sorted" in opened.notes[0]


def test_two_writers_of_a_tensor_are_refused(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"]), helper.make_node("Neg", ["x"], ["y"])]
    with pytest.raises(ModelError, match="two nodes write"):
        open_model(saved(model(nodes, {"x": [2]}, ["y"]), tmp_path))


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\nb", "../../etc/passwd", "a/../b", "x\u202ey", "..\\up"])
@pytest.mark.parametrize("where", ["input", "node", "graph"])
def test_unsafe_names_are_refused_and_escaped(tmp_path: Path, name: str, where: str) -> None:
    proto = relu_model()
    if where == "input":
        proto.graph.input[0].name = proto.graph.node[0].input[0] = name
    elif where == "node":
        proto.graph.node[0].name = name
    else:
        proto.graph.name = name
    with pytest.raises(ModelError) as caught:
        open_model(saved(proto, tmp_path))
    assert caught.value.message.isprintable()


def test_unsafe_file_name_is_refused(tmp_path: Path) -> None:
    path = saved(relu_model(), tmp_path, "a\x1bb.onnx")
    with pytest.raises(ModelError, match=r"U\+001B"):
        open_model(path)


@given(st.text(st.characters(categories=["L", "N", "P", "S"])).filter(lambda name: ".." not in name))
def test_printable_names_are_fine(name: str) -> None:
    assert unsafe_reason(name) == ""


@given(st.text(), st.characters(categories=["Cc"]), st.text())
def test_control_characters_are_not(before: str, control: str, after: str) -> None:
    assert unsafe_reason(before + control + after)


@pytest.mark.parametrize(
    "name", ["/model.0/conv/Conv_output_0", "input.1", "a..b", "StatefulPartitionedCall:2", "输入"]
)
def test_names_of_real_exporters_are_fine(name: str) -> None:
    assert unsafe_reason(name) == ""


@pytest.mark.parametrize("dims", [[2**40], [2**20, 2**20], [-5]])
def test_gigantic_weight_is_refused(tmp_path: Path, dims: list[int]) -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [2]}, ["y"], {"w": np.ones(2, np.float32)})
    proto.graph.initializer[0].ClearField("dims")
    proto.graph.initializer[0].dims.extend(dims)
    with pytest.raises(ModelError, match="'w' is declared as"):
        open_model(saved(proto, tmp_path))


def test_weight_with_too_few_bytes_is_refused(tmp_path: Path) -> None:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [2]}, ["y"], {"w": np.ones(2, np.float32)})
    proto.graph.initializer[0].raw_data = b"1234"
    with pytest.raises(ModelError, match=r"8 bytes\), but has 4"):
        open_model(saved(proto, tmp_path))


def _external(location: str, **entries: str) -> onnx.ModelProto:
    proto = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [4]}, ["y"], {"w": np.ones(4, np.float32)})
    tensor = proto.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return proto


def test_external_data_is_listed_and_loaded(tmp_path: Path) -> None:
    content = np.arange(4, dtype=np.float32).tobytes()
    (tmp_path / "w.bin").write_bytes(content)
    opened = open_model(saved(_external("w.bin"), tmp_path))
    assert [(file.name, file.size, file.sha256) for file in opened.external] == [
        ("w.bin", 16, hashlib.sha256(content).hexdigest())
    ]
    load_external_data(opened, opened.proto)
    assert onnx.numpy_helper.to_array(opened.proto.graph.initializer[0]).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "location", ["../w.bin", "/etc/passwd", "a/../../w.bin", "", "C:\\w.bin", "..\\w.bin", "link.bin"]
)
def test_external_data_outside_the_folder_is_refused(tmp_path: Path, location: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "w.bin").write_bytes(bytes(16))
    (folder / "link.bin").symlink_to(tmp_path / "w.bin")
    with pytest.raises(ModelError, match="outside the model's folder"):
        open_model(saved(_external(location), folder))


def test_missing_external_data_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"missing: w\.bin"):
        open_model(saved(_external("w.bin"), tmp_path))


@pytest.mark.parametrize("entries", [{}, {"offset": "4", "length": "16"}, {"offset": "-4"}, {"offset": "x"}])
def test_external_data_that_is_too_short_is_refused(tmp_path: Path, entries: dict[str, str]) -> None:
    (tmp_path / "w.bin").write_bytes(bytes(15))
    with pytest.raises(ModelError, match=r"needs bytes|no number"):
        open_model(saved(_external("w.bin", **entries), tmp_path))


def test_functions_are_inlined(tmp_path: Path) -> None:
    proto = model([helper.make_node("Twice", ["x"], ["y"], domain="my")], {"x": [2]}, ["y"])
    body = [helper.make_node("Add", ["a", "a"], ["b"])]
    proto.functions.append(helper.make_function("my", "Twice", ["a"], ["b"], body, [helper.make_opsetid("", 17)]))
    opened = open_model(saved(proto, tmp_path))
    assert [node.op_type for node in opened.proto.graph.node] == ["Add"]
