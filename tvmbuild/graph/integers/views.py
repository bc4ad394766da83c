"""Operators that move or select elements, on int8 codes instead of real numbers.

Reshaping, transposing, slicing, padding with zero, nearest resizing and max pooling commute with dequantization:
scale * (op(q) - zero) = op(scale * (q - zero)) for a positive scale. A quarter of the bytes move, and the tensor stays
in int8.
"""

from __future__ import annotations

from collections.abc import Callable

from tvm import relax

from tvmbuild.graph import operators
from tvmbuild.graph.integers.quantized import Codes
from tvmbuild.graph.rewriter import Call, Expr, op_name


def on_codes(call: Call, codes: Codes) -> Expr | None:
    """Return the operator on the codes of its first operand, or None for one that does not commute."""
    row = operators.operator(op_name(call))
    if row.codes is operators.Codes.SAME:
        return _same(call, codes)
    rule = CODE_RULES.get(row.name)
    return rule(call, codes) if rule else None


def _same(call: Call, codes: Codes) -> Expr:
    return relax.Call(call.op, [codes.tensor, *call.args[1:]], call.attrs, call.ty_args)


def _pad(call: Call, codes: Codes) -> Expr | None:
    """Real 0 is the code ``zero``."""
    if str(call.attrs.pad_mode) != "constant" or float(call.attrs.pad_value) != 0.0:
        return None
    return relax.op.nn.pad(codes.tensor, [int(size) for size in call.attrs.pad_width], "constant", float(codes.zero))


def _resize(call: Call, codes: Codes) -> Expr | None:
    attrs = call.attrs
    if str(attrs.method) != "nearest_neighbor":
        return None
    return relax.op.image.resize2d(
        codes.tensor,
        call.args[1],
        roi=tuple(float(value) for value in attrs.roi),
        layout=str(attrs.layout),
        method=attrs.method,
        coordinate_transformation_mode=attrs.coordinate_transformation_mode,
        rounding_method=attrs.rounding_method,
    )


#: Rules of the operators whose attributes differ on codes (``operators.Codes.OWN``).
CODE_RULES: dict[str, Callable[[Call, Codes], Expr | None]] = {
    "nn.pad": _pad,
    "image.resize2d": _resize,
}
