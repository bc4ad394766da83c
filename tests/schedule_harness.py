"""Compiles a small Relax module through our legalizations, fusion and schedules, and runs it on this machine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvmbuild import schedules
from tvmbuild.graph.pipeline import make_kernels
from tvmbuild.schedules import KernelReport
from tvmbuild.target.target import load_target


def build_module(shapes: Sequence[Sequence[int]], body: Callable[..., Any], dtype: str = "float32") -> Any:
    """Return a module whose ``main`` takes tensors of the shapes and returns ``body`` of them."""
    builder = relax.BlockBuilder()
    variables = [relax.Var(f"x{index}", relax.TensorType(tuple(shape), dtype)) for index, shape in enumerate(shapes)]
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(body(*variables)))
        builder.emit_func_output(result)
    return builder.get()


def lower(mod: Any, target: str = "host") -> tuple[Any, tuple[KernelReport, ...]]:
    """Legalize, fuse and schedule a module, as a build does."""
    board = load_target(target)
    return schedules.schedule_module(make_kernels(mod, board, schedules), board)


def run(mod: Any, arguments: Sequence[np.ndarray]) -> tuple[np.ndarray, tuple[str, ...]]:
    """Lower, compile and run a module on this machine.

    Returns:
        The output and the kinds of the kernels.
    """
    lowered, reports = lower(mod)
    executable = tvm.compile(lowered, load_target("host").to_tvm())
    machine = relax.VirtualMachine(executable, tvm.cpu())
    output = machine["main"](*[tvm.runtime.tensor(argument) for argument in arguments])
    return output.numpy(), tuple(report.kind for report in reports)


def random_arrays(shapes: Sequence[Sequence[int]], seed: int = 0) -> list[np.ndarray]:
    """Return standard normal float32 arrays."""
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape).astype("float32") for shape in shapes]
