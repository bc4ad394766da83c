"""Lay ``main`` out as one straight dataflow block.

The frontend leaves a function outside a dataflow block when it holds an If. Operators have no effects besides their
results, so both branches can be computed and the result selected: ``if c: a else: b`` is ``where(c, a, b)`` when both
have the same shape. That costs the work of both branches; the models that have an If left after shape folding
(a choice of sampling rate, say) compute little in it.
"""

from __future__ import annotations

from typing import Any

from tvm import relax

from tvmbuild.graph.report import PassReport
from tvmbuild.graph.rewriter import (
    MAIN,
    Expr,
    IRModule,
    Var,
    control_flow_error,
    replace_main,
    rewrite,
    substitute,
)


def flatten(mod: IRModule) -> tuple[IRModule, PassReport]:
    """Inline every If of ``main`` as a selection and join the blocks.

    Raises:
        UnsupportedOperatorError: the branches give different shapes, or a shape depends on data.
    """
    function = mod[MAIN]
    flattener = _Flattener()
    flattener.inline(function.body)
    result = substitute(function.body.body, flattener.renamed)
    body = relax.SeqExpr([relax.BindingBlock(flattener.bindings)], result)
    function = relax.Function(list(function.params), body, function.ret_ty, True, function.attrs)
    return rewrite(replace_main(mod, function), lambda _rewriter, _var, _value: None), PassReport(
        "flatten", "If turned into selections", flattener.selections
    )


class _Flattener:
    """Collects the bindings of nested sequences in order."""

    def __init__(self) -> None:
        self.bindings: list[Any] = []
        self.renamed: dict[Var, Expr] = {}
        self.selections = 0
        self._builder = relax.BlockBuilder()

    def inline(self, sequence: Any) -> Expr:
        """Append a sequence's bindings and return its result."""
        for block in sequence.blocks:
            for binding in block.bindings:
                if not isinstance(binding, relax.VarBinding):
                    raise control_flow_error()
                value = binding.value
                value = self._select(value) if isinstance(value, relax.If) else substitute(value, self.renamed)
                self._bind(binding.var, value)
        return substitute(sequence.body, self.renamed)

    def _bind(self, var: Var, value: Expr) -> None:
        value = self._builder.normalize(value)
        fresh = relax.Var(var.name, value.ty)
        self.bindings.append(relax.VarBinding(fresh, value))
        self.renamed[var] = fresh

    def _select(self, branch: Any) -> Expr:
        condition = substitute(branch.cond, self.renamed)
        on_true, on_false = self.inline(branch.true_branch), self.inline(branch.false_branch)
        self.selections += 1
        if not isinstance(on_true.ty, relax.TupleType):
            return self._where(condition, on_true, on_false)
        fields = []
        for index in range(len(on_true.ty.fields)):
            pair = [self._name(relax.TupleGetItem(side, index)) for side in (on_true, on_false)]
            fields.append(self._name(self._where(condition, *pair)))
        return relax.Tuple(fields)

    def _where(self, condition: Expr, on_true: Expr, on_false: Expr) -> Expr:
        if str(on_true.ty) != str(on_false.ty):
            raise control_flow_error()
        return relax.op.where(condition, on_true, on_false)

    def _name(self, value: Expr) -> Var:
        value = self._builder.normalize(value)
        var = relax.Var("selected", value.ty)
        self.bindings.append(relax.VarBinding(var, value))
        return var
