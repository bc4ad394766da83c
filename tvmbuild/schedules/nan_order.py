"""Lets NaN pass through ReLU and clipping, as ONNX wants it.

LLVM gets ``max(a, b)`` as ``a > b ? a : b`` (and ``min`` alike), which is ``b`` when either is NaN. With the bound as
``a``, a NaN stays; the instructions are as many.
"""

from __future__ import annotations

from typing import Any


def put_bounds_first(func: Any) -> Any:
    """Return a PrimFunc with ``max(bound, x)`` for each ``max(x, bound)`` of floats with a constant bound.

    To be done after scheduling. Reductions are left as they are: no operand of theirs is constant.
    """
    import tvm_ffi
    from tvm import tirx

    def ordered(node: Any) -> Any:
        swap = isinstance(node.b, tirx.FloatImm) and not isinstance(node.a, tirx.FloatImm)
        return type(node)(node.b, node.a) if swap else node

    return func.with_body(tvm_ffi.structural_map(func.body, ((tirx.Max, tirx.Min), ordered)))
