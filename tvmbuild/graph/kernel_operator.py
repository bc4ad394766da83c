"""Which operator a kernel computes, as an attribute of its PrimFunc from the time it is made until it is fused.

A PrimFunc's name is no place for it: TVM numbers names, and operators have numbers in theirs. After fusion the report's
``FusedKernel`` lists the operators of each kernel, and the attributes go: a kernel's tuning record holds for what it
computes, whatever it was made from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import tvm
from tvm import relax, tirx

from tvmbuild.graph.operators import operator
from tvmbuild.graph.rewriter import MAIN, IRModule, flat_bindings, op_name

OPERATOR = "tvmbuild.operator"

#: ``(block_builder, call) -> expression``.
_Legalization = Callable[[Any, Any], Any]


def naming(builder: Any, operators: dict[str, str]) -> Any:
    """Have a builder note for each kernel that is made with it what the kernel computes.

    Args:
        builder: a ``relax.BlockBuilder``. TVM hands it back to C++, so it must be one itself and cannot be wrapped.
        operators: receives the operators, by the PrimFunc's name.

    Returns:
        The builder.
    """

    def call_te(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        name = str(kwargs.get("primfunc_name_hint") or function.__name__)
        call = relax.BlockBuilder.call_te(builder, function, *args, **kwargs)
        # Equal kernels are one; it has the name of the first.
        operators.setdefault(str(call.args[0].name_hint), name)
        return call

    builder.call_te = call_te
    return builder


def legalize_operators(mod: IRModule, own: Mapping[str, _Legalization]) -> IRModule:
    """Make every operator of ``main`` a call of a kernel that knows its operator.

    Args:
        mod: a module of operators; kernels that it has already are marked too.
        own: legalizations by operator name ("relax.nn.conv2d") that take the place of TVM's.
    """
    operators: dict[str, str] = {}

    def noting(legalization: _Legalization) -> _Legalization:
        def noted(builder: Any, call: Any) -> Any:
            # TVM's own functions see another Python object for the builder: of theirs the result is all that is known.
            result = legalization(naming(builder, operators), call)
            if op_name(result) == "call_tir":
                operators.setdefault(str(result.args[0].name_hint), operator(op_name(call)).kernel_name)
            return result

        return noted

    used = {value.op for _, value in flat_bindings(mod[MAIN]) if isinstance(getattr(value, "op", None), tvm.ir.Op)}
    stock = {str(op.name): op.get_attr("FLegalize") for op in used}
    functions = {name: noting(function) for name, function in {**stock, **own}.items() if function is not None}
    return mark_operators(relax.transform.LegalizeOps(functions)(mod), operators)


def mark_operators(mod: IRModule, operators: Mapping[str, str]) -> IRModule:
    """Set the operators of the kernels that have none yet.

    Kernels that ``operators`` does not list are those of TVM's importer, of its sorting, and the first ones of an
    operator that it makes several of: no pass asks for them, and the report shows their name without its number.
    """
    marked = {}
    for var, function in mod.functions_items():
        name = str(var.name_hint)
        is_new = isinstance(function, tirx.PrimFunc) and (function.attrs is None or OPERATOR not in function.attrs)
        made_from = operators.get(name, name.rstrip("0123456789").removeprefix("tir_"))
        marked[var] = function.with_attr(OPERATOR, made_from) if is_new else function
    return type(mod)(marked, attrs=mod.attrs)


def operator_of(function: Any) -> str:
    """Return the operator that a PrimFunc was made from ("conv2d")."""
    return str(function.attrs[OPERATOR])
