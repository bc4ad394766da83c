"""The frame of a pass that rewrites places of ``main`` one by one: match, rewrite, count, report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvmbuild.graph.report import Kept, PassReport
from tvmbuild.graph.rewriter import Expr, IRModule, Rewriter, Var, rewrite


@dataclass(frozen=True)
class Uncounted:
    """What a rule returns for a place that is not one of those that its pass counts as rewritten.

    Attributes:
        value: what stands there all the same; None keeps what stood there.
        kept: the place and why it was left, for the report; None where it does not concern the pass.
    """

    value: Expr | None = None
    kept: Kept | None = None


#: Like ``rewriter.Rule``; an expression counts as one place rewritten.
CountedRule = Callable[[Rewriter, Var, Expr], "Expr | Uncounted | None"]


def rewrite_counted(mod: IRModule, name: str, what: str, rule: CountedRule) -> tuple[IRModule, PassReport]:
    """Apply a rule to every binding of ``main``.

    Args:
        mod: the module.
        name: the pass, as in ``PassReport``.
        what: what is counted, for people.
        rule: returns what shall stand in a binding's place, or None to keep it.

    Returns:
        The module, and how many places were rewritten and which were left.
    """
    applied = 0
    kept: list[Kept] = []

    def counted(rewriter: Rewriter, var: Var, value: Expr) -> Expr | None:
        nonlocal applied
        result = rule(rewriter, var, value)
        if not isinstance(result, Uncounted):
            applied += result is not None
            return result
        if result.kept is not None:
            kept.append(result.kept)
        return result.value

    mod = rewrite(mod, counted)
    return mod, PassReport(name, what, applied, tuple(kept))
