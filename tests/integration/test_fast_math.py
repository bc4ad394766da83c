"""The polynomials' errors against NumPy in float64, in units in the last place (ulp) of the float32 result."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import s_tir, te, tirx

from tvmbuild.codegen.compile import compile_module
from tvmbuild.schedules.tir import fast_math, vector_calls, vector_loops
from tvmbuild.support.errors import CompileError
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration

#: Largest error in ulp over the samples below; the polynomials' own and the roundings of their arithmetic.
BOUNDS = {"exp": 1.5, "log": 1.5, "sigmoid": 3.0, "tanh": 2.0, "erf": 2.0}

EXACT: dict[str, Callable[..., Any]] = {
    "exp": np.exp,
    "log": np.log,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh": np.tanh,
    "erf": np.vectorize(math.erf),
}

COUNT = 1 << 16


def compile_function(name, lanes=16, count=COUNT):
    x = te.placeholder((count,), "float32", name="x")
    y = te.compute((count,), lambda i: getattr(tirx, name)(x[i]), name="y")
    sch = s_tir.Schedule(te.create_prim_func([x, y]))
    vector_loops.mark(sch, sch.get_loops(sch.get_sblock("y"))[0], lanes)
    func = fast_math.expand(vector_loops.cut_vectors(sch.mod["main"]))
    return tvm.compile(tvm.IRModule({"main": func.with_attr("global_symbol", "main")}), load_target("host").to_tvm())


@pytest.fixture(scope="module")
def functions():
    return {name: compile_function(name) for name in BOUNDS}


def call(function, x):
    output = tvm.runtime.empty(x.shape, "float32")
    function["main"](tvm.runtime.tensor(x), output)
    return output.numpy()


def every_kth_float(low, high):
    """Return COUNT floats spread evenly over the representations between two floats of one sign."""
    bits = np.array([low, high], "float32").view("int32")
    return np.linspace(bits[0], bits[1], COUNT).astype("int32").view("float32")


SAMPLES = {
    "exp": [every_kth_float(1e-6, 88.7), every_kth_float(-1e-6, -87.3)],
    "log": [every_kth_float(1.2e-38, 3.4e38), every_kth_float(0.5, 2.0)],
    "sigmoid": [every_kth_float(1e-6, 88.0), every_kth_float(-1e-6, -87.0)],
    "tanh": [every_kth_float(1e-30, 20.0), every_kth_float(-0.5, -1.0)],
    "erf": [every_kth_float(1e-30, 5.0), every_kth_float(-0.8, -1.0)],
}


@pytest.mark.parametrize("name", BOUNDS)
def test_error_is_within_the_stated_bound(functions, name):
    for x in SAMPLES[name]:
        exact = EXACT[name](x.astype(np.float64))
        ulp = np.spacing(np.abs(exact.astype("float32")))
        assert np.max(np.abs(call(functions[name], x) - exact) / ulp) <= BOUNDS[name]


SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -1e-40, 3.4e38, -3.4e38], "float32")


@pytest.mark.parametrize("name", BOUNDS)
def test_special_values_are_those_of_the_c_library(functions, name):
    x = np.zeros(COUNT, "float32")
    x[: len(SPECIAL)] = SPECIAL
    with np.errstate(all="ignore"):
        exact = EXACT[name](SPECIAL.astype(np.float64)).astype("float32")
    np.testing.assert_allclose(call(functions[name], x)[: len(SPECIAL)], exact, rtol=1e-6)


def test_exp_underflows_gradually(functions):
    x = np.linspace(-103.9, -87.3, COUNT, dtype="float32")
    exact = np.exp(x.astype(np.float64))
    # Half a subnormal step for rounding, half for the scaling in two factors.
    assert np.max(np.abs(call(functions["exp"], x) - exact)) <= 2.0**-149 + 2e-7 * exact.max()


def vector_loop(expression):
    """Return a PrimFunc that stores an expression of ``x[i]`` in a loop of one vector."""
    x, y = (tirx.decl_buffer((16,), "float32", name) for name in "xy")
    i = tirx.Var("i", "int32")
    store = tirx.BufferStore(y, expression(tirx.BufferLoad(x, [i])), [i])
    return tirx.PrimFunc([x, y], tirx.For(i, 0, 16, tirx.ForKind.VECTORIZED, store))


def between(outer):
    """A name bound to a product, and calls of ``outer`` on both sides of it, under a product."""

    def expression(x):
        name = tirx.Var("t", "float32")
        return outer(tirx.Let(name, outer(x) * 2.0, outer(name) * name)) * 3.0

    return expression


@pytest.mark.parametrize(("outer", "exact"), [(tirx.nearbyint, np.rint), (tirx.atan, np.arctan)])
def test_calls_that_the_vectorizer_does_not_know_may_stand_around_a_name(outer, exact):
    func = vector_loop(between(outer))
    with pytest.raises(Exception, match="Let cannot bind the same var"):
        tirx.transform.VectorizeLoop()(tvm.IRModule({"main": func}))
    module = tvm.IRModule({"main": vector_calls.name_intrinsics(func).with_attr("global_symbol", "main")})
    x = np.linspace(-3, 3, 16, dtype="float32")
    expected = exact(exact(exact(x) * 2) * (exact(x) * 2)) * 3
    output = tvm.runtime.empty(x.shape, "float32")
    tvm.compile(module, load_target("host").to_tvm())["main"](tvm.runtime.tensor(x), output)
    np.testing.assert_allclose(output.numpy(), expected, rtol=1e-5)


def test_a_kernel_that_tvm_refuses_is_named_with_its_operators():
    good, bad = vector_loop(lambda x: x + 1.0), vector_loop(between(tirx.atan))
    with pytest.raises(CompileError, match=r"kernel bad \(atan\+multiply\) for host.*Let cannot bind"):
        compile_module(tvm.IRModule({"good": good, "bad": bad}), load_target("host"), {"bad": "atan+multiply"})
