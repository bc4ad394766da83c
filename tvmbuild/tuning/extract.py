"""Finds the tasks of a model: its kernels after fusion, each distinct one once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tvmbuild import schedules
from tvmbuild.graph.pipeline import make_kernels, prepare_graph
from tvmbuild.graph.rewriter import MAIN, flat_bindings, op_name
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.records.workload import workload_key
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.kernel import Kernel, analyze
from tvmbuild.schedules.legalize.conv2d_choices import PlanKey, Plans, plan_choices
from tvmbuild.schedules.legalize.relax_calls import constant_value
from tvmbuild.schedules.loops import depthwise
from tvmbuild.schedules.registry import NAIVE, KernelReport, find_schedule
from tvmbuild.support.budget import parse_limits
from tvmbuild.support.options import BuildOptions
from tvmbuild.target.target import Target
from tvmbuild.tuning.candidate import parameters
from tvmbuild.tuning.task import Task, Variant


@dataclass(frozen=True)
class _Library:
    """The schedule library with some convolutions planned; it schedules nothing."""

    plans: Plans = field(default_factory=dict)

    emit_conv2d = staticmethod(schedules.emit_conv2d)
    emit_matmul = staticmethod(schedules.emit_matmul)

    def legalize_map(self, target: Target, plans: Plans = MappingProxyType({})) -> Mapping[str, Any]:
        """See ``schedules.legalize_map``."""
        return schedules.legalize_map(target, {**self.plans, **plans})

    def schedule_module(self, mod: Any, target: Target) -> tuple[Any, tuple[KernelReport, ...]]:
        """Leave the module as it is."""
        return mod, ()


def extract_tasks(model: Path, target: Target, options: BuildOptions, *, plans: bool = True) -> tuple[Task, ...]:
    """Return a model's tasks, those with the most multiply-accumulates first.

    Kernels without knobs are among them, since their time is part of the model's.

    Args:
        model: the ONNX file.
        target: the board.
        options: shapes, frozen inputs and precision.
        plans: whether convolutions get a variant for each plan that can be tried.

    Raises:
        TvmbuildError: the model cannot be read or compiled; as ``pipeline.build``.
    """
    prepared = prepare(
        model,
        parse_shapes(options.shape),
        values=parse_values(options.value),
        compare=False,
        seed=options.seed,
        limits=parse_limits(options.limit),
    )
    graph = prepare_graph(to_relax(prepared), target, _Library(), precision=options.precision)
    first = make_kernels(graph, target, _Library())
    tasks = tasks_of(first, target)
    if plans:
        tasks = _with_variants(tasks, first, graph, target)
    return tuple(sorted(tasks, key=lambda task: (-task.calls * task.macs, task.name)))


def tasks_of(module: Any, target: Target) -> list[Task]:
    """Return the tasks of a fused module, before scheduling, one variant each."""
    found: dict[str, Task] = {}
    for name, inputs, constants, calls in _calls(module):
        kernel = analyze(name, module[name])
        variant = _variant(module[name], kernel, constants, target)
        # Kernels with several outputs have no knobs worth a trial, and no runner that takes them alone.
        if kernel is None or len(module[name].params) != inputs + 1:
            continue
        if variant.workload in found:
            known = found[variant.workload]
            found[variant.workload] = replace(known, calls=known.calls + calls)
            continue
        operator = _operator(kernel)
        dtype = parameters(module[name])[1][1] if operator else ""
        found[variant.workload] = Task(
            name, variant.kind, kernel.workload, operator, dtype, calls, kernel.macs, (variant,)
        )
    return list(found.values())


def _variant(func: Any, kernel: Kernel | None, constants: dict[int, Any], target: Target, plan: str = "") -> Variant:
    schedule = find_schedule(kernel, target) if kernel is not None else None
    knobs = schedule.knobs(kernel, target) if schedule is not None and kernel is not None else ()
    kind = schedule.kind if schedule is not None else NAIVE
    return Variant(workload_key(func), knobs, kind, plan, func, constants)


def _with_variants(tasks: list[Task], first: Any, graph: Any, target: Target) -> list[Task]:
    """Add a variant for each plan: all convolutions take their first plan together, then their second, and so on."""
    names: dict[PlanKey, list[str]] = {}
    for task in tasks:
        if task.operator:
            key = task.operator, task.dtype
            names[key] = list(plan_choices(Conv2dGeometry.from_numbers(key[0]), target, key[1]))
    order = [name for name, *_ in _calls(first, distinct=False)]
    task_of = {task.name: index for index, task in enumerate(tasks)}
    by_workload = {task.workload: index for index, task in enumerate(tasks)}
    for number in range(max(map(len, names.values()), default=0)):
        plans = {key: listed[number] for key, listed in names.items() if number < len(listed)}
        module = make_kernels(graph, target, _Library(plans))
        calls = _calls(module, distinct=False)
        if len(calls) != len(order):
            continue
        for name, (other, _, constants, _) in zip(order, calls, strict=True):
            index = task_of.get(name, by_workload.get(workload_key(first[name])))
            if index is None or not tasks[index].operator:
                continue
            task = tasks[index]
            plan = plans.get((task.operator, task.dtype), "")
            variant = _variant(module[other], analyze(other, module[other]), constants, target, plan)
            if variant.workload not in {known.workload for known in task.variants}:
                tasks[index] = replace(task, variants=(*task.variants, variant))
    return tasks


def _calls(module: Any, distinct: bool = True) -> list[tuple[str, int, dict[int, Any], int]]:
    """Return each kernel's name, its number of inputs, its first call's constants by position, and its calls.

    With ``distinct`` false there is one entry for each call, in the order in which they are made.
    """
    made: list[tuple[str, int, dict[int, Any], int]] = []
    position_of: dict[str, int] = {}
    for _, call in flat_bindings(module[MAIN]):
        if op_name(call) != "call_tir":
            continue
        name = str(call.args[0].name_hint)
        if distinct and name in position_of:
            known = made[position_of[name]]
            made[position_of[name]] = (*known[:3], known[3] + 1)
            continue
        position_of[name] = len(made)
        arguments = call.args[1].fields
        values = [constant_value(argument) for argument in arguments]
        constants = {at: value for at, value in enumerate(values) if value is not None}
        made.append((name, len(arguments), constants, 1))
    return made


def _operator(kernel: Kernel) -> tuple[int, ...]:
    """Return the numbers of a convolution, not of a depthwise one; empty for other operators."""
    geometry = kernel.main.summary.geometry if kernel.main is not None and kernel.kind != depthwise.KIND else None
    return tuple(geometry.numbers()) if geometry is not None else ()
