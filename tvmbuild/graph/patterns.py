"""Say of each kernel how it may be fused, where TVM's own analysis says too much.

TVM derives a pattern from a PrimFunc's loops. It lets a convolution's epilogue grow over an operator that spreads its
small result over a large tensor (the gate of a squeeze-and-excitation block), which would compute the convolution once
per element; it melts chains of concatenations and transpositions into one kernel that no schedule can vectorise; and it
fuses reshapes, which are free as long as they are alone. The table of operators has the pattern of those kernels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from tvm import relax, tirx

from tvmbuild.graph.kernel_operator import OPERATOR, operator_of
from tvmbuild.graph.operators import Fusion, of_kernel
from tvmbuild.graph.rewriter import Expr, IRModule, Rewriter, Var, is_constant, op_name, rewrite, shape_of

_ATTRIBUTE = "op_pattern"

#: Of the version of a kernel that spreads a small computed operand.
_SPREADS = "tvmbuild.spreads"


def is_spreading(function: Any) -> bool:
    """Whether a PrimFunc is the version of an operator that spreads a small computed operand."""
    return _SPREADS in function.attrs


def set_patterns(mod: IRModule) -> IRModule:
    """Set the patterns of kernels; the input is legalized, and its kernels have TVM's patterns."""
    updated = {}
    for var, function in mod.functions_items():
        fixed = of_kernel(operator_of(function)).fusion if isinstance(function, tirx.PrimFunc) else None
        updated[var] = function if fixed is None else function.with_attr(_ATTRIBUTE, int(fixed))
    return _mark_spreading(type(mod)(updated, attrs=mod.attrs))


def pattern_of(function: Any) -> int:
    """Return a PrimFunc's pattern."""
    return int(function.attrs[_ATTRIBUTE])


def without_marks(mod: IRModule) -> IRModule:
    """Return a fused module whose PrimFuncs say only what they compute."""
    functions = {
        var: function.without_attr(OPERATOR).without_attr(_SPREADS) if isinstance(function, tirx.PrimFunc) else function
        for var, function in mod.functions_items()
    }
    return type(mod)(functions, attrs=mod.attrs)


def _mark_spreading(mod: IRModule) -> IRModule:
    builder = relax.BlockBuilder(mod)

    def rule(_rewriter: Rewriter, _var: Var, value: Expr) -> Expr | None:
        if op_name(value) != "call_tir" or not _spreads(value):
            return None
        callee = value.args[0]
        function = mod[callee]
        if not isinstance(function, tirx.PrimFunc) or pattern_of(function) > Fusion.BROADCAST:
            return None
        spreading = function.with_attrs({_ATTRIBUTE: int(Fusion.INJECTIVE), _SPREADS: True})
        marked = builder.add_func(spreading, f"{callee.name_hint}_spread")
        return relax.Call(value.op, [marked, *value.args[1:]], value.attrs, value.ty_args)

    rewritten = rewrite(mod, rule)
    result = builder.finalize()
    result.update_func(result.get_global_var("main"), rewritten["main"])
    return result


def _spreads(call: Expr) -> bool:
    """Whether a kernel repeats the elements of an operand that is computed at run time."""
    operands = [arg for arg in call.args[1].fields if not is_constant(arg)]
    if not isinstance(call.ty, relax.TensorType) or not all(isinstance(arg.ty, relax.TensorType) for arg in operands):
        return False
    size = np.prod(shape_of(call))
    return any(np.prod(shape_of(arg)) < size for arg in operands)
