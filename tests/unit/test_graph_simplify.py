"""Constants, identities and canonical activations, without compiling."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tvm import relax

from tvmbuild.graph.activations import canonicalize_activations
from tvmbuild.graph.flatten import flatten
from tvmbuild.graph.fold.constants import fold_constants
from tvmbuild.graph.rewriter import array, flat_bindings, is_constant, op_name
from tvmbuild.graph.simplify import simplify
from tvmbuild.support.errors import UnsupportedOperatorError

SHAPE = (1, 3, 4, 5)


def build(body: Callable[..., Any], shape: tuple[int, ...] = SHAPE) -> Any:
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(shape, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = builder.emit_output(body(builder, data))
        builder.emit_func_output(result)
    return builder.finalize()


def ops(mod: Any) -> list[str]:
    return [op_name(value) for _, value in flat_bindings(mod["main"])]


def number(value: float) -> Any:
    return relax.const(np.array(value, dtype="float32"))


IDENTITIES: dict[str, Callable[[Any, Any], Any]] = {
    "multiply by one": lambda b, x: b.emit(relax.op.multiply(number(1), x)),
    "add zero": lambda b, x: b.emit(relax.op.add(x, number(0))),
    "divide by one": lambda b, x: b.emit(relax.op.divide(x, number(1))),
    "cast to the same type": lambda b, x: b.emit(relax.op.astype(x, "float32")),
    "reshape and back": lambda b, x: b.emit(relax.op.reshape(b.emit(relax.op.reshape(x, (3, 20))), SHAPE)),
    "transpose and back": lambda b, x: b.emit(
        relax.op.permute_dims(b.emit(relax.op.permute_dims(x, [0, 2, 3, 1])), [0, 3, 1, 2])
    ),
    "expand and squeeze": lambda b, x: b.emit(relax.op.squeeze(b.emit(relax.op.expand_dims(x, [2])), [2])),
    "whole slice": lambda b, x: b.emit(relax.op.strided_slice(x, [2], [0], [2**60], [1])),
    "concat of one": lambda b, x: b.emit(relax.op.concat([x], axis=1)),
    "dropout": lambda b, x: b.emit(b.emit(relax.op.nn.dropout(x))[0]),
    "mean over nothing": lambda b, x: b.emit(relax.op.mean(x, axis=[0], keepdims=True)),
}


@pytest.mark.parametrize("name", IDENTITIES)
def test_identities_vanish(name: str) -> None:
    mod, report = simplify(build(lambda b, x: b.emit(relax.op.nn.relu(IDENTITIES[name](b, x)))))
    assert ops(mod) == ["nn.relu"]
    assert report.applied >= 1


def test_an_addition_that_enlarges_is_kept() -> None:
    zeros = relax.const(np.zeros((1, 3, 4, 5), dtype="float32"))
    mod, _ = simplify(build(lambda b, x: b.emit(relax.op.add(x, zeros)), shape=(1, 3, 1, 5)))
    assert ops(mod) == ["add"]


@given(st.permutations(range(4)), st.lists(st.sampled_from([1, 2]), min_size=4, max_size=4))
def test_a_transposition_is_a_reshape_exactly_when_elements_stay(axes: list[int], shape: list[int]) -> None:
    mod, _ = simplify(build(lambda b, x: b.emit(relax.op.permute_dims(x, axes)), shape=tuple(shape)))
    data = np.arange(np.prod(shape)).reshape(shape)
    stays = bool(np.all(np.transpose(data, axes).ravel() == data.ravel()))
    assert ("permute_dims" in ops(mod)) == (not stays)


def test_a_reduction_of_stacked_tensors_is_a_chain() -> None:
    def body(b: Any, x: Any) -> Any:
        parts = [b.emit(relax.op.multiply(x, number(scale))) for scale in (2, 3, 4)]
        return b.emit(relax.op.sum(b.emit(relax.op.stack(parts, axis=0)), axis=[0]))

    mod, _ = simplify(build(body))
    assert ops(mod) == ["multiply", "multiply", "multiply", "add", "add"]


def test_nested_concatenations_on_one_axis_are_one() -> None:
    mod, _ = simplify(
        build(lambda b, x: b.emit(relax.op.concat([b.emit(relax.op.concat([x, x], axis=1)), x], axis=-3)))
    )
    ((_, joined),) = flat_bindings(mod["main"])
    assert len(joined.args[0].fields) == 3


def folded(body: Callable[[], Any]) -> np.ndarray[Any, Any]:
    mod, _ = fold_constants(build(lambda b, x: b.emit(relax.op.add(x, b.emit(body())))))
    (call,) = [value for _, value in flat_bindings(mod["main"])]
    assert is_constant(call.args[1])
    return array(call.args[1])


VALUE = np.arange(20, dtype="float32").reshape(4, 5)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (lambda: relax.op.permute_dims(relax.const(VALUE.T.copy())), VALUE),
        (lambda: relax.op.reshape(relax.const(VALUE.ravel()), (4, 5)), VALUE),
        (lambda: relax.op.subtract(relax.const(VALUE), number(1)), VALUE - 1),
        (lambda: relax.op.astype(relax.const(VALUE.astype("int64")), "float32"), VALUE),
        (lambda: relax.op.concat([relax.const(VALUE[:1]), relax.const(VALUE[1:])], axis=0), VALUE),
        (lambda: relax.op.broadcast_to(number(3), (4, 5)), np.full((4, 5), 3)),
        (lambda: relax.op.sum(relax.const(VALUE), axis=[0], keepdims=True), VALUE.sum(0, keepdims=True)),
    ],
)
def test_constants_fold_to_what_numpy_says(body: Any, expected: np.ndarray[Any, Any]) -> None:
    np.testing.assert_array_equal(folded(body), expected)


def test_integer_division_truncates_as_onnx_says() -> None:
    def body(b: Any, x: Any) -> Any:
        return b.emit(relax.op.divide(relax.const(np.array([-7, 7])), relax.const(np.array([2, 2]))))

    mod, _ = fold_constants(build(body))
    (result,) = [value for _, value in flat_bindings(mod["main"])]
    assert array(result).tolist() == [-3, 3]


def test_a_broadcast_that_would_bloat_the_library_stays() -> None:
    mod, report = fold_constants(build(lambda b, x: b.emit(relax.op.broadcast_to(number(3), (512, 512)))))
    assert (ops(mod), report.applied) == (["broadcast_to"], 0)


def hard_swish(b: Any, x: Any) -> Any:
    gate = b.emit(relax.op.clip(b.emit(relax.op.add(x, number(3))), 0, 6))
    return b.emit(relax.op.divide(b.emit(relax.op.multiply(x, gate)), number(6)))


def hard_sigmoid(b: Any, x: Any) -> Any:
    return b.emit(relax.op.divide(b.emit(relax.op.clip(b.emit(relax.op.add(x, number(3))), 0, 6)), number(6)))


def scaled_hard_swish(b: Any, x: Any) -> Any:
    return b.emit(relax.op.multiply(hard_swish(b, x), number(2)))


CANONICAL: dict[str, tuple[Callable[[Any, Any], Any], list[str]]] = {
    "hard swish": (hard_swish, ["multiply", "add", "clip", "multiply"]),
    "scaled hard swish": (scaled_hard_swish, ["multiply", "add", "clip", "multiply"]),
    "hard sigmoid": (hard_sigmoid, ["multiply", "add", "clip"]),
    "silu": (lambda b, x: b.emit(relax.op.multiply(x, b.emit(relax.op.sigmoid(x)))), ["nn.silu"]),
    "max with zero": (lambda b, x: b.emit(relax.op.maximum(x, number(0))), ["nn.relu"]),
    "min of max": (
        lambda b, x: b.emit(relax.op.minimum(b.emit(relax.op.maximum(x, number(-1))), number(2))),
        ["clip"],
    ),
    "square": (lambda b, x: b.emit(relax.op.power(x, number(2))), ["multiply"]),
    "divide by a constant": (lambda b, x: b.emit(relax.op.divide(x, number(5))), ["multiply"]),
    "prelu of one slope": (
        lambda b, x: b.emit(relax.op.nn.prelu(x, relax.const(np.full(3, 0.1, dtype="float32")))),
        ["nn.leakyrelu"],
    ),
}


@pytest.mark.parametrize("name", CANONICAL)
def test_activations_take_one_form(name: str) -> None:
    body, expected = CANONICAL[name]
    mod, report = canonicalize_activations(build(body))
    assert ops(mod) == expected
    assert report.applied >= 1


def test_an_if_becomes_a_selection() -> None:
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType((2,), "float32"))
    flag = relax.Var("flag", relax.TensorType((), "bool"))
    branch = relax.If(
        flag,
        relax.SeqExpr([relax.BindingBlock([])], data),
        relax.SeqExpr([relax.BindingBlock([])], data),
    )
    with builder.function("main", [data, flag]):
        builder.emit_func_output(builder.emit(branch))
    mod, report = flatten(builder.finalize())
    assert report.applied == 1
    assert "where" in ops(mod)


def test_a_shape_that_depends_on_data_is_refused() -> None:
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(ndim=1, dtype="float32"))
    with builder.function("main", [data]):
        result = builder.emit(relax.op.add(data, number(0)))
        builder.emit_func_output(result)
    with pytest.raises(UnsupportedOperatorError, match="not known at build time"):
        simplify(builder.finalize())
