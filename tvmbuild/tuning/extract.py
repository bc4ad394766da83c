"""Finds the tasks of a model: its kernels after fusion, each distinct one once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tvmbuild import schedules
from tvmbuild.graph.pipeline import optimize
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.options import BuildOptions
from tvmbuild.schedules.kernel import Kernel, analyze
from tvmbuild.schedules.registry import NAIVE, KernelReport, find_schedule
from tvmbuild.target import Target
from tvmbuild.tuning.task import Task, Variant
from tvmbuild.tuning.workload import workload_key


class _Recorder:
    """The schedule library, which keeps the module that it is given and leaves it unscheduled."""

    def __init__(self) -> None:
        self.module: Any = None

    def legalize_map(self, target: Target) -> Mapping[str, Any]:
        """See ``schedules.legalize_map``."""
        return schedules.legalize_map(target)

    def schedule_module(self, mod: Any, target: Target) -> tuple[Any, tuple[KernelReport, ...]]:
        """Keep the module."""
        self.module = mod
        return mod, ()


def extract_tasks(model: Path, target: Target, options: BuildOptions) -> tuple[Task, ...]:
    """Return a model's tasks, those with the most multiply-accumulates first.

    Kernels without knobs are among them, since their time is part of the model's.

    Raises:
        TvmbuildError: the model cannot be read or compiled; as ``pipeline.build``.
    """
    prepared = prepare(
        model, parse_shapes(options.shape), values=parse_values(options.value), compare=False, seed=options.seed
    )
    recorder = _Recorder()
    optimize(to_relax(prepared), target, kernels=recorder, fp16=options.fp16)
    return tasks_of(recorder.module, target)


def tasks_of(module: Any, target: Target) -> tuple[Task, ...]:
    """Return the tasks of a fused module, before scheduling."""
    found: dict[str, Task] = {}
    for name, inputs, constants, calls in _calls(module):
        func = module[name]
        key = workload_key(func)
        kernel = analyze(name, func)
        # Kernels with several outputs have no knobs worth a trial, and no runner that takes them alone.
        if key in found or kernel is None or len(func.params) != inputs + 1:
            continue
        schedule = find_schedule(kernel, target)
        knobs = schedule.knobs(kernel, target) if schedule is not None else ()
        kind = schedule.KIND if schedule is not None else NAIVE
        variants = (Variant(key, knobs, {}, func, constants),)
        found[key] = Task(name, kind, kernel.workload, _operator(kernel), calls, kernel.macs, variants)
    return tuple(sorted(found.values(), key=lambda task: (-task.calls * task.macs, task.name)))


def _calls(module: Any) -> list[tuple[str, int, dict[int, Any], int]]:
    """Return each kernel's name, its number of inputs, its first call's constants by position, and its calls."""
    from tvm import relax

    first: dict[str, dict[int, Any]] = {}
    inputs: dict[str, int] = {}
    counts: dict[str, int] = {}

    def visit(expression: Any) -> None:
        if not isinstance(expression, relax.Call) or getattr(expression.op, "name", "") != "relax.call_tir":
            return
        name = str(expression.args[0].name_hint)
        counts[name] = counts.get(name, 0) + 1
        if name not in first:
            inputs[name] = len(expression.args[1].fields)
            first[name] = {
                position: argument.data.numpy()
                for position, argument in enumerate(expression.args[1].fields)
                if hasattr(argument, "data")
            }

    relax.analysis.post_order_visit(module["main"], visit)
    return [(name, inputs[name], first[name], counts[name]) for name in first]


def _operator(kernel: Kernel) -> tuple[int, ...]:
    numbers = kernel.main.note("geometry") if kernel.main is not None else None
    return tuple(int(number) for number in numbers) if numbers is not None else ()
