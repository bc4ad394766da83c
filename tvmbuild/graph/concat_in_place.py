"""Let the producers of a concatenation write where its result lies, so that nothing is copied.

``y = concat(a(x), b(x))`` becomes ``y = b'(x, a'(x))``: a' is kernel a with an output of y's size, of which it writes
its slice; b' is given that tensor and writes its own slice into it (``call_tir_inplace``). The kernels are scheduled
before, so that only the addresses of their outputs change. A concatenation stays a copy where an operand has another
reader, is no kernel's only output, or is written through a flat view.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import tvm
from tvm import relax, tirx

from tvmbuild.graph.report import FusedKernel, Kept, PassReport
from tvmbuild.graph.rewriter import (
    MAIN,
    Expr,
    IRModule,
    Rewriter,
    Var,
    flat_bindings,
    op_name,
    rewrite,
    shape_of,
    used_vars,
)
from tvmbuild.schedules.tir.output_slice import write_slice

if TYPE_CHECKING:
    from tvmbuild.schedules.registry import KernelReport

#: The operators of a kernel that only concatenates; with fused ones it is no copy.
_CONCATENATION = ("concatenate",)


@dataclass(frozen=True)
class InPlace:
    """A module whose concatenations are in place, with its kernels and their schedules."""

    mod: IRModule
    kernels: tuple[FusedKernel, ...]
    schedules: tuple[KernelReport, ...]
    report: PassReport


@dataclass
class _Slice:
    """Where a producer writes: part of which concatenation, its new kernel, and whether it is the first to write."""

    kernel: tvm.ir.GlobalVar
    concatenation: Var
    first: bool


@dataclass
class _Plan:
    builder: relax.BlockBuilder
    slices: dict[Var, _Slice] = field(default_factory=dict)
    #: The tensor of each concatenation in its state so far.
    states: dict[Var, Expr] = field(default_factory=dict)
    #: Old kernel's name by that of the new one.
    origins: dict[str, str] = field(default_factory=dict)
    kept: list[Kept] = field(default_factory=list)


def concat_in_place(mod: IRModule, kernels: tuple[FusedKernel, ...], schedules: tuple[KernelReport, ...]) -> InPlace:
    """Rewrite a scheduled module.

    Args:
        mod: calls of PrimFuncs in ``main``.
        kernels: its kernels.
        schedules: what the kernel library said of them.
    """
    plan = _plan(mod, {kernel.name for kernel in kernels if kernel.ops == _CONCATENATION})
    if plan.slices:
        mod = _without_unused(rewrite(plan.builder.finalize(), _rule(plan)))
    done = len({each.concatenation for each in plan.slices.values()})
    report = PassReport("concat_in_place", "concatenations written in place", done, tuple(plan.kept))
    return InPlace(mod, _count(mod, kernels, plan.origins), _described(schedules, plan.origins), report)


def _plan(mod: IRModule, concatenations: set[str]) -> _Plan:
    function = mod[MAIN]
    bindings = flat_bindings(function)
    values = dict(bindings)
    uses = Counter(used for _, value in bindings for used in used_vars(value))
    uses.update(used_vars(function.body.body))
    plan = _Plan(relax.BlockBuilder(mod))
    for var, value in bindings:
        if op_name(value) != "call_tir" or value.args[0].name_hint not in concatenations:
            continue
        operands = list(value.args[1].fields)
        placed = {each.concatenation for each in plan.slices.values()}
        reason = _refusal(operands, values, uses, placed)
        slices = {} if reason else _slices(mod, var, operands, values, plan)
        if slices:
            plan.slices |= slices
        else:
            plan.kept.append(Kept("concat", reason or "an operand is written through a flat view"))
    return plan


def _refusal(operands: list[Expr], values: dict[Var, Expr], uses: Counter[Var], placed: set[Var]) -> str:
    for operand in operands:
        value = values.get(operand) if isinstance(operand, relax.Var) else None
        if value is None or op_name(value) != "call_tir" or not isinstance(operand.ty, relax.TensorType):
            return "an operand is not the output of a kernel"
        if len(value.args) != 2:
            return "an operand's kernel takes sizes"
        if uses[operand] > 1:
            return "an operand has another reader"
        if operand in placed:
            return "an operand is itself written in place"
    return ""


def _slices(
    mod: IRModule, concatenation: Var, operands: list[Var], values: dict[Var, Expr], plan: _Plan
) -> dict[Var, _Slice]:
    """Return where each operand's producer writes, in the order in which they run; nothing when one cannot."""
    whole = shape_of(concatenation)
    shapes = [shape_of(operand) for operand in operands]
    axis = next(axis for axis, extent in enumerate(whole) if shapes[0][axis] != extent)
    offset, functions = 0, {}
    for operand, shape in zip(operands, shapes, strict=True):
        functions[operand] = write_slice(mod[values[operand].args[0]], whole, axis, offset)
        if functions[operand] is None:
            return {}
        offset += shape[axis]
    found = {}
    for operand, function in functions.items():
        old = values[operand].args[0].name_hint
        # Equal functions are added once.
        kernel = plan.builder.add_func(function, f"{old}_slice")
        plan.origins[kernel.name_hint] = old
        found[operand] = _Slice(kernel, concatenation, False)
    in_order = {var: found[var] for var in values if var in found}
    next(iter(in_order.values())).first = True
    return in_order


def _rule(plan: _Plan) -> Callable[[Rewriter, Var, Expr], Expr | None]:
    def rule(rewriter: Rewriter, var: Var, value: Expr) -> Expr | None:
        if var in plan.states:
            return plan.states[var]
        place = plan.slices.get(var)
        if place is None:
            return None
        whole, arguments = place.concatenation, list(value.args[1].fields)
        if place.first:
            call = relax.call_tir(place.kernel, arguments, out_ty=whole.ty)
        else:
            state = plan.states[whole]
            call = relax.op.call_tir_inplace(place.kernel, [*arguments, state], len(arguments), whole.ty)
        plan.states[whole] = rewriter.emit(call, "slice")
        return plan.states[whole]

    return rule


def _without_unused(mod: IRModule) -> IRModule:
    used = {value.args[0].name_hint for _, value in flat_bindings(mod[MAIN]) if op_name(value).startswith("call_tir")}
    functions = {
        var: function
        for var, function in mod.functions_items()
        if not isinstance(function, tirx.PrimFunc) or var.name_hint in used
    }
    return tvm.IRModule(functions, attrs=mod.attrs)


def _count(mod: IRModule, kernels: tuple[FusedKernel, ...], origins: dict[str, str]) -> tuple[FusedKernel, ...]:
    """Return the kernels by first use, as the module calls them now."""
    calls = Counter(
        value.args[0].name_hint for _, value in flat_bindings(mod[MAIN]) if op_name(value).startswith("call_tir")
    )
    known = {kernel.name: kernel for kernel in kernels}
    return tuple(
        replace(known[origins.get(name, name)], name=name, count=count)
        for name, count in calls.items()
        if origins.get(name, name) in known
    )


def _described(schedules: tuple[KernelReport, ...], origins: dict[str, str]) -> tuple[KernelReport, ...]:
    if not origins:
        return schedules
    known = {report.name: report for report in schedules}
    moved = [replace(known[old], name=new) for new, old in origins.items() if old in known]
    return (*schedules, *moved)
