"""Take the weights out of a lowered module.

TVM's virtual machine keeps constants in its bytecode. Loading a library then holds them three times: as mapped, as the
stream that is read, and as the tensors that kernels read. Here they leave the module; kernels read what the function
``FETCH``, which ``weight_object`` compiles into the library, returns for their numbers.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import tvm
from tvm import relax

from tvmbuild.graph.rewriter import MAIN, Expr, IRModule, array, is_constant

#: The library's function from a weight's number to a tensor.
FETCH = "tvmbuild_weight"
#: Smaller constants stay in the bytecode, where using them costs no call.
_LEAST_BYTES = 4096
#: Kinds of NumPy's element types that a tensor in the library may have.
_KINDS = "biuf"


def take_out_weights(mod: IRModule) -> tuple[IRModule, tuple[np.ndarray[Any, Any], ...]]:
    """Return a module that fetches its weights, and the weights in the order of their numbers.

    Only what kernels read is taken out: an output must own its memory, which a tensor in the library does not.

    Args:
        mod: an IRModule out of ``graph.pipeline.lower``.
    """
    taken = _Taken()
    function = mod[MAIN]
    blocks = []
    for block in function.body.blocks:
        bindings: list[Any] = []
        for binding in block.bindings:
            value = binding.value
            if isinstance(value, relax.Call) and isinstance(value.op, tvm.ir.GlobalVar):
                value = relax.Call(
                    value.op, [taken.replace(arg, bindings) for arg in value.args], value.attrs, value.ty_args
                )
                relax.expr._update_type(value, binding.value.ty)
            bindings.append(relax.VarBinding(binding.var, value))
        blocks.append(relax.BindingBlock(bindings))
    body = relax.SeqExpr(blocks, function.body.body)
    relax.expr._update_type(body, function.body.ty)
    result = relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)
    changed = tvm.IRModule(dict(mod.functions_items()), attrs=mod.attrs)
    changed.update_func(mod.get_global_var(MAIN), result)
    return changed, tuple(taken.weights)


class _Taken:
    """The weights that were taken out, equal ones once."""

    def __init__(self) -> None:
        self.weights: list[np.ndarray[Any, Any]] = []
        self._numbers: dict[tuple[str, tuple[int, ...], bytes], int] = {}

    def replace(self, expr: Expr, bindings: list[Any]) -> Expr:
        """Return what a kernel is given in place of ``expr``; ``bindings`` receives the fetch."""
        if not is_constant(expr):
            return expr
        value = np.ascontiguousarray(array(expr))
        if value.nbytes < _LEAST_BYTES or value.dtype.kind not in _KINDS:
            return expr
        key = (value.dtype.str, value.shape, hashlib.sha256(value.data).digest())
        number = self._numbers.setdefault(key, len(self.weights))
        if number == len(self.weights):
            self.weights.append(value)
        fetch = relax.Call(relax.ExternFunc(FETCH), [relax.prim_value(number)], ty_args=[expr.ty])
        relax.expr._update_type(fetch, expr.ty)
        var = relax.Var(f"weight_{number}", expr.ty)
        bindings.append(relax.VarBinding(var, fetch))
        return var
