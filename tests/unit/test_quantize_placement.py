from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, helper
from onnx_models import model
from seeded import rng

from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.onnx_model.shapes import input_specs, set_shape
from tvmbuild.quantization.fold_affine import fold_affine
from tvmbuild.quantization.graph_view import view
from tvmbuild.quantization.placement import place
from tvmbuild.quantization.qdq import WeightRule, write_qdq
from tvmbuild.quantization.scales import activation_params


def weights(*shape: int) -> np.ndarray:
    return rng().standard_normal(shape).astype(np.float32)


def node(operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> NodeProto:
    return helper.make_node(operator, list(inputs), [output], name=f"{output}_node", **attributes)


def conv(data: str, output: str) -> NodeProto:
    return node("Conv", [data, "w"], output, pads=[1, 1, 1, 1], kernel_shape=[3, 3])


def image_model(nodes: Sequence[NodeProto], outputs: Sequence[str], **extra: np.ndarray) -> onnx.ModelProto:
    """Make a model of nodes over x, float32[1, 4, 6, 6], and w, 3x3 weights of 4 channels."""
    return model(nodes, {"x": [1, 4, 6, 6]}, outputs, {"w": weights(4, 4, 3, 3), **extra})


def quantized(proto: onnx.ModelProto) -> onnx.ModelProto:
    placement = place(proto)
    seen = run_reference(proto, random_inputs(input_specs(proto)), placement.tensors)
    params = {name: activation_params(float(array.min()), float(array.max())) for name, array in seen.items()}
    for members in placement.groups:
        params.update(dict.fromkeys(members, params[members[0]]))
    return write_qdq(proto, placement, params, WeightRule())[0]


def difference(first: onnx.ModelProto, second: onnx.ModelProto) -> float:
    inputs = random_inputs(input_specs(first))
    expected, found = run_reference(first, inputs), run_reference(second, inputs)
    return max(float(np.abs(found[k] - expected[k]).max() / np.abs(expected[k]).max()) for k in expected)


def test_a_chain_behind_a_convolution_is_one_kernel() -> None:
    proto = image_model([conv("x", "a"), node("Relu", ["a"], "b"), conv("b", "c")], ["c"])
    assert place(proto).tensors == ("x", "b")


def test_a_residual_addition_belongs_to_the_later_convolution() -> None:
    nodes = [conv("x", "a"), node("Relu", ["a"], "b"), conv("b", "c"), node("Add", ["b", "c"], "d")]
    proto = image_model([*nodes, node("Relu", ["d"], "e"), conv("e", "f")], ["f"])
    assert place(proto).tensors == ("x", "b", "e")


def test_of_two_convolutions_that_are_added_one_is_stored() -> None:
    nodes = [conv("x", "a"), conv("x", "b"), node("Add", ["b", "a"], "c"), conv("c", "d")]
    assert place(image_model(nodes, ["d"])).tensors == ("x", "a", "c")


def test_a_hard_swish_written_out_is_one_activation() -> None:
    three, zero, six = (np.array(value, np.float32) for value in (3.0, 0.0, 6.0))
    nodes = [
        conv("x", "a"),
        node("Add", ["a", "three"], "b"),
        node("Clip", ["b", "zero", "six"], "c"),
        node("Mul", ["a", "c"], "d"),
        node("Div", ["d", "six"], "e"),
        conv("e", "f"),
    ]
    assert place(image_model(nodes, ["f"], three=three, zero=zero, six=six)).tensors == ("x", "e")


def test_concatenation_and_pooling_share_a_scale() -> None:
    nodes = [
        conv("x", "a"),
        node("MaxPool", ["a"], "b", kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
        conv("x", "c"),
        node("Concat", ["b", "c"], "d", axis=1),
        node("Conv", ["d", "v"], "e", kernel_shape=[1, 1]),
    ]
    placement = place(image_model(nodes, ["e"], v=weights(2, 8, 1, 1)))
    assert placement.tensors == ("x", "a", "b", "c", "d")
    assert placement.groups == (("a", "b", "c", "d"),)


def test_outputs_and_what_only_they_read_stay_float() -> None:
    proto = image_model([conv("x", "a"), node("Sigmoid", ["a"], "b")], ["b"])
    assert place(proto).tensors == ("x",)


def test_an_output_that_a_layer_reads_too_is_written_in_float() -> None:
    proto = image_model([conv("x", "a"), conv("a", "b")], ["a", "b"])
    assert place(proto).tensors == ("x", "a")
    written = quantized(proto)
    assert [value.name for value in written.graph.output] == ["a", "b"]
    assert difference(proto, written) < 0.05


def test_attention_stays_float() -> None:
    nodes = [
        node("MatMul", ["x", "q"], "a"),
        node("MatMul", ["x", "k"], "b"),
        node("Transpose", ["b"], "c", perm=[1, 0]),
        node("MatMul", ["a", "c"], "d"),
        node("Softmax", ["d"], "e"),
        node("MatMul", ["e", "a"], "f"),
        node("MatMul", ["f", "q"], "g"),
    ]
    proto = model(nodes, {"x": [5, 8]}, ["g"], {"q": weights(8, 8), "k": weights(8, 8)})
    assert place(proto).tensors == ("x", "f")


def test_a_layer_kept_in_float_reads_and_gives_floats() -> None:
    proto = image_model([conv("x", "a"), conv("a", "b"), conv("b", "c")], ["c"])
    placement = place(proto, ["b_node"])
    assert placement.tensors == ("x", "b")
    assert [layer.name for layer in placement.layers] == ["a_node", "c_node"]


def check_written(nodes: Sequence[NodeProto], shape: Sequence[int], constants: Mapping[str, np.ndarray]) -> None:
    """Check that a written model is valid, computes nearly the same, and holds int8 weights and int32 biases."""
    proto = model(nodes, {"x": list(shape)}, ["y"], constants)
    written = quantized(proto)
    set_shape(written.graph.output[0], run_reference(proto, random_inputs(input_specs(proto)))["y"].shape)
    onnx.checker.check_model(written, full_check=True)
    assert difference(proto, written) < 0.05
    kinds = {tensor.name: tensor.data_type for tensor in written.graph.initializer}
    assert kinds["w_quantized"] == onnx.TensorProto.INT8
    if "b" in constants:
        assert onnx.TensorProto.INT32 in kinds.values()
    assert not {"w", "b"} & kinds.keys()


def test_every_kind_of_layer_is_written_and_runs() -> None:
    for groups in (1, 2, 4):
        layer = node("Conv", ["x", "w", "b"], "y", kernel_shape=[3, 3], group=groups)
        check_written([layer], [1, 4, 6, 6], {"w": weights(8, 4 // groups, 3, 3), "b": weights(8)})
        layer = node("ConvTranspose", ["x", "w", "b"], "y", kernel_shape=[2, 2], strides=[2, 2], group=groups)
        check_written([layer], [1, 4, 6, 6], {"w": weights(4, 3, 2, 2), "b": weights(3 * groups)})
    check_written([node("Gemm", ["x", "w", "b"], "y", transB=1)], [5, 8], {"w": weights(6, 8), "b": weights(6)})
    check_written([node("Gemm", ["x", "w"], "y")], [5, 8], {"w": weights(8, 6)})
    product = [node("MatMul", ["x", "w"], "p"), node("Add", ["p", "b"], "y")]
    check_written(product, [2, 5, 8], {"w": weights(8, 6), "b": weights(6)})


def test_dead_channels_are_told_and_stay_exact() -> None:
    dead = weights(4, 4, 3, 3)
    dead[2] = 0.0
    proto = image_model([node("Conv", ["x", "v", "b"], "y", kernel_shape=[3, 3])], ["y"], v=dead, b=weights(4))
    placement = place(proto)
    written, notes = write_qdq(proto, placement, {"x": activation_params(-1.0, 1.0)}, WeightRule())
    assert notes == ("layer 'y_node': the weights of 1 of 4 channels are all zero",)
    inputs = random_inputs(input_specs(proto))
    channel = [run_reference(each, inputs)["y"][:, 2] for each in (proto, written)]
    np.testing.assert_allclose(channel[1], channel[0], rtol=1e-5)


def test_weights_that_two_layers_share_are_scaled_for_each() -> None:
    proto = image_model([conv("x", "a"), conv("a", "b")], ["b"])
    written = quantized(proto)
    assert sum(tensor.name.endswith("_quantized") for tensor in written.graph.initializer) == 2
    assert difference(proto, written) < 0.05


def test_affine_nodes_fold_into_every_kind_of_layer() -> None:
    for layer, shape, weight, channels in (
        (node("Conv", ["x", "w", "b"], "y", kernel_shape=[3, 3]), [1, 4, 6, 6], weights(8, 4, 3, 3), 8),
        (
            node("ConvTranspose", ["x", "w", "b"], "y", kernel_shape=[2, 2], group=2),
            [1, 4, 6, 6],
            weights(4, 3, 2, 2),
            6,
        ),
        (node("Gemm", ["x", "w", "b"], "y"), [5, 4], weights(4, 6), 6),
    ):
        image = len(shape) == 4
        per_channel = (channels, 1, 1) if image else (channels,)
        constants = {"w": weight, "b": weights(channels), "s": weights(*per_channel), "t": weights(*per_channel)}
        nodes = [layer, node("Mul", ["s", "y"], "m"), node("Sub", ["m", "t"], "n"), node("Add", ["n", "one"], "o")]
        constants |= {name: weights(channels) for name in ("gamma", "beta", "mean")}
        constants |= {"one": np.ones(1, np.float32), "variance": weights(channels) ** 2 + 0.1}
        if image:
            nodes.append(node("BatchNormalization", ["o", "gamma", "beta", "mean", "variance"], "z"))
        proto = model(nodes, {"x": shape}, [nodes[-1].output[0]], constants)
        folded, count = fold_affine(proto)
        assert [each.op_type for each in folded.graph.node] == [layer.op_type]
        assert count == len(nodes) - 1
        assert difference(proto, folded) < 1e-5


def test_what_cannot_fold_is_left() -> None:
    shift = weights(1, 1, 6, 6)
    shared = image_model(
        [conv("x", "a"), node("Mul", ["a", "s"], "b"), node("Add", ["a", "b"], "c")], ["c"], s=weights(1)
    )
    spatial = image_model([conv("x", "a"), node("Add", ["a", "t"], "b")], ["b"], t=shift)
    divided = image_model([conv("x", "a"), node("Div", ["s", "a"], "b")], ["b"], s=weights(1))
    output = image_model([conv("x", "a"), node("Mul", ["a", "s"], "b")], ["a", "b"], s=weights(1))
    zero = image_model([conv("x", "a"), node("Div", ["a", "s"], "b")], ["b"], s=np.zeros(1, np.float32))
    for proto in (shared, spatial, divided, output, zero):
        assert fold_affine(proto)[1] == 0


def test_gates_end_at_what_others_read() -> None:
    nodes = [conv("x", "a"), node("Sigmoid", ["a"], "b"), node("Mul", ["a", "b"], "c"), node("Relu", ["b"], "d")]
    assert view(image_model(nodes, ["c", "d"])).gates == {}
    assert len(view(image_model(nodes[:3], ["c"])).gates) == 1
