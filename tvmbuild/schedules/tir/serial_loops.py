"""Run a scheduled kernel on the core that calls it."""

from __future__ import annotations

from typing import Any


def serial(func: Any) -> Any:
    """Return a PrimFunc whose parallel loops are ordinary ones (imports tvm)."""
    import tvm_ffi
    from tvm import tirx

    def on_loop(loop: Any, mutator: Any) -> Any:
        loop = mutator.default_mutate(loop)
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)

    return func.with_body(tvm_ffi.structural_mutate(func.body, (tirx.For, on_loop)))
