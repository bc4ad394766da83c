"""From a lowered Relax module to an executable of the TVM virtual machine."""

from __future__ import annotations

from typing import Any

from tvmbuild.errors import CompileError
from tvmbuild.target import Target


def compile_module(module: Any, target: Target) -> Any:
    """Generate code for every kernel and the bytecode that calls them.

    Args:
        module: an IRModule out of ``graph.pipeline.lower``: memory is planned, only PrimFuncs and VM calls are left.
        target: what to generate code for.

    Returns:
        The ``tvm.relax.VMExecutable``; nothing is linked yet.

    Raises:
        CompileError: TVM refused the module. The message holds TVM's own last lines.
    """
    import tvm

    tvm_target = target.to_tvm()
    try:
        with tvm.transform.PassContext(opt_level=3):
            return tvm.relax.build(module, tvm_target, relax_pipeline=None)
    except Exception as error:  # TVM raises errors of any class, some made up at run time.
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise CompileError(
            f"TVM could not compile the model for {target.name}: {' '.join(lines[-3:])[:800]}",
            "Run again with --dump-ir DIR and report the model's operators with the last file in DIR.",
        ) from error
