"""Every choice that tuning may try computes the same as the default, and is a decision in the trace."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from schedule_harness import build_module, random_arrays
from tvm import relax, s_tir, tirx

from tvmbuild import schedules
from tvmbuild.graph.pipeline import make_kernels
from tvmbuild.schedules import schedule_module
from tvmbuild.schedules.space import knobs_of, schedule_fn
from tvmbuild.target.target import load_target

HOST = load_target("host")
#: Candidates of one kernel that are compiled; the first and last of each knob are always among them.
COMPILED = 6


def fused(shapes: list[tuple[int, ...]], body: Callable[..., Any]) -> tvm.IRModule:
    return make_kernels(build_module(shapes, body), HOST, schedules)


def weight(*shape: int) -> relax.Constant:
    return relax.const(np.random.default_rng(1).normal(0, 0.2, shape).astype("float32"))


def convolution(kernel: int, channels: int, depthwise: bool = False) -> Callable[..., Any]:
    def body(x: relax.Var) -> relax.Expr:
        kernels = weight(channels, 1 if depthwise else channels, kernel, kernel)
        return relax.op.nn.relu(
            relax.op.nn.conv2d(
                x,
                kernels,
                padding=kernel // 2,
                data_layout="NHWC",
                kernel_layout="OIHW",
                groups=channels if depthwise else 1,
            )
        )

    return body


CASES: dict[str, tuple[list[tuple[int, ...]], Callable[..., Any]]] = {
    "direct": ([(1, 11, 13, 24)], convolution(1, 24)),
    "winograd": ([(1, 28, 28, 64)], convolution(3, 64)),
    "depthwise": ([(1, 11, 13, 24)], convolution(3, 24, depthwise=True)),
    "elementwise": ([(3, 1001)], lambda x: relax.op.sigmoid(x)),
}


@pytest.mark.parametrize("name", sorted(CASES))
def test_every_choice_computes_what_the_default_does(name: str) -> None:
    shapes, body = CASES[name]
    module = fused(shapes, body)
    main = max(
        (var for var, func in module.functions_items() if isinstance(func, tirx.PrimFunc)),
        key=lambda var: len(knobs_of(module[var], HOST)),
    )
    knobs = knobs_of(module[main], HOST)
    choices = [
        dict(zip((knob.name for knob in knobs), values, strict=True))
        for values in itertools.product(*(knob.candidates for knob in knobs))
    ]
    assert len(choices) > 1
    inputs = random_arrays(shapes)
    spread = {round(k * (len(choices) - 1) / (COMPILED - 1)) for k in range(COMPILED)}
    outputs = []
    for choice in [choices[index] for index in sorted(spread)]:
        scheduled, _ = schedule_module(module, HOST, {main.name_hint: choice})
        machine = relax.VirtualMachine(tvm.compile(scheduled, HOST.to_tvm()), tvm.cpu())
        outputs.append(machine["main"](*map(tvm.runtime.tensor, inputs)).numpy())
    for other in outputs[1:]:
        # Chunks of another depth sum in another order: a few ulp of the largest value.
        np.testing.assert_allclose(other, outputs[0], rtol=0, atol=2e-6 * np.abs(outputs[0]).max())


def test_each_knob_is_one_decision_of_the_trace() -> None:
    module = fused(*CASES["direct"])
    function = next(
        func
        for _, func in module.functions_items()
        if isinstance(func, tirx.PrimFunc) and len(knobs_of(func, HOST)) > 1
    )
    drawn = set()
    for seed in range(1, 12):
        schedule = s_tir.Schedule(tvm.IRModule({"main": function}), seed=seed)
        schedule_fn(HOST)(schedule)
        sampled = [step for step in schedule.trace.insts if step.kind.name == "SampleCategorical"]
        assert len(sampled) == len(knobs_of(function, HOST))
        drawn.add(tuple(int(schedule.trace.decisions[step]) for step in sampled))
    assert len(drawn) > 1
