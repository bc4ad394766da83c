"""What legalizations need of Relax calls."""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.gemm.packing import Array

#: FuseOps' kOutEWiseFusable: the kernel takes the element-wise operators after it into itself.
OUT_ELEMENTWISE_FUSABLE = 4


def static_shape(expression: Any) -> tuple[int, ...] | None:
    """Return the static shape of a tensor expression, or None."""
    shape = getattr(expression.ty, "shape", None)
    if shape is None:
        return None
    extents = [extent.value for extent in shape if isinstance(getattr(extent, "value", None), int)]
    return tuple(extents) if len(extents) == len(shape) else None


def constant_value(expression: Any) -> Array | None:
    """Return the value of a constant tensor, None for any other expression."""
    import tvm

    if not isinstance(expression, tvm.ir.GenericConst):
        return None
    value: Array = expression.value.numpy()
    return value


def dtype_of(expression: Any) -> str:
    """Return the element type of a tensor expression."""
    return str(expression.ty.dtype)


def is_float(call: Any) -> bool:
    """Whether arguments and result of a call are all float32 or all float16."""
    dtypes = {dtype_of(call), *map(dtype_of, call.args)}
    return dtypes in ({"float32"}, {"float16"})


def stock_legalization(builder: Any, call: Any) -> Any:
    """Legalize a call as TVM does."""
    return call.op.get_attr("FLegalize")(builder, call)


def call_compute(builder: Any, function: Any, *args: Any, name: str) -> Any:
    """Emit a call of a TE function of several stages, so that fusion takes its epilogue."""
    return builder.call_te(
        function, *args, primfunc_name_hint=name, primfunc_attrs={"op_pattern": OUT_ELEMENTWISE_FUSABLE}
    )
