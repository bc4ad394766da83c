"""The counts of uses that a rule sees while the pass that it belongs to removes operators."""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from tvm import relax

from tvmbuild.graph.rewriter import Expr, Rewriter, Var, flat_bindings, op_name, rewrite

#: Operators that the rule of this test removes, or replaces by another call.
REMOVED, REPLACED = "negative", "exp"
STEPS = st.lists(st.tuples(st.sampled_from(["add", "abs", REMOVED, REPLACED]), st.integers(0, 9)), min_size=1)


def graph(steps: list[tuple[str, int]]) -> Any:
    """Return a function in which each operator reads values before it: any one, and an addition the last one too."""
    builder = relax.BlockBuilder()
    data = relax.Var("data", relax.TensorType((4,), "float32"))
    with builder.function("main", [data]):
        with builder.dataflow():
            values = [data]
            for name, place in steps:
                source = values[place % len(values)]
                operator = getattr(relax.op, name)
                values.append(builder.emit(operator(source, values[-1]) if name == "add" else operator(source)))
            result = builder.emit_output(relax.op.abs(values[-1]))
        builder.emit_func_output(result)
    return builder.finalize()


def uses_without_the_removed(function: Any) -> tuple[Counter[Var], dict[Var, Var]]:
    """Return how often each variable is used when the removed operators are gone, and what stands for their results."""
    stands_for: dict[Var, Var] = {}
    uses: Counter[Var] = Counter({function.body.body: 1})
    for var, value in flat_bindings(function):
        args = [stands_for.get(arg, arg) for arg in value.args]
        if op_name(value) == REMOVED:
            stands_for[var] = args[0]
        else:
            uses.update(args)
    return uses, stands_for


@settings(max_examples=60)
@given(STEPS)
def test_a_removed_operator_leaves_its_readers_to_what_it_read(steps: list[tuple[str, int]]) -> None:
    mod = graph(steps)
    old = dict(flat_bindings(mod["main"]))
    uses, stands_for = uses_without_the_removed(mod["main"])
    last = max((place for place, value in enumerate(old.values()) if op_name(value) == REMOVED), default=-1)
    seen = 0

    def rule(rewriter: Rewriter, var: Var, value: Expr) -> Expr | None:
        nonlocal seen
        # Until the last of them is removed it is one use, in place of those that read its result.
        if seen > last:
            roots = [stands_for.get(arg, arg) for arg in old[var].args]
            assert [rewriter.uses(arg) for arg in value.args] == [uses[root] for root in roots]
        seen += 1
        if op_name(value) == REMOVED:
            return value.args[0]
        return relax.op.sigmoid(value.args[0]) if op_name(value) == REPLACED else None

    rewrite(mod, rule)
    assert seen == len(old)
