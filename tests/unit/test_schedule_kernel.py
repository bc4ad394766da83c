"""What ``analyze`` reads off a PrimFunc, and what happens to one that nothing matches."""

import pytest
from tvm import relax, te, topi

from tvmbuild.graph.report import FusedKernel, GraphReport, MemoryPlan
from tvmbuild.schedules import schedule_module
from tvmbuild.schedules.kernel import analyze
from tvmbuild.schedules.knob import Knob, defaults
from tvmbuild.schedules.registry import NAIVE
from tvmbuild.schedules.schedule import Schedule
from tvmbuild.schedules.tir.expression_size import result_sizes
from tvmbuild.target.target import load_target


def _padded_window_sum_relu():
    data = te.placeholder((1, 6, 6, 4), name="data")
    bias = te.placeholder((1, 1, 1, 4), name="bias")
    padded = topi.nn.pad(data, [0, 1, 1, 0], name="pad")
    i, j = te.reduce_axis((0, 3)), te.reduce_axis((0, 3))
    total = te.compute(
        (1, 6, 6, 4),
        lambda n, h, w, c: te.sum(padded[n, h + i, w + j, c], axis=[i, j]),
        name="total",
        attrs={"tvmbuild.kind": "window"},
    )
    return te.create_prim_func([data, bias, topi.nn.relu(topi.add(total, bias))])


def test_stages_are_producers_main_epilogue():
    kernel = analyze("k", _padded_window_sum_relu())
    assert kernel is not None
    assert [stage.name for stage in kernel.producers] == ["pad"]
    assert kernel.main is not None
    assert kernel.main.name == "total"
    assert len(kernel.epilogue) == 2
    assert all(stage.elementwise for stage in kernel.epilogue)
    assert kernel.kind == "window"
    assert kernel.macs == 6 * 6 * 4 * 9


def test_dynamic_extents_are_left_alone():
    n = te.var("n", "int64")
    data = te.placeholder((n, 4), name="data")
    assert analyze("k", te.create_prim_func([data, topi.nn.relu(data)])) is None


def test_unmatched_kernel_is_reported_naive_and_unchanged(monkeypatch):
    monkeypatch.setattr("tvmbuild.schedules.registry.SCHEDULES", ())
    builder = relax.BlockBuilder()
    func = _padded_window_sum_relu()
    builder.add_func(func, "k")
    mod, reports = schedule_module(builder.get(), load_target("rpi4"))
    assert [(report.name, report.kind, report.macs) for report in reports] == [("k", NAIVE, 1296)]
    assert "is_scheduled" not in mod.script()


def test_knob_default_must_be_a_candidate():
    assert defaults((Knob("columns", 8, (4, 8)),)) == {"columns": 8}
    with pytest.raises(ValueError, match="columns"):
        Knob("columns", 7, (4, 8))


def failing(step):
    def apply(sch, kernel, target, choice):
        step(sch)

    return Schedule("window", lambda kernel, target: True, lambda kernel, target: (), apply)


def test_a_mistake_in_a_schedule_of_ours_is_not_taken_for_a_slow_kernel(monkeypatch):
    builder = relax.BlockBuilder()
    builder.add_func(_padded_window_sum_relu(), "k")
    for step, error in ((lambda sch: sch.vectorize(0), TypeError), (lambda sch: dict[str, int]()["absent"], KeyError)):
        monkeypatch.setattr("tvmbuild.schedules.registry.SCHEDULES", (failing(step),))
        with pytest.raises(error):
            schedule_module(builder.get(), load_target("rpi4"))


def test_kernel_that_a_schedule_fails_on_is_named_and_left_naive(monkeypatch):
    monkeypatch.setattr(
        "tvmbuild.schedules.registry.SCHEDULES", (failing(lambda sch: sch.get_sblock("no such block")),)
    )
    builder = relax.BlockBuilder()
    builder.add_func(_padded_window_sum_relu(), "k")
    _, reports = schedule_module(builder.get(), load_target("rpi4"))
    assert reports[0].kind == NAIVE
    assert "window failed" in reports[0].note
    graph = GraphReport((), (FusedKernel("k", ("conv2d", "relu"), 1),), (), MemoryPlan(0, 0, 0, 0), reports)
    (warning,) = [line for line in graph.lines() if line.startswith("warning")]
    assert "k (conv2d+relu) has no fast schedule, with 100.0% of the multiply-accumulates: window failed" in warning


def test_an_expression_beyond_the_limit_keeps_its_stages_and_says_so():
    data = te.placeholder((4, 8), name="data")
    value = data
    for _ in range(60):
        value = topi.add(value, value)
    builder = relax.BlockBuilder()
    builder.add_func(te.create_prim_func([data, value]), "k")
    (report,) = schedule_module(builder.get(), load_target("rpi4"))[1]
    assert report.kind == NAIVE
    assert "stages stay apart" in report.note


def test_sizes_count_what_is_inlined():
    data = te.placeholder((4, 8), name="data")
    twice = topi.add(data, data)
    total = topi.sum(topi.sigmoid(twice), axis=1, keepdims=True)
    func = te.create_prim_func([data, topi.subtract(total, twice)])
    # x + x is 3; its sigmoid 40 more; the sum one addition more; what reads the sum reads one node.
    sizes = [(size.nodes, size.depth, size.in_memory) for size in result_sizes(func, {})]
    assert sizes == [(3, 0, False), (43, 1, False), (45, 1, True), (5, 0, False)]


def test_buffers_of_one_name_are_told_apart():
    """TVM gives several buffers of a fused kernel one name; stages are still followed from writer to reader."""
    data = te.placeholder((4, 8), name="same")
    first = te.compute((4, 8), lambda i, j: data[i, j] + 1.0, name="same")
    second = te.compute((4, 8), lambda i, j: first[i, j] * 2.0, name="same")
    third = te.compute((4, 8), lambda i, j: first[i, j] + second[i, j], name="same")
    result = te.compute((4, 8), lambda i, j: third[i, j] - 3.0, name="result")
    kernel = analyze("k", te.create_prim_func([data, result]))
    written = [ref.name for stage in kernel.stages for ref in stage.writes]
    assert len(set(written)) == len(kernel.stages) == 4
    assert [[ref.name for ref in stage.reads] for stage in kernel.stages[1:]] == [
        [written[0]],
        [written[0], written[1]],
        [written[2]],
    ]
    assert [ref.parameter for stage in kernel.stages for ref in stage.reads] == [True, False, False, False, False]
    assert kernel.stages[0].reads[0].name not in written
