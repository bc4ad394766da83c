"""NHWC from end to end: which operators follow, which transpositions stay and why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from seeded import rng
from tvm import relax

from tvmbuild.graph.layout.nhwc import to_channels_last
from tvmbuild.graph.layout.sink_reshapes import sink_reshapes
from tvmbuild.graph.report import PassReport
from tvmbuild.graph.rewriter import array, flat_bindings, op_name, shape_of
from tvmbuild.graph.simplify import simplify

SHAPE = (1, 6, 8, 10)


def const(*shape: int) -> Any:
    return relax.const(rng().standard_normal(shape).astype("float32"))


def build(body: Callable[[Any, Any], Any], shape: tuple[int, ...] = SHAPE) -> Any:
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(shape, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, data))
        builder.emit_func_output(result)
    return builder.finalize()


def conv(b: Any, x: Any) -> Any:
    channels = shape_of(x)[1]
    return b.emit(relax.op.nn.conv2d(x, const(channels, channels, 3, 3), padding=1))


def ops(mod: Any) -> list[str]:
    return [op_name(value) for _, value in flat_bindings(mod["main"])]


def convert(mod: Any) -> tuple[Any, PassReport, PassReport]:
    mod, (layout, transpositions) = to_channels_last(mod)
    relax.analysis.well_formed(mod)
    return mod, layout, transpositions


#: What may stand between two convolutions without a transposition.
FOLLOWERS: dict[str, Callable[[Any, Any], Any]] = {
    "relu": lambda b, x: b.emit(relax.op.nn.relu(x)),
    "clip": lambda b, x: b.emit(relax.op.clip(x, 0, 6)),
    "bias": lambda b, x: b.emit(relax.op.add(x, const(1, 6, 1, 1))),
    "bias of lower rank": lambda b, x: b.emit(relax.op.add(const(6, 1, 1), x)),
    "full constant": lambda b, x: b.emit(relax.op.multiply(x, const(*SHAPE))),
    "scalar": lambda b, x: b.emit(relax.op.multiply(x, relax.const(np.float32(2)))),
    "residual": lambda b, x: b.emit(relax.op.add(x, conv(b, x))),
    "prelu": lambda b, x: b.emit(relax.op.nn.prelu(x, const(6))),
    "concat": lambda b, x: b.emit(relax.op.concat([x, conv(b, x)], axis=1)),
    "concat of rows": lambda b, x: b.emit(relax.op.concat([x, x], axis=-2)),
    "slice": lambda b, x: b.emit(relax.op.strided_slice(x, [1, 3], [0, 1], [4, 9], [1, 2])),
    "split": lambda b, x: b.emit(b.emit(relax.op.split(x, 2, axis=1))[1]),
    "pad": lambda b, x: b.emit(relax.op.nn.pad(x, [0, 0, 0, 0, 1, 2, 3, 4])),
    "max pool": lambda b, x: b.emit(relax.op.nn.max_pool2d(x, (2, 2), (2, 2))),
    "average pool": lambda b, x: b.emit(relax.op.nn.avg_pool2d(x, (2, 2), (2, 2))),
    "resize": lambda b, x: b.emit(relax.op.image.resize2d(x, (16, 20))),
    "transposed": lambda b, x: b.emit(relax.op.nn.conv2d_transpose(x, const(6, 6, 2, 2), strides=2)),
    "softmax": lambda b, x: b.emit(relax.op.nn.softmax(x, axis=1)),
    "gate": lambda b, x: b.emit(relax.op.multiply(x, conv(b, b.emit(relax.op.mean(x, [2, 3], keepdims=True))))),
    "select": lambda b, x: b.emit(
        relax.op.where(b.emit(relax.op.greater(x, relax.const(np.float32(0)))), x, conv(b, x))
    ),
    "squeeze and expand": lambda b, x: b.emit(relax.op.reshape(b.emit(relax.op.reshape(x, SHAPE[1:])), SHAPE)),
}


@pytest.mark.parametrize("name", FOLLOWERS)
def test_followers_need_no_transposition(name: str) -> None:
    mod, layout, transpositions = convert(build(lambda b, x: conv(b, FOLLOWERS[name](b, conv(b, x)))))
    assert layout.kept == ()
    assert sorted(kept.reason for kept in transpositions.kept) == [
        "an input of the model is in another layout",
        "an output of the model is in another layout",
    ]
    assert ops(mod).count("permute_dims") == 2


def test_a_channel_shuffle_costs_one_transposition() -> None:
    def shuffle(b: Any, x: Any) -> Any:
        split = b.emit(relax.op.reshape(conv(b, x), (1, 2, 3, 8, 10)))
        swapped = b.emit(relax.op.permute_dims(split, [0, 2, 1, 3, 4]))
        return conv(b, b.emit(relax.op.reshape(swapped, SHAPE)))

    _, _, transpositions = convert(build(shuffle))
    assert [kept.reason for kept in transpositions.kept] == [
        "an input of the model is in another layout",
        "reshape reads its operand in another layout",
        "an output of the model is in another layout",
    ]


def test_flattening_a_single_pixel_is_free() -> None:
    def head(b: Any, x: Any) -> Any:
        pooled = b.emit(relax.op.mean(conv(b, x), [2, 3], keepdims=True))
        return b.emit(relax.op.matmul(b.emit(relax.op.reshape(pooled, (1, 6))), const(6, 4)))

    mod, _, transpositions = convert(build(head))
    assert ops(mod) == ["permute_dims", "nn.conv2d", "mean", "reshape", "matmul"]
    assert len(transpositions.kept) == 1


def test_constant_weights_take_the_order_of_a_flattened_image() -> None:
    weight = rng().standard_normal((480, 4)).astype("float32")

    def head(b: Any, x: Any) -> Any:
        flat = b.emit(relax.op.reshape(conv(b, x), (1, 480)))
        return b.emit(relax.op.matmul(flat, relax.const(weight)))

    mod, _, transpositions = convert(build(head))
    assert len(transpositions.kept) == 1
    image = rng().standard_normal(SHAPE).astype("float32")
    moved = array(flat_bindings(mod["main"])[-1][1].args[1])
    np.testing.assert_allclose(
        image.transpose(0, 2, 3, 1).reshape(1, 480) @ moved, image.reshape(1, 480) @ weight, 1e-4
    )


def test_other_readers_of_a_flattened_image_need_its_order() -> None:
    def head(b: Any, x: Any) -> Any:
        return b.emit(relax.op.nn.softmax(b.emit(relax.op.reshape(conv(b, x), (1, 480)))))

    _, _, transpositions = convert(build(head))
    assert "reshape reads its operand in another layout" in [kept.reason for kept in transpositions.kept]


def test_the_models_own_transpositions_cancel() -> None:
    """Exports from NHWC frameworks wrap their graph in transpositions."""

    def body(b: Any, x: Any) -> Any:
        inner = conv(b, b.emit(relax.op.permute_dims(x, [0, 3, 1, 2])))
        return b.emit(relax.op.permute_dims(inner, [0, 2, 3, 1]))

    mod, _, transpositions = convert(build(body, (1, 8, 10, 6)))
    assert ops(mod) == ["nn.conv2d"]
    assert (transpositions.applied, transpositions.kept) == (4, ())


def test_a_sequence_is_an_image_of_one_row() -> None:
    def body(b: Any, x: Any) -> Any:
        first = b.emit(relax.op.nn.conv1d(x, const(6, 6, 3), padding=(1, 2), strides=2))
        return b.emit(relax.op.nn.conv1d(b.emit(relax.op.nn.relu(first)), const(4, 3, 1), groups=2))

    mod, layout, _ = convert(build(body, (1, 6, 16)))
    assert layout.applied == 2
    mod, sunk = sink_reshapes(mod)
    assert sunk.applied == 1
    mod, _ = simplify(mod)
    assert ops(mod) == [
        *("reshape", "permute_dims", "nn.conv2d", "nn.relu", "nn.conv2d", "reshape", "permute_dims"),
    ]


def test_operators_without_a_kernel_in_nhwc_are_named() -> None:
    mod, layout, _ = convert(build(lambda b, x: b.emit(relax.op.nn.conv3d(x, const(2, 6, 1, 1, 1))), (1, 6, 2, 3, 4)))
    assert ops(mod) == ["nn.conv3d"]
    assert [(kept.node, kept.reason) for kept in layout.kept] == [("conv3d", "there is no kernel for it in NHWC")]


def test_a_lone_transposition_stays_above_a_sum_with_another_tensor() -> None:
    """Moving it down would need a second one for the other operand."""
    mod, _, _ = convert(
        build(lambda b, x: b.emit(relax.op.add(b.emit(relax.op.permute_dims(x, [0, 2, 1, 3])), x)), (1, 8, 8, 10))
    )
    assert ops(mod) == ["permute_dims", "add"]


@pytest.mark.parametrize("own", [(), (6,), (16, 1), (1, 16, 6)])
def test_a_bias_passes_a_reshape_of_unit_axes(own: tuple[int, ...]) -> None:
    def body(b: Any, x: Any) -> Any:
        product = b.emit(relax.op.reshape(b.emit(relax.op.matmul(x, const(5, 6))), (1, 16, 6)))
        return b.emit(relax.op.add(product, const(*own)))

    mod, report = sink_reshapes(build(body, (16, 5)))
    assert (ops(mod), report.applied) == (["matmul", "add", "reshape"], 1)


def test_a_bias_does_not_pass_a_reshape_that_splits_its_axis() -> None:
    def body(b: Any, x: Any) -> Any:
        product = b.emit(relax.op.reshape(b.emit(relax.op.matmul(x, const(5, 6))), (16, 2, 3)))
        return b.emit(relax.op.add(product, const(3)))

    mod, report = sink_reshapes(build(body, (16, 5)))
    assert (ops(mod), report.applied) == (["matmul", "reshape", "add"], 0)


@given(
    st.permutations(range(4)),
    st.lists(st.sampled_from(["relu", "mean", "squeeze", "slice", "pad", "softmax", "permute"]), max_size=5),
    st.data(),
)
def test_shapes_survive_any_chain_under_any_transposition(axes: list[int], chain: list[str], data: Any) -> None:
    def body(b: Any, x: Any) -> Any:
        value = b.emit(relax.op.permute_dims(x, axes))
        for name in chain:
            rank = len(shape_of(value))
            axis = data.draw(st.integers(0, rank - 1))
            value = b.emit(STEPS[name](value, axis, data))
        return value

    before = build(body, (1, 2, 3, 4))
    after, _, _ = convert(before)
    assert str(after["main"].ret_ty) == str(before["main"].ret_ty)


STEPS: dict[str, Callable[[Any, int, Any], Any]] = {
    "relu": lambda x, axis, data: relax.op.nn.relu(x),
    "mean": lambda x, axis, data: relax.op.mean(x, [axis], keepdims=data.draw(st.booleans()) or len(shape_of(x)) == 1),
    "squeeze": lambda x, axis, data: relax.op.squeeze(x, [a for a, n in enumerate(shape_of(x)[1:], 1) if n == 1]),
    "slice": lambda x, axis, data: relax.op.strided_slice(x, [axis], [0], [2], [1]),
    "pad": lambda x, axis, data: relax.op.nn.pad(x, [int(a // 2 == axis) for a in range(2 * len(shape_of(x)))]),
    "softmax": lambda x, axis, data: relax.op.nn.softmax(x, axis=axis),
    "permute": lambda x, axis, data: relax.op.permute_dims(x, data.draw(st.permutations(range(len(shape_of(x)))))),
}


#: Operators of several operands of one size, of which the first is in NCHW by itself.
JOINING: dict[str, Callable[[Any, list[Any]], Any]] = {
    "sum": lambda b, parts: b.emit(relax.op.add(*parts)),
    "concat": lambda b, parts: b.emit(relax.op.concat(parts, axis=1)),
    "concat of four": lambda b, parts: b.emit(relax.op.concat([*parts, *parts], axis=1)),
}


@pytest.mark.parametrize("name", JOINING)
@pytest.mark.parametrize("swapped", [False, True])
def test_half_of_the_operands_in_nhwc_are_enough(name: str, swapped: bool) -> None:
    def body(b: Any, x: Any) -> Any:
        image = b.emit(relax.op.nn.softmax(b.emit(relax.op.reshape(x, SHAPE)), axis=1))
        parts = [image, conv(b, b.emit(relax.op.nn.relu(x)))]
        return conv(b, JOINING[name](b, parts[::-1] if swapped else parts))

    mod, *_ = convert(build(body))
    names = ops(mod)
    # Between the join and the convolution that reads it nothing is moved: the operand is, which is smaller.
    joined = names.index("add" if name == "sum" else "concat")
    assert names[joined + 1] == "nn.conv2d"
