"""Say of each kernel how it may be fused, where TVM's own analysis says too much.

TVM derives a pattern from a PrimFunc's loops. It lets a convolution's epilogue grow over an operator that spreads its
small result over a large tensor (the gate of a squeeze-and-excitation block), which would compute the convolution once
per element; it melts chains of concatenations and transpositions into one kernel that no schedule can vectorise; and it
fuses reshapes, which are free as long as they are alone.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from tvm import relax, tirx

from tvmbuild.graph.rewriter import Expr, IRModule, Rewriter, Var, is_constant, op_name, rewrite, shape_of

#: TVM's op_pattern: what a kernel does to its operands' elements.
ELEMENTWISE, BROADCAST, INJECTIVE, ANCHOR, OPAQUE = 0, 1, 2, 4, 8

_ATTRIBUTE = "op_pattern"

#: Kernels that stay alone, and kernels that take an epilogue but are not inlined into what follows.
_FIXED = {
    "concatenate": OPAQUE,
    "transpose": OPAQUE,
    "reshape": OPAQUE,
    "softmax": OPAQUE,
    "layer_norm": OPAQUE,
    "split": OPAQUE,
    "resize2d": ANCHOR,
    # Softplus (log, exp and more) in each element of a convolution's unrolled tile keeps LLVM busy for minutes.
    "log": INJECTIVE,
}

#: Ending of the name of a kernel that spreads a small computed operand.
_SPREAD = "_spread"


def kernel_op(name: str) -> str:
    """Return the operator that a PrimFunc was made from ("conv2d12" -> "conv2d", "tir_sigmoid" -> "sigmoid")."""
    return re.sub(r"\d*$", "", re.sub(rf"({_SPREAD})?\d*$", "", name)).removeprefix("tir_")


def is_spreading(name: str) -> bool:
    """Whether a PrimFunc is the version of an operator that spreads a small computed operand."""
    return re.search(rf"{_SPREAD}\d*$", name) is not None


def set_patterns(mod: IRModule) -> IRModule:
    """Set the patterns of kernels; the input is legalized, and its kernels have TVM's patterns."""
    updated = {}
    for var, function in mod.functions_items():
        fixed = _FIXED.get(kernel_op(var.name_hint))
        updated[var] = function if fixed is None else function.with_attr(_ATTRIBUTE, fixed)
    return _mark_spreading(type(mod)(updated, attrs=mod.attrs))


def pattern_of(function: Any) -> int:
    """Return a PrimFunc's pattern."""
    return int(function.attrs[_ATTRIBUTE])


def _mark_spreading(mod: IRModule) -> IRModule:
    builder = relax.BlockBuilder(mod)

    def rule(_rewriter: Rewriter, _var: Var, value: Expr) -> Expr | None:
        if op_name(value) != "call_tir" or not _spreads(value):
            return None
        callee = value.args[0]
        function = mod[callee]
        if not isinstance(function, tirx.PrimFunc) or pattern_of(function) > BROADCAST:
            return None
        marked = builder.add_func(function.with_attr(_ATTRIBUTE, INJECTIVE), callee.name_hint + _SPREAD)
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
