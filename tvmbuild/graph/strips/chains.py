"""The pass: find chains, plan them, make their kernels and call each chain as one.

What a chain's first layer reads and its last one makes lie in memory as before; what is between lives in a workspace of
a few rows a core, which the call has as its second output, so that it lies in the arena.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tvm import relax

from tvmbuild.graph.kernel_operator import OPERATOR
from tvmbuild.graph.operators import Fusion
from tvmbuild.graph.report import NO_STRIPS, Kept, PassReport, StripChain, StripReport
from tvmbuild.graph.rewriter import MAIN, Expr, IRModule, Rewriter, Var, dtype_of, rewrite, shape_of
from tvmbuild.graph.strips import plan as planning
from tvmbuild.graph.strips.assemble import assemble, orders_of
from tvmbuild.graph.strips.cost import Cost, Memory, bytes_of, cost_of, memory_of
from tvmbuild.graph.strips.emit import Made, Maker, Order, make_kernels
from tvmbuild.graph.strips.plan import Choice, Division, Link, link
from tvmbuild.graph.strips.rows import Plan, plan_rows
from tvmbuild.graph.strips.stage import Graph, Stage, find_stages
from tvmbuild.schedules.cache import LINE
from tvmbuild.schedules.legalize.conv2d_choices import Plans
from tvmbuild.schedules.registry import IS_SCHEDULED, MACS, ROWS, WORKLOAD
from tvmbuild.schedules.strips.chain import Chain
from tvmbuild.schedules.strips.compose import compose, workspace_bytes
from tvmbuild.target.target import Target

#: Times that chains are planned anew without a stage that turned out to be no kernel.
_ATTEMPTS = 8
#: Name and subject of the report.
_COUNTED = ("strips", "kernels in chains that run strip by strip")
UNKNOWN = "there is no fast kernel for strips of it"


@dataclass(frozen=True)
class _Ready:
    """A planned chain whose kernels are made."""

    link: Link
    choice: Choice
    plan: Plan
    macs: int


def run_in_strips(mod: IRModule, target: Target, make: Maker, plans: Plans) -> tuple[IRModule, PassReport, StripReport]:
    """Replace stretches of ``main`` by chains that run strip by strip.

    Args:
        mod: operators in NHWC.
        target: the board.
        make: legalizes, fuses and schedules a module of operators.
        plans: names of convolutions' plans, where they are not the rule's.
    """
    memory = memory_of(target)
    if memory is None:
        return mod, PassReport(*_COUNTED, 0), NO_STRIPS
    graph = Graph(mod[MAIN])
    stages, costs, division, made = _settled(graph, target, memory, make, plans)
    ready = [_ready(stages, costs, choice, target) for choice in division.chains]
    mod, chains = _replaced(mod, ready, made)
    done = sum(len(each.link.stages) for each in ready)
    kept = tuple(Kept(str(stages[number]), reason) for number, reason in sorted(division.kept.items()))
    report = PassReport(*_COUNTED, done, kept)
    before = sum(_moved([stage], memory) for stage in stages)
    inside = {stage.output for each in ready for stage in each.link.stages}
    alone = sum(_moved([stage], memory) for stage in stages if stage.output not in inside)
    after = alone + sum(_moved(each.link.stages, memory) for each in ready)
    return mod, report, StripReport(tuple(chains), int(before), int(after))


def _settled(
    graph: Graph, target: Target, memory: Memory, make: Maker, plans: Plans
) -> tuple[tuple[Stage, ...], list[Cost | None], Division, dict[Order, Made]]:
    """Plan, make the kernels, and plan again without the stages that have none."""
    alone: frozenset[Var] = frozenset()
    banned: frozenset[Var] = frozenset()
    known: dict[tuple[Var, Var], Cost] = {}
    for _ in range(_ATTEMPTS):
        stages = find_stages(graph, alone)
        costs = [None if stage.first in banned else _known_cost(stage, target, plans, known) for stage in stages]
        division = planning.Planner(graph, stages, costs, memory, target.cores).divide()
        orders = [
            each
            for choice in division.chains
            for each in orders_of(_ready(stages, costs, choice, target).plan, choice.first)
        ]
        named = [cost.plan if cost is not None else "" for cost in costs]
        made = dict(zip(orders, make_kernels(stages, orders, named, target, make), strict=True))
        failed = {each.stage for each, kernel in made.items() if kernel is None}
        if not failed:
            division.kept |= {number: UNKNOWN for number, stage in enumerate(stages) if stage.first in banned}
            return stages, costs, division, {each: kernel for each, kernel in made.items() if kernel is not None}
        # First without what is fused behind them; then not at all, and with it again.
        for stage in (stages[number] for number in failed):
            if len(stage.bindings) > 1:
                alone |= {stage.first}
            else:
                alone, banned = alone - {stage.first}, banned | {stage.first}
    return (), [], Division(), {}


def _known_cost(stage: Stage, target: Target, plans: Plans, known: dict[tuple[Var, Var], Cost]) -> Cost:
    key = stage.first, stage.output
    if key not in known:
        known[key] = cost_of(stage, target, plans)
    return known[key]


def _ready(stages: Sequence[Stage], costs: Sequence[Cost | None], choice: Choice, target: Target) -> _Ready:
    inside = slice(choice.first, choice.last + 1)
    priced = [cost for cost in costs[inside] if cost is not None]
    chain = link(stages[inside], [cost.granule for cost in priced])
    macs = sum(cost.macs for cost in priced)
    return _Ready(chain, choice, plan_rows(chain.rows, target.cores, choice.height, choice.policy), macs)


def _moved(stages: Sequence[Stage], memory: Memory) -> float:
    """Return the bytes that kernels read from memory and write to it, as one chain."""
    chain = link(stages, [1] * len(stages))
    return LINE * sum(memory.lines_moved(bytes_of(var)) for var in (*chain.inputs, stages[-1].output))


def _replaced(mod: IRModule, ready: Sequence[_Ready], made: Mapping[Order, Made]) -> tuple[IRModule, list[StripChain]]:
    builder = relax.BlockBuilder(mod)
    calls: dict[Var, tuple[Chain, Link, relax.GlobalVar, list[Expr]]] = {}
    chains = []
    for each in ready:
        chain, constants = assemble(_name(each.link), each.link, each.plan, made, each.choice.first)
        function = (
            compose(chain)
            .without_attr("global_symbol")
            .with_attrs(
                {
                    "op_pattern": int(Fusion.OPAQUE),
                    IS_SCHEDULED: True,
                    OPERATOR: "+".join(map(str, each.link.stages)),
                    MACS: each.macs,
                    WORKLOAD: "; ".join(map(str, each.link.stages)),
                    ROWS: each.choice.height,
                }
            )
        )
        kernel = builder.add_func(function, chain.name)
        calls[each.link.stages[-1].output] = (chain, each.link, kernel, constants)
        layers = tuple(map(str, each.link.stages))
        chains.append(
            StripChain(kernel.name_hint, layers, each.choice.height, each.choice.policy.value, len(chain.kernels))
        )
    return (rewrite(builder.finalize(), _rule(calls)) if calls else mod), chains


def _rule(
    calls: Mapping[Var, tuple[Chain, Link, relax.GlobalVar, list[Expr]]],
) -> Callable[[Rewriter, Var, Expr], Expr | None]:
    def rule(rewriter: Rewriter, var: Var, _value: Expr) -> Expr | None:
        if var not in calls:
            return None
        chain, chained, kernel, constants = calls[var]
        arguments = [*(rewriter.current(each) for each in chained.inputs), *constants]
        workspace = relax.TensorType((max(1, workspace_bytes(chain)),), "uint8")
        output = relax.TensorType(shape_of(var), dtype_of(var))
        call = relax.call_tir(kernel, arguments, out_ty=[output, workspace])
        return relax.TupleGetItem(rewriter.emit(call, "strips"), 0)

    return rule


def _name(chained: Link) -> str:
    """Return a name for the kernel of a chain: what its layers begin with."""
    heads = [stage.names[0] for stage in chained.stages]
    return f"strips_{'_'.join(heads[:3])}_{len(heads)}" if len(heads) > 3 else f"strips_{'_'.join(heads)}"
