"""Chains of layers that run strip by strip: which are found, how they are planned, and that rows are the right ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from seeded import rng
from strip_chains import RandomLayers, Reference, run, whole
from tvm import relax

from tvmbuild import schedules
from tvmbuild.graph.pipeline import optimize
from tvmbuild.graph.rewriter import flat_bindings, op_name, shape_of
from tvmbuild.graph.strips import plan as planning
from tvmbuild.graph.strips.assemble import assemble, orders_of
from tvmbuild.graph.strips.cost import Memory, cost_of, memory_of
from tvmbuild.graph.strips.emit import Made
from tvmbuild.graph.strips.plan import Planner, link
from tvmbuild.graph.strips.rows import Policy, Window, plan_rows, split
from tvmbuild.graph.strips.stage import Graph, Stage, find_stages, granule_of, is_chain
from tvmbuild.schedules.registry import KernelReport
from tvmbuild.target.target import load_target

BOARD = load_target("rpi4")
REPORT = KernelReport("", "", 0, "")


def granules(stages: Sequence[Stage]) -> st.SearchStrategy[list[int]]:
    """Rows at whose multiples the kernels of stages begin; mostly any."""
    drawn = st.lists(st.sampled_from([1, 1, 1, 2, 4]), min_size=len(stages), max_size=len(stages))
    return drawn.map(lambda rows: [granule_of(stage) * each for stage, each in zip(stages, rows, strict=True)])


@given(st.data())
@settings(max_examples=150)
def test_strips_give_what_layers_give(data: st.DataObject) -> None:
    function = RandomLayers(data.draw).module()["main"]
    graph = Graph(function)
    stages = find_stages(graph)
    first = data.draw(st.integers(0, len(stages) - 1))
    lasts = [last for last in range(first, len(stages)) if is_chain(graph, stages[first : last + 1])]
    chosen = stages[first : data.draw(st.sampled_from(lasts)) + 1]
    chained = link(chosen, data.draw(granules(chosen)))
    height = chained.rows.nodes[-1].granule * data.draw(st.integers(1, 6))
    plan = plan_rows(chained.rows, data.draw(st.integers(1, 5)), height, data.draw(st.sampled_from(Policy)))
    made = {
        each: Made(Reference(chosen[each.stage], each), tuple(range(len(chosen[each.stage].sources))), REPORT)
        for each in orders_of(plan, 0)
    }
    chain, constants = assemble("chain", chained, plan, made, 0)
    assert not constants
    values = whole(
        graph.bindings, {function.params[0]: rng().integers(-3, 4, shape_of(function.params[0])).astype("float32")}
    )
    result = run(chain, [values[var] for var in chained.inputs])
    np.testing.assert_array_equal(result, values[chosen[-1].output])


@given(st.data())
@settings(max_examples=60)
def test_rolling_computes_no_row_twice(data: st.DataObject) -> None:
    graph = Graph(RandomLayers(data.draw).module()["main"])
    stages = find_stages(graph)
    height = granule_of(stages[-1]) * data.draw(st.integers(1, 4))
    if not is_chain(graph, stages):
        return
    plan = plan_rows(
        link(stages, [granule_of(stage) for stage in stages]).rows, data.draw(st.integers(1, 3)), height, Policy.ROLLING
    )
    for strips in plan.cores:
        made = [(piece.node, row) for strip in strips for piece in strip.pieces for row in range(*piece.rows)]
        assert len(made) == len(set(made))


@pytest.mark.parametrize(("height", "cores", "granule"), [(7, 4, 1), (112, 4, 1), (2, 4, 1), (14, 4, 4), (9, 2, 2)])
def test_each_row_is_one_cores(height: int, cores: int, granule: int) -> None:
    shares = split(height, cores, granule)
    assert [row for share in shares for row in range(*share)] == list(range(height))
    sizes = [high - low for low, high in shares]
    assert max(sizes) - min(sizes) <= granule
    assert all(low % granule == 0 for low, _ in shares)


def test_a_window_says_what_is_padding() -> None:
    window = Window(kernel=3, stride=2, dilation=2, top=1)
    assert window.reads((0, 1), 20) == ((0, 4), 1, 0)
    assert window.reads((2, 4), 20) == ((3, 10), 0, 0)
    assert window.reads((8, 10), 20) == ((15, 20), 0, 2)


def net(size: int, *, outside: bool = False) -> Any:
    """Two inverted residuals of a size, with the first one's expansion as second output or not."""
    builder = relax.BlockBuilder()
    data = relax.Var("x", relax.TensorType((1, size, size, 16), "float32"))

    def convolved(value: Any, channels: int, kernel: int = 1, groups: int = 1, clip: bool = True) -> Any:
        depth = shape_of(value)[3] // groups
        weight = relax.const(rng().standard_normal((channels, depth, kernel, kernel)).astype("float32"))
        call = relax.op.nn.conv2d(
            value, weight, padding=kernel // 2, groups=groups, data_layout="NHWC", kernel_layout="OIHW"
        )
        value = builder.emit(call)
        value = builder.emit(relax.op.add(value, relax.const(rng().standard_normal(channels).astype("float32"))))
        return builder.emit(relax.op.clip(value, 0, 6)) if clip else value

    with builder.function("main", [data]):
        with builder.dataflow():
            value, extra = data, []
            for _ in range(2):
                wide = convolved(value, 96)
                extra.append(wide)
                narrow = convolved(convolved(wide, 96, 3, 96), 16, clip=False)
                value = builder.emit(relax.op.add(narrow, value))
            result = builder.emit_output(relax.Tuple([value, extra[0]]) if outside else value)
        builder.emit_func_output(result)
    return builder.finalize()


