"""Turns ``relax.take`` of a constant table (an embedding) into a kernel that reads float16, where that is wanted."""

from __future__ import annotations

from typing import Any

import numpy as np

from tvmbuild.schedules.legalize.relax_calls import constant_value, dtype_of, static_shape, stock_legalization
from tvmbuild.schedules.legalize.storage import Storage
from tvmbuild.target.target import Target

#: FuseOps' kInjective.
_INJECTIVE = 2


def legalize(builder: Any, call: Any, target: Target, storage: Storage) -> Any:
    """Legalize a look-up; a table that is not to be stored as float16 stays TVM's."""
    table, axis = constant_value(call.args[0]), call.attrs.axis
    if table is None or axis is None or table.ndim < 2 or dtype_of(call) != "float32" or not storage.weights.halves:
        return stock_legalization(builder, call)
    axis, mode, indices = int(axis) % table.ndim, str(call.attrs.mode), call.args[1]
    half, reason = storage.form(np.moveaxis(table, axis, 0), target, lambda: 0.0)
    workload = f"take of {'x'.join(map(str, table.shape))} by {'x'.join(map(str, static_shape(indices) or ()))}"
    stored = storage.constant(table, half, workload, "table", table.size, reason)
    if not half:
        return stock_legalization(builder, call)

    def take(data: Any, positions: Any) -> Any:
        from tvm import topi

        return topi.cast(topi.take(data, positions, axis, mode=mode), "float32")

    attributes = {"op_pattern": _INJECTIVE}
    return builder.call_te(take, stored, indices, primfunc_name_hint="take", primfunc_attrs=attributes)
