"""Make an operator and the element-wise operators after it one kernel, and say what became of each.

The mechanism is TVM's: LegalizeOps has made every operator a PrimFunc, FuseOps groups them by dominance (so diamonds as
in x sigmoid(x) and residual additions come along), FuseTIR makes each group one PrimFunc. The report is read from the
groups between the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import tvm
from tvm import relax

from tvmbuild.graph.kernel_operator import operator_of
from tvmbuild.graph.kernel_size import cut_large
from tvmbuild.graph.operators import Fusion
from tvmbuild.graph.patterns import is_spreading, pattern_of, set_patterns, without_marks
from tvmbuild.graph.report import FusedKernel, Kept
from tvmbuild.graph.rewriter import MAIN, Expr, IRModule, Var, flat_bindings, is_constant, op_name, used_vars


def fuse(mod: IRModule) -> tuple[IRModule, tuple[FusedKernel, ...], tuple[Kept, ...]]:
    """Fuse the kernels of a legalized module.

    Returns:
        The module, its kernels, and the element-wise operators that stayed alone.
    """
    mod = set_patterns(relax.transform.AnnotateTIROpPattern()(mod))
    grouped = cut_large(relax.transform.FuseOps()(mod))
    groups = _read_groups(grouped)
    fused = without_marks(relax.transform.FuseTIR()(grouped))
    return fused, _kernels(groups), _unfused(grouped, groups)


@dataclass(frozen=True)
class _Group:
    """One call in ``main`` of a kernel to be."""

    var: Var
    name: str
    ops: tuple[str, ...]
    patterns: tuple[int, ...]
    inputs: tuple[Expr, ...]
    spreads: bool

    @property
    def is_elementwise(self) -> bool:
        return self.spreads or all(pattern <= Fusion.BROADCAST for pattern in self.patterns)


def _read_groups(mod: IRModule) -> list[_Group]:
    groups = []
    for var, value in flat_bindings(mod[MAIN]):
        if op_name(value) == "call_tir":
            arguments = tuple(value.args[1].fields)
            calls: list[tuple[Expr, dict[Var, Expr]]] = [(value, {})]
            name = value.args[0].name_hint
        elif isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar):
            arguments, name = tuple(value.args), value.op.name_hint
            function = mod[value.op]
            actual = dict(zip(function.params, arguments, strict=True))
            calls = [(call, actual) for _, call in flat_bindings(function) if op_name(call) == "call_tir"]
        else:
            continue
        functions = [mod[call.args[0]] for call, _ in calls]
        patterns = tuple(map(pattern_of, functions))
        inputs = tuple(arg for arg in arguments if isinstance(arg, relax.Var))
        ops = _name_ops(calls, list(map(operator_of, functions)))
        groups.append(_Group(var, name, ops, patterns, inputs, is_spreading(functions[0])))
    return groups


def _name_ops(calls: Sequence[tuple[Expr, dict[Var, Expr]]], operators: Sequence[str]) -> tuple[str, ...]:
    """Name a group's operators, composite activations and the bias by their usual names."""
    ops: list[str] = []
    for index, ((call, actual), op) in enumerate(zip(calls, operators, strict=True)):
        constants = [arg for arg in call.args[1].fields if is_constant(actual.get(arg, arg))]
        is_constant_sum = constants or len(call.args[1].fields) == 1  # A scalar is part of the kernel.
        ops.append("bias" if op == "add" and index == 1 and is_constant_sum else op)
    return _with_activations(ops, [len(call.args[1].fields) for call, _ in calls])


#: Chains of canonical activations (see activations.py): operator and number of tensors that it reads.
_ACTIVATIONS = (
    ("hard_swish", (("multiply", 1), ("add", 1), ("clip", 1), ("multiply", 2))),
    ("hard_sigmoid", (("multiply", 1), ("add", 1), ("clip", 1))),
)


def _with_activations(ops: list[str], arity: list[int]) -> tuple[str, ...]:
    named: list[str] = []
    index = 0
    while index < len(ops):
        for name, chain in _ACTIVATIONS:
            if tuple(zip(ops[index : index + len(chain)], arity[index:], strict=False)) == chain:
                named.append(name)
                index += len(chain)
                break
        else:
            named.append(ops[index])
            index += 1
    return tuple(named)


def _kernels(groups: Sequence[_Group]) -> tuple[FusedKernel, ...]:
    counts: dict[str, int] = {}
    ops: dict[str, tuple[str, ...]] = {}
    for group in groups:
        counts[group.name] = counts.get(group.name, 0) + 1
        ops.setdefault(group.name, group.ops)
    return tuple(FusedKernel(name, ops[name], count) for name, count in counts.items())


def _unfused(mod: IRModule, groups: Sequence[_Group]) -> tuple[Kept, ...]:
    uses: dict[Var, int] = {}
    for _, value in flat_bindings(mod[MAIN]):
        for var in used_vars(value):
            uses[var] = uses.get(var, 0) + 1
    for var in used_vars(mod[MAIN].body.body):
        uses[var] = uses.get(var, 0) + 1
    producers = {group.var: group for group in groups}
    return tuple(
        Kept("+".join(group.ops), _why_alone(group, producers, uses)) for group in groups if group.is_elementwise
    )


def _why_alone(group: _Group, producers: dict[Var, _Group], uses: dict[Var, int]) -> str:
    sources = [(var, producers.get(var)) for var in group.inputs]
    computed = [(var, producer) for var, producer in sources if producer is not None]
    if not computed:
        return "it reads an input of the model"
    if group.spreads:
        return "it spreads a small tensor over a large one"
    shared = [producer for var, producer in computed if uses[var] > 1]
    if len(shared) == len(computed):
        return f"its producer {'+'.join(shared[0].ops)} has another consumer"
    alone = next(producer for var, producer in computed if uses[var] == 1)
    if alone.patterns[-1] == Fusion.OPAQUE:
        return f"its producer {alone.ops[-1]} takes no epilogue"
    return f"its producer {'+'.join(alone.ops)} has a result of another shape"
