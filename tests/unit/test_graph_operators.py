"""The table of operators: it names every operator that a model can bring, and says what the passes and TVM say."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import tvm
import tvm_ffi
from tvm import ir, relax
from tvm.relax.frontend.onnx import onnx_frontend

import tvmbuild
from tvmbuild.graph.fold import constants
from tvmbuild.graph.integers.views import CODE_RULES
from tvmbuild.graph.kernel_operator import legalize_operators, operator_of
from tvmbuild.graph.layout.anchors import ANCHOR_RULES
from tvmbuild.graph.layout.followers import FOLLOWER_RULES
from tvmbuild.graph.operators import OPERATORS, Codes, Fusion, Half, Kind, Layout, Operator, of_kernel, operator
from tvmbuild.graph.rewriter import MAIN
from tvmbuild.schedules.tir.fast_math import FUNCTIONS

PACKAGE = Path(tvmbuild.__file__).parent
#: Functions of ``relax.op`` that make no operator of this name.
NO_OPERATORS = frozenset({"nn", "image", "call_tir_inplace"})

#: What Relax's operators call the type of a tensor operand.
TENSORS = ("Tensor", "relax.Expr", "Expr")


def made_in(source: str) -> set[str]:
    """Return the operators that a source text makes by ``relax.op.``."""
    return set(re.findall(r"\brelax\.op\.((?:nn\.|image\.|vision\.)?[a-z0-9_]+)", source)) - NO_OPERATORS


def named(row: Operator) -> str:
    return row.name


def having(fact: Any) -> set[str]:
    return {row.name for row in OPERATORS.values() if fact(row)}


def test_each_operator_that_the_importer_makes_is_in_the_table() -> None:
    assert made_in(inspect.getsource(onnx_frontend)) - set(OPERATORS) == set()


@pytest.mark.parametrize("folder", ["onnx_model", "graph"])
def test_each_operator_that_we_make_is_in_the_table(folder: str) -> None:
    made = {name for path in (PACKAGE / folder).rglob("*.py") for name in made_in(path.read_text(encoding="utf-8"))}
    assert made
    assert made - set(OPERATORS) == set()


@pytest.mark.parametrize("row", OPERATORS.values(), ids=named)
def test_a_row_is_an_operator_of_relax(row: Operator) -> None:
    assert tvm.ir.Op.get(f"relax.{row.name}").name == f"relax.{row.name}"


def has_kernel(row: Operator) -> bool:
    return tvm.ir.Op.get(f"relax.{row.name}").get_attr("FLegalize") is not None


def operands(row: Operator) -> int:
    """Return how many tensors an operator reads."""
    known = tvm.ir.Op.get(f"relax.{row.name}")
    return sum(argument.type_info in TENSORS for argument in known.arguments)


def test_what_is_said_to_have_a_rule_of_its_own_has_one() -> None:
    assert having(lambda row: row.layout is Layout.ANCHOR) == set(ANCHOR_RULES)
    assert having(lambda row: row.layout is Layout.OWN) == set(FOLLOWER_RULES)
    assert having(lambda row: row.codes is Codes.OWN) == set(CODE_RULES)


def test_no_constant_is_computed_in_two_ways() -> None:
    assert having(lambda row: row.evaluate).isdisjoint(constants.STRUCTURAL)


#: Element-wise operators on operands of one shape that TVM has a kernel for.
MAPS = [row for row in OPERATORS.values() if row.is_elementwise and row.name != "where" and has_kernel(row)]
TRIGONOMETRIC = [
    operator(f"{kind}{name}{end}") for kind in ("", "a") for name in ("sin", "cos", "tan") for end in ("", "h")
]
#: What kernels call that is no elementary function: an instruction or two each.
CHEAP = frozenset({"fabs", "ceil", "floor", "nearbyint", "sqrt", "rsqrt", "isnan", "isinf", "if_then_else"})


@pytest.mark.parametrize("row", MAPS, ids=named)
def test_a_kernel_has_the_name_of_its_row(row: Operator) -> None:
    assert of_kernel(operator_of(only_kernel(row))) is row


@pytest.mark.parametrize("row", dict.fromkeys([*MAPS, *TRIGONOMETRIC]), ids=named)
def test_schedules_know_the_functions_that_a_kernel_calls(row: Operator) -> None:
    """Schedules count and expand the functions that they know, so one that they do not know is slow in silence."""
    called: set[str] = set()
    tvm_ffi.structural_walk(
        only_kernel(row).body,
        [(ir.Call, lambda call: called.add(call.op.name) if isinstance(call.op, ir.Op) else None)],
    )
    assert {name.rpartition(".")[2] for name in called - set(FUNCTIONS)} <= CHEAP


def only_kernel(row: Operator) -> Any:
    """Return the kernel of an operator on two by three numbers."""
    builder = relax.BlockBuilder()
    dtype = "bool" if row.name.startswith("logical") else "float32"
    variables = [relax.Var(f"x{index}", relax.TensorType((2, 3), dtype)) for index in range(operands(row))]
    function: Any = relax.op
    for part in row.name.split("."):
        function = getattr(function, part)
    more = {"clip": (0, 1), "astype": ("float16",)}.get(row.name, ())
    with builder.function(MAIN, variables):
        with builder.dataflow():
            result = builder.emit_output(function(*variables, *more))
        builder.emit_func_output(result)
    mod = legalize_operators(builder.finalize(), {})
    (kernel,) = (function for var, function in mod.functions_items() if var.name_hint != MAIN)
    return kernel


def test_facts_agree_with_each_other() -> None:
    for row in OPERATORS.values():
        assert not row.is_elementwise or row.layout is Layout.BY_KIND, row.name
        assert row.codes is not Codes.PRODUCT or row.is_linear, row.name
        assert row.neutral is None or operands(row) == 2, row.name
        assert not row.commutes or operands(row) == 2, row.name
        assert row.half is not Half.MOVES or operands(row) == 1, row.name
        assert row.kind is not Kind.RESHAPE or row.fusion in (None, Fusion.OPAQUE), row.name


def test_nothing_is_known_of_an_operator_that_is_not_in_the_table() -> None:
    unknown = operator("nn.of_tomorrow")
    assert unknown == Operator("nn.of_tomorrow")
    assert not unknown.half.is_safe
    assert unknown.layout is Layout.BY_KIND
    assert not unknown.is_elementwise
    assert of_kernel("of_tomorrow").fusion is None
