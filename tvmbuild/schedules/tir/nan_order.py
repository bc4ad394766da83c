"""Lets NaN pass through ReLU and clipping, as ONNX wants it.

LLVM gets ``max(a, b)`` as ``a > b ? a : b`` (and ``min`` alike), which is ``b`` when either is NaN: ReLU would turn NaN
into 0. AArch64 has an instruction that keeps NaN (``fmax``), which LLVM only uses when asked for it by name; elsewhere
the bound is put first, which costs nothing either.
"""

from __future__ import annotations

from typing import Any

from tvmbuild.target.target import Target


def keep_nan(func: Any, target: Target) -> Any:
    """Return a scheduled PrimFunc whose ``max`` and ``min`` with a constant bound give NaN for NaN (imports tvm).

    Reductions are left as they are: neither operand of theirs is constant.
    """
    import tvm_ffi
    from tvm import tirx

    def kept(node: Any) -> Any:
        if not isinstance(node.b, tirx.FloatImm) or isinstance(node.a, tirx.FloatImm):
            return node
        if target.arch != "aarch64":
            return type(node)(node.b, node.a)
        name = "llvm.maximum" if isinstance(node, tirx.Max) else "llvm.minimum"
        return tirx.call_llvm_pure_intrin(node.ty.dtype, name, node.a, node.b)

    return func.with_body(tvm_ffi.structural_map(func.body, ((tirx.Max, tirx.Min), kept)))