def divided(mod: Any, memory: Memory) -> planning.Division:
    graph = Graph(mod["main"])
    stages = find_stages(graph)
    return Planner(graph, stages, [cost_of(stage, BOARD) for stage in stages], memory, BOARD.cores).divide()


MEBIBYTE = 2**20
PI = Memory(MEBIBYTE, int(0.6 * MEBIBYTE), 23.0, 7.0, 19_500.0)


def test_element_wise_operators_belong_to_the_layer_before() -> None:
    stages = find_stages(Graph(net(56)["main"]))
    assert [str(stage) for stage in stages] == ["conv2d+add+clip", "conv2d+add+clip", "conv2d+add+add"] * 2


def test_large_images_are_chained() -> None:
    chains = divided(net(56), PI).chains
    assert sum(choice.last - choice.first + 1 for choice in chains) == 6
    assert all(choice.policy is Policy.ROLLING and choice.height < 14 for choice in chains)


def test_small_images_stay_in_the_cache() -> None:
    division = divided(net(14), PI)
    assert not division.chains
    assert set(division.kept.values()) == {planning.IN_CACHE, planning.AT_END}


def test_a_large_cache_needs_no_chains() -> None:
    assert not divided(net(56), dataclasses.replace(PI, shared=64 * MEBIBYTE, scratch=38 * MEBIBYTE)).chains


def test_what_does_not_fit_is_left_alone() -> None:
    division = divided(net(56), dataclasses.replace(PI, scratch=MEBIBYTE // 64))
    assert not division.chains
    assert planning.TOO_LARGE in division.kept.values()


def test_an_unknown_cache_is_not_planned_for() -> None:
    board = memory_of(BOARD)
    assert board is not None
    assert (board.shared, board.scratch) == (PI.shared, PI.scratch)
    assert (board.bus_line, board.cache_line) == pytest.approx((BOARD.core.costs.bus_line, BOARD.core.costs.l2_line))
    assert memory_of(load_target("rpi5")).shared == 2 * MEBIBYTE
    assert memory_of(dataclasses.replace(load_target("rpi5"), l3_kib=0)) is None


def test_what_others_read_is_stored() -> None:
    division = divided(net(56, outside=True), PI)
    assert all(choice.first > 0 for choice in division.chains)
    assert division.kept[0] == planning.READ_OUTSIDE


def test_a_chain_is_one_call_with_a_workspace() -> None:
    mod, report = optimize(net(56), BOARD, kernels=schedules)
    calls = [value for _, value in flat_bindings(mod["main"]) if op_name(value) == "call_tir"]
    chains = [call for call in calls if "strips" in call.args[0].name_hint]
    assert len(calls) == len(chains) == len(report.strips.chains)
    sizes = [[tuple(map(int, field.shape)) for field in call.ty.fields] for call in chains]
    assert all(output == (1, 56, 56, 16) and workspace[0] < 0.6 * MEBIBYTE for output, workspace in sizes)
    assert report.strips.after < report.strips.before
    assert str(report.strips) in report.lines()
    assert report.summary()["strips"]["told"] == str(report.strips)
    assert [f"  {chain}" in report.lines(verbose=True) for chain in report.strips.chains] == [True] * len(chains)
    assert not [line for line in report.lines() if line.startswith("warning")]
    assert report.plan.arena < 2 * 56 * 56 * 16 * 4 + MEBIBYTE


def test_strips_can_be_turned_off() -> None:
    mod, report = optimize(net(56), BOARD, kernels=schedules, strips=False)
    assert len([value for _, value in flat_bindings(mod["main"]) if op_name(value) == "call_tir"]) == 6
    assert not report.strips.chains


def test_a_layer_without_a_fast_kernel_ends_its_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    from tvmbuild.graph.strips import chains

    made = chains.make_kernels

    def without_depthwise(stages: Any, orders: Any, *rest: Any) -> Any:
        found = made(stages, orders, *rest)
        heads = [stages[each.stage].head for each in orders]
        is_refused = [op_name(head) == "nn.conv2d" and int(head.attrs.groups) > 1 for head in heads]
        return [None if refused else kernel for refused, kernel in zip(is_refused, found, strict=True)]

    monkeypatch.setattr(chains, "make_kernels", without_depthwise)
    _, report = optimize(net(56), BOARD, kernels=schedules)
    done = next(each for each in report.passes if each.name == "strips")
    assert [place.node for place in done.kept if place.reason == chains.UNKNOWN] == ["conv2d+add+clip"] * 2
