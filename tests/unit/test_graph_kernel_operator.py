"""Kernels know their operator from legalization to fusion, however they are named; rules are counted in one frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax, topi

from tvmbuild.graph.counted import Uncounted, rewrite_counted
from tvmbuild.graph.fuse import fuse
from tvmbuild.graph.kernel_operator import OPERATOR, legalize_operators, mark_operators, naming, operator_of
from tvmbuild.graph.report import Kept
from tvmbuild.graph.rewriter import MAIN, op_name


def module(body: Callable[..., list[Any]]) -> Any:
    """Return a module whose ``main`` emits what ``body`` makes of a variable of two by three numbers, in a chain."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((2, 3), "float32"))
    with builder.function(MAIN, [x]):
        with builder.dataflow():
            value: Any = x
            for make in body():
                value = builder.emit(make(value))
            output = builder.emit_output(value)
        builder.emit_func_output(output)
    return builder.finalize()


def operators(mod: Any) -> dict[str, str]:
    return {str(var.name_hint): operator_of(func) for var, func in mod.functions_items() if var.name_hint != MAIN}


def test_numbered_kernels_are_of_the_same_operator() -> None:
    mod = module(lambda: [relax.op.nn.relu, lambda x: relax.op.concat([x, x]), relax.op.nn.relu])
    assert operators(legalize_operators(mod, {})) == {"relu": "relu", "concatenate": "concatenate", "relu1": "relu"}


def test_a_number_in_an_operators_name_stays() -> None:
    def own(builder: Any, call: Any) -> Any:
        return builder.call_te(topi.nn.relu, call.args[0], primfunc_name_hint="relu2")

    mod = module(lambda: [relax.op.nn.relu, lambda x: relax.op.concat([x, x]), relax.op.nn.relu])
    assert set(operators(legalize_operators(mod, {"relax.nn.relu": own})).values()) == {"relu2", "concatenate"}


def test_each_kernel_of_an_operator_that_we_make_of_several_has_its_own_name() -> None:
    def own(builder: Any, call: Any) -> Any:
        first = builder.emit_te(topi.exp, call.args[0], primfunc_name_hint="grow")
        return builder.call_te(topi.nn.relu, first, primfunc_name_hint="cut")

    mod = legalize_operators(module(lambda: [relax.op.nn.relu]), {"relax.nn.relu": own})
    assert set(operators(mod).values()) == {"grow", "cut"}


def test_kernels_that_were_there_before_are_marked_by_what_made_them_or_by_their_name() -> None:
    known: dict[str, str] = {}
    builder = naming(relax.BlockBuilder(), known)
    x = relax.Var("x", relax.TensorType((4,), "float32"))
    with builder.function(MAIN, [x]):
        with builder.dataflow():
            ours = builder.emit_te(topi.exp, x, primfunc_name_hint="requantize")
            theirs = builder.emit(relax.BlockBuilder.call_te(builder, topi.flip, ours))
            output = builder.emit_output(theirs)
        builder.emit_func_output(output)
    assert operators(mark_operators(builder.finalize(), known)) == {"requantize": "requantize", "flip": "flip"}


def test_a_fused_kernel_is_only_what_it_computes() -> None:
    """A tuning record is found by the PrimFunc, marks and all."""
    mod = module(lambda: [relax.op.exp, lambda x: relax.op.concat([x, x]), relax.op.sigmoid])
    fused, kernels, _ = fuse(legalize_operators(mod, {}))
    assert [kernel.ops for kernel in kernels] == [("exp",), ("concatenate",), ("sigmoid",)]
    for var, function in fused.functions_items():
        if var.name_hint != MAIN:
            assert OPERATOR not in function.attrs
            assert not [key for key in function.attrs.keys() if str(key).startswith("tvmbuild.")]  # noqa: SIM118


def test_a_pass_counts_what_it_rewrites_and_keeps_what_it_left() -> None:
    kept = Kept("here", "it may not")

    def rule(_rewriter: Any, _var: Any, value: Any) -> Any:
        match op_name(value):
            case "square":
                return relax.op.multiply(value.args[0], value.args[0])
            case "sqrt":
                return Uncounted(relax.op.power(value.args[0], relax.const(np.float32(0.5))), kept)
            case "abs":
                return Uncounted(value.args[0])
        return None

    before = module(lambda: [relax.op.square, relax.op.sqrt, relax.op.abs, relax.op.tanh])
    after, report = rewrite_counted(before, "try", "tried", rule)
    names = [op_name(binding.value) for block in after[MAIN].body.blocks for binding in block.bindings]
    assert names == ["multiply", "power", "tanh"]
    assert (report.applied, report.kept, str(report)) == (1, (kept,), "1 of 2 tried")
