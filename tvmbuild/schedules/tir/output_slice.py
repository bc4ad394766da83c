"""Let a scheduled kernel write its output into a slice of a larger tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def write_slice(func: Any, shape: Sequence[int], axis: int, offset: int) -> Any | None:
    """Return a kernel whose last parameter is the larger tensor (imports tvm).

    Loops and schedule stay as they are: only the address of the output changes.

    Args:
        func: a scheduled PrimFunc with its output as last parameter.
        shape: of the larger tensor; the output's, but for ``axis``.
        axis: along which the slice lies.
        offset: where it starts.

    Returns:
        None where the kernel also sees its output through another buffer, such as a flat view.
    """
    import tvm_ffi
    from tvm import ir, tirx

    output = func.params[-1]
    whole = tirx.decl_buffer(tuple(shape), output.dtype, output.name)

    def moved(indices: Any) -> list[Any]:
        return [index + offset if position == axis else index for position, index in enumerate(indices)]

    def on_load(load: Any, mutator: Any) -> Any:
        load = mutator.default_mutate(load)
        return tirx.BufferLoad(whole, moved(load.indices)) if load.source.same_as(output) else load

    def on_store(store: Any, mutator: Any) -> Any:
        store = mutator.default_mutate(store)
        if not store.buffer.same_as(output):
            return store
        return tirx.BufferStore(whole, store.value, moved(store.indices))

    def on_region(region: Any, mutator: Any) -> Any:
        if not region.source.same_as(output):
            return mutator.default_mutate(region)
        ranges = [
            ir.Range.from_min_extent(each.min + offset, each.extent) if position == axis else each
            for position, each in enumerate(region.region)
        ]
        return tirx.BufferRegion(whole, ranges)

    body = tvm_ffi.structural_mutate(
        func.body, [(ir.TensorLoad, on_load), (tirx.BufferStore, on_store), (ir.TensorRegion, on_region)]
    )
    others: list[Any] = []
    tvm_ffi.structural_walk(body, (tirx.Var, lambda var: others.append(var) if var.same_as(output) else None))
    if others:
        return None
    return tirx.PrimFunc([*func.params[:-1], whole], body, func.ret_type, func.attrs)
