"""Each rule of the passes on a graph of its own: what is left. That numbers stay is NumPy's to say (conftest.py)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from relax_numpy import outputs
from seeded import rng
from tvm import relax

from tvmbuild.graph.layout.nhwc import to_channels_last
from tvmbuild.graph.pipeline import fold_passes, simplify_passes
from tvmbuild.graph.rewriter import flat_bindings, op_name

SHAPE = (1, 3, 4, 5)


def const(value: Any) -> Any:
    return relax.const(np.asarray(value, "float32"))


def positive(*shape: int) -> Any:
    return const(rng().uniform(0.5, 2.0, shape))


def module(body: Callable[[Any, Any], Any], shape: tuple[int, ...] = SHAPE) -> Any:
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType(shape, "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            result = body(builder.emit, data)
            fields = result if isinstance(result, tuple) else (result,)
            output = builder.emit_output(relax.Tuple(fields) if len(fields) > 1 else fields[0])
        builder.emit_func_output(output)
    return builder.finalize()


def left(mod: Any) -> dict[str, int]:
    for apply in [*simplify_passes(), *fold_passes()]:
        mod, _ = apply(mod)
    return dict(Counter(op_name(value) for _, value in flat_bindings(mod["main"]) if op_name(value)))


def mish(e: Any, x: Any) -> Any:
    grown = e(relax.op.add(const(1), e(relax.op.exp(e(relax.op.negative(e(relax.op.abs(x))))))))
    soft = e(relax.op.add(e(relax.op.nn.relu(x)), e(relax.op.log(grown))))
    return e(relax.op.multiply(x, e(relax.op.tanh(soft))))


def hard(e: Any, x: Any, low: float = 0.0, high: float = 6.0) -> Any:
    return e(relax.op.clip(e(relax.op.add(x, const(3))), low, high))


RULES: dict[str, tuple[Callable[[Any, Any], Any], dict[str, int]]] = {
    "division by a number": (lambda e, x: e(relax.op.divide(x, const(7))), {"multiply": 1}),
    "division by channels": (lambda e, x: e(relax.op.divide(x, positive(3, 1, 1))), {"multiply": 1}),
    "division by what has no inverse": (lambda e, x: e(relax.op.divide(x, const(1e-42))), {"divide": 1}),
    "division of a constant": (lambda e, x: e(relax.op.divide(const(3), e(relax.op.abs(x)))), {"abs": 1, "divide": 1}),
    "two factors": (lambda e, x: e(relax.op.multiply(e(relax.op.multiply(x, const(3))), const(0.5))), {"multiply": 1}),
    "a factor and a divisor": (
        lambda e, x: e(relax.op.divide(e(relax.op.multiply(const(3), x)), const(5))),
        {"multiply": 2},
    ),
    "square": (lambda e, x: e(relax.op.power(x, const(2))), {"multiply": 1}),
    "root": (lambda e, x: e(relax.op.power(e(relax.op.abs(x)), const(0.5))), {"abs": 1, "sqrt": 1}),
    "third power": (lambda e, x: e(relax.op.power(x, const(3))), {"power": 1}),
    "pool to one row": (lambda e, x: e(relax.op.nn.adaptive_avg_pool2d(x, (1, 5))), {"nn.adaptive_avg_pool2d": 1}),
    "pool to one column": (lambda e, x: e(relax.op.nn.adaptive_avg_pool2d(x, (4, 1))), {"nn.adaptive_avg_pool2d": 1}),
    "another power": (lambda e, x: e(relax.op.power(e(relax.op.abs(x)), const(1.5))), {"abs": 1, "power": 1}),
    "the larger of zero": (lambda e, x: e(relax.op.maximum(const(0), x)), {"nn.relu": 1}),
    "the larger of one": (lambda e, x: e(relax.op.maximum(x, const(1))), {"clip": 1}),
    "the smaller of a relu": (lambda e, x: e(relax.op.minimum(e(relax.op.nn.relu(x)), const(6))), {"clip": 1}),
    "the smaller of a clip": (lambda e, x: e(relax.op.minimum(e(relax.op.clip(x, -1, 4)), const(2))), {"clip": 1}),
    "the smaller of what is larger": (
        lambda e, x: e(relax.op.minimum(e(relax.op.clip(x, 3, 9)), const(2))),
        {"clip": 2},
    ),
    "a relu that two read": (
        lambda e, x: (lambda y: (e(relax.op.minimum(y, const(6))), e(relax.op.exp(y))))(e(relax.op.nn.relu(x))),
        {"nn.relu": 1, "clip": 1, "exp": 1},
    ),
    "open clip": (lambda e, x: e(relax.op.clip(x, 0, float("inf"))), {"nn.relu": 1}),
    "mish": (mish, {"clip": 1, "exp": 1, "add": 2, "multiply": 2, "divide": 1, "subtract": 1}),
    "silu": (lambda e, x: e(relax.op.multiply(e(relax.op.sigmoid(x)), x)), {"nn.silu": 1}),
    "a gate that two read": (
        lambda e, x: (lambda y: (e(relax.op.multiply(x, y)), e(relax.op.exp(y))))(e(relax.op.sigmoid(x))),
        {"sigmoid": 1, "multiply": 1, "exp": 1},
    ),
    "one slope": (lambda e, x: e(relax.op.nn.prelu(x, const([0.25] * 3), axis=1)), {"nn.leakyrelu": 1}),
    "three slopes": (lambda e, x: e(relax.op.nn.prelu(x, positive(3), axis=1)), {"nn.prelu": 1}),
    "hard sigmoid": (lambda e, x: e(relax.op.divide(hard(e, x), const(6))), {"multiply": 1, "add": 1, "clip": 1}),
    "hard sigmoid with a factor before": (
        lambda e, x: e(relax.op.multiply(hard(e, e(relax.op.multiply(x, const(2)))), const(0.25))),
        {"multiply": 1, "add": 1, "clip": 1},
    ),
    "hard sigmoid with a negative factor": (
        lambda e, x: e(relax.op.multiply(hard(e, x), const(-1))),
        {"multiply": 1, "add": 1, "clip": 1},
    ),
    "hard sigmoid without a bound": (
        lambda e, x: e(relax.op.multiply(hard(e, x, -1.0, float("inf")), const(2))),
        {"multiply": 1, "add": 1, "clip": 1},
    ),
    "hard swish": (
        lambda e, x: e(relax.op.divide(e(relax.op.multiply(x, hard(e, x))), const(6))),
        {"multiply": 2, "add": 1, "clip": 1},
    ),
    "taking the only one": (lambda e, x: e(relax.op.take(x, relax.const(np.int64(0)), axis=0)), {"reshape": 1}),
    "taking one of three": (lambda e, x: e(relax.op.take(x, relax.const(np.int64(2)), axis=1)), {"take": 1}),
    "largest of a stack": (
        lambda e, x: e(
            relax.op.max(e(relax.op.stack([x, e(relax.op.exp(x)), const(np.ones(SHAPE))], axis=-1)), axis=[4])
        ),
        {"exp": 1, "maximum": 1, "clip": 1},
    ),
    "smallest of a stack": (
        lambda e, x: e(relax.op.min(e(relax.op.stack([x, e(relax.op.exp(x))], axis=1)), axis=[1])),
        {"exp": 1, "minimum": 1},
    ),
    "sum along another axis than the stack's": (
        lambda e, x: e(relax.op.sum(e(relax.op.stack([x, x], axis=0)), axis=[2])),
        {"stack": 1, "sum": 1},
    ),
    "concatenations along two axes": (
        lambda e, x: e(
            relax.op.concat([e(relax.op.concat([x, x], axis=1)), e(relax.op.concat([x, x], axis=1))], axis=2)
        ),
        {"concat": 2},
    ),
    "concatenations along one axis": (
        lambda e, x: e(relax.op.concat([x, e(relax.op.concat([x, e(relax.op.exp(x))], axis=-3))], axis=1)),
        {"exp": 1, "concat": 1},
    ),
    "every second element": (lambda e, x: e(relax.op.strided_slice(x, [3], [0], [5], [2])), {"strided_slice": 1}),
    "backwards": (lambda e, x: e(relax.op.strided_slice(x, [3], [4], [-6], [-1])), {"strided_slice": 1}),
    "two transpositions": (
        lambda e, x: e(relax.op.permute_dims(e(relax.op.permute_dims(x, [0, 2, 3, 1])), [0, 1, 3, 2])),
        {"permute_dims": 1},
    ),
    "all axes turned": (lambda e, x: e(relax.op.permute_dims(x)), {"permute_dims": 1}),
    "mean over images": (lambda e, x: e(relax.op.nn.adaptive_avg_pool2d(x, (1, 1))), {"mean": 1}),
    "subtracting zero": (lambda e, x: e(relax.op.exp(e(relax.op.subtract(x, const(0))))), {"exp": 1}),
    "zero less": (lambda e, x: e(relax.op.subtract(const(0), x)), {"subtract": 1}),
    "one over": (lambda e, x: e(relax.op.divide(const(1), e(relax.op.exp(x)))), {"exp": 1, "divide": 1}),
    "nearly one": (lambda e, x: e(relax.op.multiply(x, const([1, 1, 1, 1, 1.5]))), {"multiply": 1}),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_leaves_this(name: str) -> None:
    body, expected = RULES[name]
    assert left(module(body)) == expected


def conv(e: Any, x: Any, out: int = 4, **more: Any) -> Any:
    groups = more.get("groups", 1)
    depth = int(x.ty.shape[1]) // groups
    return e(relax.op.nn.conv2d(x, const(rng().standard_normal((out, depth, 3, 3)) / 5), padding=1, **more))


AFTER_CONV: dict[str, tuple[Callable[[Any, Any], Any], dict[str, int]]] = {
    "scale": (lambda e, y: e(relax.op.multiply(positive(4, 1, 1), y)), {"nn.conv2d": 1}),
    "divisor": (lambda e, y: e(relax.op.divide(y, positive(1, 4, 1, 1))), {"nn.conv2d": 1}),
    "shift": (lambda e, y: e(relax.op.subtract(y, positive(4, 1, 1))), {"nn.conv2d": 1, "add": 1}),
    "less from": (lambda e, y: e(relax.op.subtract(const(2), y)), {"nn.conv2d": 1, "add": 1}),
    "sign": (lambda e, y: e(relax.op.negative(y)), {"nn.conv2d": 1}),
    "scale, shift, scale": (
        lambda e, y: e(
            relax.op.multiply(e(relax.op.add(e(relax.op.multiply(y, const(3))), positive(4, 1, 1))), const(-2))
        ),
        {"nn.conv2d": 1, "add": 1},
    ),
    "scale of rows": (lambda e, y: e(relax.op.multiply(y, positive(5))), {"nn.conv2d": 1, "multiply": 1}),
    "two readers": (
        lambda e, y: (e(relax.op.multiply(y, const(3))), e(relax.op.exp(y))),
        {"nn.conv2d": 1, "multiply": 1, "exp": 1},
    ),
    "norm": (
        lambda e, y: e(e(relax.op.nn.batch_norm(y, *(positive(4) for _ in range(4)), axis=1, training=False))[0]),
        {"nn.conv2d": 1, "add": 1},
    ),
}


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("name", AFTER_CONV)
def test_what_follows_a_convolution_folds_into_its_weights(name: str, groups: int) -> None:
    body, expected = AFTER_CONV[name]
    channels = groups > 1

    def following(e: Any, x: Any) -> Any:
        return body(e, conv(e, e(relax.op.concat([x, x], axis=1)) if channels else x, groups=groups))

    found = left(module(following))
    assert found == (expected | {"concat": 1} if channels else expected)


LAYOUTS: dict[str, Callable[[Any, Any], Any]] = {
    "pool": lambda e, y: e(relax.op.nn.max_pool2d(y, (3, 2), (2, 1), (1, 0, 1, 1))),
    "average": lambda e, y: e(relax.op.nn.avg_pool2d(y, (3, 2), (2, 1), (1, 1, 1, 0))),
    "average with padding": lambda e, y: e(relax.op.nn.avg_pool2d(y, 3, 2, 1, count_include_pad=True)),
    "concat": lambda e, y: e(relax.op.concat([y, e(relax.op.exp(y))], axis=-3)),
    "concat of columns": lambda e, y: e(relax.op.concat([y, y], axis=3)),
    "slice": lambda e, y: e(relax.op.strided_slice(y, [1, -1], [1, 0], [3, 5], [1, 2])),
    "pad": lambda e, y: e(relax.op.nn.pad(y, [0, 0, 1, 0, 0, 2, 3, 0], pad_value=2.0)),
    "mean": lambda e, y: e(relax.op.mean(y, [1, -1], keepdims=True)),
    "mean without": lambda e, y: e(relax.op.mean(y, [2, 3])),
    "softmax": lambda e, y: e(relax.op.nn.softmax(y, axis=-3)),
    "prelu": lambda e, y: e(relax.op.nn.prelu(y, positive(4), axis=1)),
    "split": lambda e, y: e(
        relax.op.add(*(e(relax.TupleGetItem(e(relax.op.split(y, 2, axis=1)), at)) for at in (0, 1)))
    ),
    "bias of rank three": lambda e, y: e(relax.op.add(y, positive(4, 1, 1))),
    "rows": lambda e, y: e(relax.op.multiply(y, positive(4, 1))),
    "flat": lambda e, y: e(relax.op.matmul(e(relax.op.reshape(y, (1, 80))), positive(80, 6))),
    "turned": lambda e, y: e(relax.op.permute_dims(y, [0, 3, 1, 2])),
    "back": lambda e, y: conv(e, y, 3, strides=2, dilation=2),
    "groups": lambda e, y: conv(e, y, 8, groups=2),
    "transposed": lambda e, y: e(
        relax.op.nn.conv2d_transpose(
            y, const(rng().standard_normal((4, 5, 3, 2))), strides=(2, 1), padding=(1, 0, 0, 1), output_padding=(1, 0)
        )
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_what_follows_in_another_layout_computes_the_same(name: str) -> None:
    before = module(
        lambda e, x: (
            conv(e, LAYOUTS[name](e, conv(e, x)), 2) if name in ("pool", "pad") else LAYOUTS[name](e, conv(e, x))
        )
    )
    after, _ = to_channels_last(before)
    data = [rng().standard_normal(SHAPE).astype("float32")]
    for one, other in zip(outputs(before, data), outputs(after, data), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-5, atol=1e-5)
    assert any(
        str(value.attrs.data_layout) == "NHWC"
        for _, value in flat_bindings(after["main"])
        if op_name(value) == "nn.conv2d"
    )
