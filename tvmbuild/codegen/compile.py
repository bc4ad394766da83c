"""From a lowered Relax module to an executable of the TVM virtual machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvmbuild.support.errors import CompileError
from tvmbuild.target.target import Target


def compile_module(module: Any, target: Target, operators: Mapping[str, str] | None = None) -> Any:
    """Generate code for every kernel and the bytecode that calls them.

    Args:
        module: an IRModule out of ``graph.pipeline.lower``: memory is planned, only PrimFuncs and VM calls are left.
        target: what to generate code for.
        operators: what each kernel computes ("conv2d+bias+relu"), by its name, for the message of an error.

    Returns:
        The ``tvm.relax.VMExecutable``; nothing is linked yet.

    Raises:
        CompileError: TVM refused the module. The message names the kernel and holds TVM's own last lines.
    """
    import tvm

    tvm_target = target.to_tvm()
    try:
        with tvm.transform.PassContext(opt_level=3):
            return tvm.relax.build(module, tvm_target, relax_pipeline=None)
    except Exception as error:  # TVM raises errors of any class, some made up at run time.
        kernel = _refused_kernel(module, tvm_target)
        named = f"kernel {kernel} ({(operators or {}).get(kernel, 'one operator')})" if kernel else "the model"
        raise CompileError(
            f"TVM could not compile {named} for {target.name}: {_last_lines(error)}",
            "Run again with --dump-ir DIR and report the kernel's operators with the last file in DIR.",
        ) from error


def _refused_kernel(module: Any, tvm_target: Any) -> str:
    """Return the first kernel that TVM refuses by itself; "" where each compiles alone."""
    import tvm

    for var, function in module.functions_items():
        if not isinstance(function, tvm.tirx.PrimFunc):
            continue
        name = str(var.name_hint)
        try:
            tvm.tirx.build(tvm.IRModule({name: function.with_attr("global_symbol", name)}), target=tvm_target)
        except Exception:  # As above: whatever it is, it is this kernel's.
            return name
    return ""


def _last_lines(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[-3:])[:800]
