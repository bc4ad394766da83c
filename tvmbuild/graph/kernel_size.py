"""Cut groups of operators that would become too large a kernel.

A group is written as one expression an element, in which a value that is read twice stands twice
(``schedules/expression_size.py``). Where that grows beyond a limit, what stands before is a kernel of its own and its
results are tensors in memory.
"""

from __future__ import annotations

from collections.abc import Sequence

import tvm
from tvm import relax, tirx

from tvmbuild.graph.rewriter import (
    MAIN,
    Call,
    Expr,
    IRModule,
    Rewriter,
    Var,
    flat_bindings,
    op_name,
    rewrite,
    substitute,
    used_vars,
)
from tvmbuild.schedules.tir.expression_size import MAX_DEPTH, READ, Size, result_sizes

_Binding = tuple[Var, Expr]

#: Largest expression of an element: TVM takes a second for one of this size.
MAX_NODES = 1000


def cut_large(mod: IRModule) -> IRModule:
    """Cut the groups that FuseOps made so that no element's expression goes beyond ``MAX_NODES`` and ``MAX_DEPTH``.

    An operator that is larger by itself stays a kernel of its own.
    """
    cutter = _Cutter(mod)
    rewritten = rewrite(mod, cutter.rule)
    if not cutter.cuts:
        return mod
    result = cutter.builder.finalize()
    result.update_func(result.get_global_var(MAIN), rewritten[MAIN])
    return relax.transform.DeadCodeElimination()(result)


class _Cutter:
    def __init__(self, mod: IRModule) -> None:
        self.mod = mod
        self.builder = relax.BlockBuilder(mod)
        self.cuts = 0

    def rule(self, rewriter: Rewriter, _var: Var, value: Expr) -> Expr | None:
        """Replace a call of a large group by calls of its parts (see ``rewriter.Rule``)."""
        if not isinstance(value, relax.Call) or not isinstance(value.op, tvm.ir.GlobalVar):
            return None
        group = self.mod[value.op]
        bindings = flat_bindings(group)
        segments = self._segments(bindings)
        if len(segments) == 1:
            return None
        self.cuts += len(segments) - 1
        known: dict[Var, Expr] = dict(zip(group.params, value.args, strict=True))
        result = group.body.body
        for number, segment in enumerate(segments):
            later = [item for rest in segments[number + 1 :] for item in rest]
            wanted = {var for _, item in later for var in used_vars(item)} | set(used_vars(result))
            for part in _parts(segment, [var for var, _ in segment if var in wanted]):
                known[part[-1][0]] = rewriter.emit(self._call(part, known, value.op.name_hint), "part")
        return substitute(result, known)

    def _segments(self, bindings: Sequence[_Binding]) -> list[list[_Binding]]:
        """Split the bindings of a group before each one whose expression would be too large."""
        segments: list[list[_Binding]] = [[]]
        sizes: dict[Var, Size] = {}
        for var, value in bindings:
            size = self._size(value, sizes)
            if (size.nodes > MAX_NODES or size.depth > MAX_DEPTH) and segments[-1]:
                segments.append([])
                sizes.clear()
                size = self._size(value, sizes)
            segments[-1].append((var, value))
            sizes[var] = READ if size.in_memory else size
        return segments

    def _size(self, value: Expr, sizes: dict[Var, Size]) -> Size:
        """Return the size of an operator's expression; one with a sum, however it is computed, stands in memory."""
        if op_name(value) != "call_tir":
            return READ
        function = self.mod[value.args[0]]
        if not isinstance(function, tirx.PrimFunc):
            return READ
        inputs = {place: sizes[arg] for place, arg in enumerate(value.args[1].fields) if arg in sizes}
        found = result_sizes(function, inputs)
        return next((size for size in found if size.in_memory), max(found, key=lambda size: size.nodes, default=READ))

    def _call(self, part: list[_Binding], known: dict[Var, Expr], name: str) -> Call:
        """Return the call of one part in ``main``: of the operator itself, or of a new group."""
        inside = {var for var, _ in part}
        outside = list(dict.fromkeys(var for _, value in part for var in used_vars(value) if var not in inside))
        if len(part) == 1:
            return substitute(part[0][1], known)
        params = [relax.Var(var.name, var.ty) for var in outside]
        renamed: dict[Var, Expr] = dict(zip(outside, params, strict=True))
        bindings = []
        for var, value in part:
            last = var is part[-1][0]
            new = relax.Var(var.name, var.ty) if last else relax.DataflowVar(var.name, var.ty)
            bindings.append(relax.VarBinding(new, substitute(value, renamed)))
            renamed[var] = new
        output = renamed[part[-1][0]]
        body = relax.SeqExpr([relax.DataflowBlock(bindings)], output)
        function = relax.Function(params, body, output.ty, True, tvm.ir.make_node("ir.DictAttrs", Primitive=True))
        return relax.Call(self.builder.add_func(function, f"{name}_part"), [known[var] for var in outside])


def _parts(segment: Sequence[_Binding], wanted: list[Var]) -> list[list[_Binding]]:
    """Return the bindings that each wanted variable needs; what two of them need is wanted too."""
    while True:
        parts, owners = [], dict[Var, Var]()
        shared: list[Var] = []
        for var in wanted:
            part = _slice(segment, var, [other for other in wanted if other is not var])
            shared += [inner for inner, _ in part if owners.setdefault(inner, var) is not var]
            parts.append(part)
        if not shared:
            return parts
        wanted = [var for var, _ in segment if var in wanted or var is shared[-1]]


def _slice(segment: Sequence[_Binding], var: Var, stops: list[Var]) -> list[_Binding]:
    """Return the bindings that compute a variable, in order, up to tensors in memory."""
    needed = {var}
    part: list[_Binding] = []
    for bound, value in reversed(segment):
        if bound in needed and bound not in stops:
            part.append((bound, value))
            needed.update(used_vars(value))
    return part[::-1]
