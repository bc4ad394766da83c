from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax

from tvmbuild.graph.pipeline import lower, optimize
from tvmbuild.graph.rewriter import MAIN, flat_bindings, is_constant
from tvmbuild.graph.weights import FETCH, take_out_weights
from tvmbuild.target.target import load_target

TARGET = load_target("rpi4")
PAGE = np.arange(1024, dtype=np.float32)


def lowered(body: Any) -> Any:
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1024,), "float32"))
    with builder.function(MAIN, [x]):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(body(x)))
        builder.emit_func_output(result)
    return lower(optimize(builder.get(), TARGET)[0], TARGET)


def fetched(mod: Any) -> list[int]:
    calls = [value for _, value in flat_bindings(mod[MAIN]) if isinstance(value, relax.Call)]
    return [int(call.args[0].value) for call in calls if getattr(call.op, "global_symbol", "") == FETCH]


def test_equal_weights_are_kept_once_and_fetched_for_each_kernel() -> None:
    def body(x: Any) -> Any:
        first = relax.op.reshape(relax.op.add(x, relax.const(PAGE)), [32, 32])
        product = relax.op.reshape(relax.op.matmul(first, relax.const(np.eye(32, dtype=np.float32) + 1)), [1024])
        return relax.op.add(relax.op.cumsum(product), relax.const(PAGE.copy()))

    mod, weights = take_out_weights(lowered(body))
    numbers = fetched(mod)
    assert len(weights) == 2
    assert [weights[number].shape for number in numbers] == [(1024,), (32, 32), (1024,)]
    np.testing.assert_array_equal(weights[numbers[0]], PAGE)
    calls = [value for _, value in flat_bindings(mod[MAIN]) if isinstance(value, relax.Call)]
    assert not any(is_constant(argument) for call in calls for argument in call.args)


def test_small_constants_stay_in_the_bytecode() -> None:
    module = lowered(lambda x: relax.op.add(relax.op.reshape(x, [64, 16]), relax.const(PAGE[:16])))
    mod, weights = take_out_weights(module)
    assert weights == ()
    assert fetched(mod) == []


def test_a_constant_output_stays_since_it_must_own_its_memory() -> None:
    mod, weights = take_out_weights(lowered(lambda x: relax.Tuple([relax.op.exp(x), relax.const(PAGE)])))
    assert weights == ()
    assert fetched(mod) == []


def test_two_types_with_the_same_bytes_are_two_weights() -> None:
    def body(x: Any) -> Any:
        first = relax.op.add(x, relax.const(PAGE))
        whole = relax.op.bitwise_and(relax.op.astype(relax.op.exp(first), "int32"), relax.const(PAGE.view(np.int32)))
        return relax.op.cumsum(whole)

    _, weights = take_out_weights(lowered(body))
    assert [weight.dtype for weight in weights] == [np.float32, np.int32]
