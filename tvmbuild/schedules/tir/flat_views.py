"""One-dimensional views of buffers, for what is simpler by address than by index."""

from __future__ import annotations

import math
from typing import Any

from tvmbuild.schedules.contracts import FlatMark
from tvmbuild.schedules.tir.rewrite import with_root_body


class FlatViews:
    """The flat views that a rewrite of one PrimFunc takes, one for each buffer."""

    def __init__(self) -> None:
        # Names are not unique in a PrimFunc; only the printer makes them so.
        self._views: list[tuple[Any, Any]] = []

    def __bool__(self) -> bool:
        return bool(self._views)

    def of(self, buffer: Any) -> Any:
        """Return the view of a compact buffer (imports tvm)."""
        from tvm import tirx

        for seen, flat in self._views:
            if seen.same_as(buffer):
                return flat
        size = math.prod(int(extent.value) for extent in buffer.shape)
        self._views.append((buffer, tirx.decl_buffer((size,), buffer.dtype, f"{buffer.name}_flat")))
        return self._views[-1][1]

    def declared(self, func: Any, body: Any) -> Any:
        """Return the PrimFunc with a body that reads through the views, which are declared before it (imports tvm)."""
        from tvm import tirx

        views = [tirx.DeclBuffer(flat, data=tirx.buffer.buffer_data(buffer)) for buffer, flat in self._views]
        return with_root_body(func, tirx.SeqStmt([*views, body]))


def address(buffer: Any, indices: Any) -> Any:
    """Return the offset of an element in a compact buffer (imports tvm)."""
    from tvm import tirx

    offset = tirx.const(0, "int64")
    for extent, index in zip(buffer.shape, indices, strict=True):
        offset = offset * tirx.const(int(extent.value), "int64") + tirx.Cast("int64", index)
    return offset


def flatten_views(func: Any) -> Any:
    """Give the blocks marked ``FlatMark`` one-dimensional views of the parameters (imports tvm).

    The address in a fused axis is simplified here, while the axis is still one variable: later it is a sum of loop
    variables, whose division into the original axes the simplifier does not always undo, and a vector of divisions
    is ruinous.
    """
    import tvm
    import tvm_ffi
    from tvm import ir, s_tir, tirx

    views = FlatViews()

    def on_block(block: Any, mutator: Any) -> Any:
        if FlatMark.find(block) is None:
            return mutator.default_mutate(block)
        analyzer = tvm.sym.Analyzer()
        for axis in block.iter_vars:
            analyzer.bind(axis.var, axis.dom)

        def flat(buffer: Any, indices: Any) -> list[Any]:
            return [analyzer.simplify(address(buffer, indices))]

        body = tvm_ffi.structural_map(
            block.body,
            [
                (ir.TensorLoad, lambda x: tirx.BufferLoad(views.of(x.source), flat(x.source, x.indices))),
                (tirx.BufferStore, lambda x: tirx.BufferStore(views.of(x.buffer), x.value, flat(x.buffer, x.indices))),
            ],
        )
        return s_tir.SBlock(block.iter_vars, [], [], block.name_hint, body)

    body = tvm_ffi.structural_mutate(func.body.block.body, (s_tir.SBlock, on_block))
    return views.declared(func, body) if views else func
