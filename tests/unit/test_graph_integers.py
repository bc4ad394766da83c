"""What integers may stand for: sums that int32 holds, bounds that are codes, and sums that are read once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_graph_quantize import TARGET, Net
from tvm import relax
from tvm.relax.frontend.onnx import from_onnx

from tvmbuild import schedules
from tvmbuild.graph.integers.products import integer_weights, with_bias
from tvmbuild.graph.integers.quantized import Codes, Term, Value, Weights, value_of
from tvmbuild.graph.pipeline import make_kernels, prepare_graph
from tvmbuild.graph.rewriter import dtype_of, flat_bindings, used_vars

#: Largest |code - zero point| and largest |weight| of 8 bits.
CODE, WEIGHT, INT32 = 255, 128, 2**31 - 1
DEEPEST = INT32 // (CODE * WEIGHT)


@pytest.mark.parametrize("depth", [1, DEEPEST - 1, DEEPEST, DEEPEST + 1, 2 * DEEPEST])
@pytest.mark.parametrize("operator", ["matmul", "conv2d"])
def test_sums_are_integers_exactly_where_int32_holds_the_largest(operator: str, depth: int) -> None:
    shape = (depth, 1) if operator == "matmul" else (1, depth, 1, 1)
    weight = relax.Var("w", relax.TensorType(shape, "float32"))
    if operator == "matmul":
        call = relax.op.matmul(relax.Var("x", relax.TensorType((1, depth), "float32")), weight)
    else:
        call = relax.op.nn.conv2d(relax.Var("x", relax.TensorType((1, depth, 1, 1), "float32")), weight)
    weights = Weights(np.full(shape, -WEIGHT, np.int8), np.array(1.0), np.array(0), 0)
    fits = depth * CODE * WEIGHT <= INT32
    assert isinstance(integer_weights(call, weights), tuple) == fits


def int8_var() -> Any:
    return relax.Var("codes", relax.TensorType((1, 4), "int8"))


@given(st.sampled_from([1, -1]), st.integers(2**29, 2**31))
def test_a_bias_joins_the_sum_only_where_it_leaves_it_half_of_int32(sign: int, steps: int) -> None:
    sums = Value((Term(int8_var(), np.array(0), np.array(1.0)),))
    value = with_bias(sums, np.array([float(sign * steps)]))
    assert (value.terms[0].offset != 0).any() == (steps < INT32 // 2)
    assert value.terms[0].offset + value.shift == sign * steps


@given(st.integers(-128, 127), st.integers(-100, 100), st.floats(-0.5, 0.5))
def test_a_bound_is_a_code_only_where_it_is_a_whole_step(zero: int, code: int, off: float) -> None:
    """Clipping codes to a bound within half a step would give other numbers than clipping what they stand for."""
    scale = 1 / 16
    value = value_of(Codes(int8_var(), scale, zero)).bounded((code + off - zero) * scale, np.inf)
    bounds = value.code_bounds()
    if bounds is None:
        assert abs(off) > 1e-6
    else:
        assert bounds == (code, 127)
        assert abs(off) < 1e-2


READERS: dict[str, Callable[[Net, str], str]] = {
    "relu": lambda net, data: net.q(net.op("Relu", data)),
    "leaky relu": lambda net, data: net.q(net.op("LeakyRelu", data)),
    "sum": lambda net, data: net.q(net.op("Add", data, net.q("x"))),
    "rounding": lambda net, data: net.q(data),
    "rounding to another scale": lambda net, data: net.q(data, scale=1 / 4),
    "output": lambda net, data: data,
}


@pytest.mark.parametrize("first", READERS)
@pytest.mark.parametrize("second", READERS)
def test_what_two_read_is_computed_from_its_sums_once(first: str, second: str) -> None:
    net = Net()
    data = net.conv(net.q("x"))
    outputs = dict.fromkeys([READERS[first](net, data), READERS[second](net, data)])
    mod = make_kernels(prepare_graph(from_onnx(net.model(*outputs)), TARGET, schedules), TARGET, schedules)
    bindings = flat_bindings(mod["main"])
    readers = Counter(var for _, value in bindings for var in set(used_vars(value)))
    sums = [var for var, _ in bindings if isinstance(var.ty, relax.TensorType) and dtype_of(var) == "int32"]
    assert [readers[var] for var in sums] == [1] * len(sums)
    products = [value for _, value in bindings if "int8_conv2d" in str(getattr(value, "args", [""])[0])]
    assert len(products) == 1
