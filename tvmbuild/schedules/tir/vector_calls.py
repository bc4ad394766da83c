"""Keeps calls that TVM's vectorizer does not know out of its way.

The vectorizer takes a call that is not marked as vectorizable for a scalar one and writes the whole statement as a loop
over the lanes. On the way it visits both operands of a product above such a call a second time, and fails when it
meets a ``Let`` there again: "Let cannot bind the same var to two different values". So rounding, which machines do on
vectors, becomes the intrinsic that the vectorizer knows; and a loop with a ``Let`` and a call that has no such
intrinsic (``atan``) is written as the loop over lanes that it would become anyway.
"""

from __future__ import annotations

from typing import Any

#: Vectorizable intrinsics of LLVM that TVM would use too, by the call that becomes one.
_INTRINSICS = {"tirx.nearbyint": "llvm.nearbyint"}
#: Calls that the vectorizer treats by themselves.
_KNOWN = ("prim.if_then_else", "tirx.reinterpret")


def name_intrinsics(func: Any) -> Any:
    """Return a scheduled PrimFunc whose loops marked as vectors the vectorizer can treat (imports tvm)."""
    import tvm_ffi
    from tvm import ir, tirx

    def on_call(call: Any) -> Any:
        name = _INTRINSICS.get(call.op.name) if isinstance(call.op, ir.Op) else None
        return call if name is None else tirx.call_llvm_pure_intrin(call.ty.dtype, name, call.args[0])

    def on_loop(loop: Any, mutator: Any) -> Any:
        if loop.kind != tirx.ForKind.VECTORIZED or not _confuses(loop.body):
            return mutator.default_mutate(loop)
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)

    body = tvm_ffi.structural_map(func.body, (ir.Call, on_call))
    return func.with_body(tvm_ffi.structural_mutate(body, (tirx.For, on_loop)))


def _confuses(body: Any) -> bool:
    """Whether a vector loop binds names and calls what has no vector form."""
    import tvm_ffi
    from tvm import ir, tirx

    bindings: list[Any] = []
    scalars: list[Any] = []

    def on_call(call: Any) -> None:
        if not isinstance(call.op, ir.Op):
            return
        if call.op.name not in _KNOWN and not call.op.get_attr("TVectorizable"):
            scalars.append(call)

    tvm_ffi.structural_walk(body, [(tirx.Let, bindings.append), (ir.Call, on_call)])
    return bool(bindings and scalars)
