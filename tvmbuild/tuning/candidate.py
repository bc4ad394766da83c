"""Compiles one scheduled kernel into a library of its own."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from tvmbuild.codegen.compile import compile_module
from tvmbuild.codegen.link import export_objects, link_library
from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.graph.pipeline import lower
from tvmbuild.schedules.knob import Choice
from tvmbuild.schedules.registry import NAIVE, schedule_function
from tvmbuild.support.errors import CompileError
from tvmbuild.target.target import Target

#: Name of the kernel in the library.
KERNEL = "kernel"


def compile_candidate(func: Any, target: Target, choice: Choice, output: Path, toolchain: Toolchain) -> None:
    """Schedule a PrimFunc, compile it and link it.

    The library has a Relax ``main(inputs...) -> output``, as the runner wants it, and the PrimFunc itself as the symbol
    ``kernel``, whose last argument is the output.

    Args:
        func: the PrimFunc before scheduling; it must have one output.
        target: what to compile for.
        choice: values of the schedule's knobs.
        output: the ``.so`` to write.
        toolchain: what links for the target.

    Raises:
        CompileError: the schedule does not take the choice, or TVM or the linker refused.
    """
    scheduled, report = schedule_function(KERNEL, func, target, choice)
    if report.kind == NAIVE and choice:
        raise CompileError(f"The choice {dict(choice)} cannot be scheduled: {report.note}.")
    executable = compile_module(lower(_module(scheduled, func), target), target)
    with tempfile.TemporaryDirectory(prefix="tvmbuild-candidate-") as folder:
        link_library(export_objects(executable, Path(folder)), output, target, toolchain)


def parameters(func: Any) -> list[tuple[tuple[int, ...], str]]:
    """Return shape and dtype of each parameter of a PrimFunc, the output last (imports tvm)."""
    from tvm.s_tir.meta_schedule.arg_info import ArgInfo

    return [(tuple(int(size) for size in info.shape), str(info.dtype)) for info in ArgInfo.from_prim_func(func)]


def _module(scheduled: Any, func: Any) -> Any:
    """Return a Relax module whose ``main`` calls the kernel."""
    from tvm import relax

    *inputs, (shape, dtype) = parameters(func)
    builder = relax.BlockBuilder()
    kernel = builder.add_func(scheduled.with_attr("global_symbol", KERNEL), KERNEL)
    variables = [
        relax.Var(f"x{index}", relax.TensorType(list(size), kind)) for index, (size, kind) in enumerate(inputs)
    ]
    with builder.function("main", variables):
        with builder.dataflow():
            result = builder.emit_output(relax.call_tir(kernel, variables, relax.TensorType(list(shape), dtype)))
        builder.emit_func_output(result)
    return builder.get()
