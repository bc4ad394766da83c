"""Converters that take the place of TVM's own, where those hide structure from passes or compute something else.

Each takes ``(builder, inputs, attributes)`` as TVM's converters do and returns a Relax expression, or None to leave the
node to TVM's own converter.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tvm import relax, tirx
from tvm.ir import GenericConst

from tvmbuild.onnx_model.indexed import unpooled_shape
from tvmbuild.onnx_model.indices import check_places

Converter = Callable[[relax.BlockBuilder, Sequence[Any], Mapping[str, Any]], Any]


def _constant(value: Any) -> np.ndarray | None:
    return np.asarray(value.value.numpy()) if isinstance(value, GenericConst) else None


def _bound(inputs: Sequence[Any], attributes: Mapping[str, Any], index: int, name: str) -> float | None:
    """Return a constant bound of Clip; None when there is none (ONNX Runtime takes NaN as none)."""
    array = _constant(inputs[index]) if index < len(inputs) else None
    bound = float(attributes[name]) if name in attributes else None if array is None else float(array.item())
    return None if bound is None or np.isnan(bound) else bound


def clip(builder: relax.BlockBuilder, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Clip with constant bounds as ``relax.clip`` or ``relax.nn.relu``, where TVM's converter emits loops."""
    if any(value is not None and _constant(value) is None for value in inputs[1:3]):
        return None
    x = inputs[0]
    low, high = _bound(inputs, attributes, 1, "min"), _bound(inputs, attributes, 2, "max")
    dtype = x.ty.dtype.dtype
    if low is None and high is None:
        return x
    if low == 0.0 and high is None and dtype.startswith("float"):
        return relax.op.nn.relu(x)
    if low is not None and high is not None and low <= high:
        exact = float if dtype.startswith("float") else int
        return relax.op.clip(x, exact(low), exact(high))
    if low is not None:
        x = relax.op.maximum(x, relax.const(low, dtype))
    return x if high is None else relax.op.minimum(x, relax.const(high, dtype))


def pad(builder: relax.BlockBuilder, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Pad by a constant as ``relax.nn.pad``."""
    x, rank = inputs[0], inputs[0].ty.ndim
    if attributes.get("mode", b"constant") != b"constant" or len(inputs) < 2:
        return None
    given, fill, axes = (_constant(inputs[index]) if index < len(inputs) else None for index in (1, 2, 3))
    if given is None or (len(inputs) > 2 and inputs[2] is not None and fill is None):
        return None
    if len(inputs) > 3 and inputs[3] is not None and axes is None:
        return None
    before, after = (list(map(int, half)) for half in np.split(given, 2))
    widths = [0] * (2 * rank)
    for index, axis in enumerate(range(rank) if axes is None else (int(axis) % rank for axis in axes)):
        widths[2 * axis], widths[2 * axis + 1] = before[index], after[index]
    if min(widths, default=0) < 0:
        return None
    return relax.op.nn.pad(x, widths, "constant", 0.0 if fill is None else float(fill.item()))


def gather(builder: relax.BlockBuilder, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """Gather that never reads outside its data, where TVM's converter trusts the indices.

    A constant index becomes a slice, which fuses; others come checked. They are clipped all the same, for a kernel that
    is measured by itself gets numbers that nobody has checked.
    """
    data, indices = inputs[:2]
    array = _constant(indices)
    if not isinstance(data.ty, relax.TensorType) or (_constant(data) is not None and array is not None):
        return None
    axis = attributes.get("axis", 0) % data.ty.ndim
    size = int(data.ty.shape[axis])
    if array is None:
        return relax.op.take(data, indices, axis, mode="clip")
    array = np.where(array < 0, array + size, array)
    if array.size and (array.min() < 0 or array.max() >= size):
        raise ValueError(f"Gather with an index outside 0 to {size - 1}")
    if array.ndim == 0:
        index = int(array)
        return relax.op.squeeze(relax.op.strided_slice(data, [axis], [index], [index + 1], assume_inbound=True), axis)
    return relax.op.take(data, relax.const(array, str(array.dtype)), axis, mode="clip")


def scatter_elements(builder: relax.BlockBuilder, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """ScatterElements with fewer indices than data beside its axis, which TVM's kernel puts into wrong places."""
    data, indices, updates = inputs[:3]
    shape = tuple(int(size) for size in indices.ty.shape)
    whole = tuple(int(size) for size in data.ty.shape)
    axis = attributes.get("axis", 0) % len(whole)
    if all(size == other for i, (size, other) in enumerate(zip(shape, whole, strict=True)) if i != axis):
        return None
    array, dtype = _constant(indices), indices.ty.dtype.dtype
    if array is not None:
        indices = relax.const(np.where(array < 0, array + whole[axis], array), dtype)
    places: list[Any] = [relax.const(places[..., None].astype(dtype), dtype) for places in np.indices(shape)]
    places[axis] = builder.emit(relax.op.reshape(indices, (*shape, 1)))
    reduction = attributes.get("reduction", b"none").decode().replace("none", "update")
    return relax.op.scatter_nd(data, builder.emit(relax.op.concat(places, -1)), updates, reduction)


def max_unpool(builder: relax.BlockBuilder, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """MaxUnpool, where TVM's converter adds up the wrong pads and reads no output shape."""
    data, indices = inputs[:2]
    given = _constant(inputs[2]) if len(inputs) > 2 and inputs[2] is not None else None
    pooled = tuple(int(size) for size in data.ty.shape)
    shape = tuple(map(int, unpooled_shape(pooled, attributes) if given is None else given))
    places = relax.op.reshape(indices, [math.prod(pooled)])
    array = _constant(indices)
    if array is None:
        places = check_places(builder, "MaxUnpool", builder.emit(places), math.prod(shape), attributes)
    elif array.size and (array.min() < 0 or array.max() >= math.prod(shape)):
        raise ValueError(f"MaxUnpool with an index outside 0 to {math.prod(shape) - 1}")
    empty = builder.emit(relax.op.zeros([math.prod(shape)], data.ty.dtype.dtype))
    filled = relax.op.scatter_elements(empty, places, relax.op.reshape(data, [math.prod(pooled)]), axis=0)
    return relax.op.reshape(builder.emit(filled), shape)


def one_hot(builder: relax.BlockBuilder, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> Any:
    """OneHot in the dtype of its values, where TVM's converter makes float64 of every float."""
    indices, depth, values = inputs[0], _constant(inputs[1]), _constant(inputs[2])
    if depth is None or values is None:
        return None
    dtype, size = str(values.dtype), int(depth.item())
    off, on = (relax.prim_value(tirx.const(value.item(), dtype)) for value in values)
    zero, end = (relax.const(number, indices.ty.dtype.dtype) for number in (0, size))
    wrapped = relax.op.where(relax.op.less(indices, zero), relax.op.add(indices, end), indices)
    return relax.op.one_hot(wrapped, on, off, size, attributes.get("axis", -1))


#: By operator of the standard set, what is used before TVM's own converter.
CONVERTERS: Mapping[str, Converter] = {
    "Clip": clip,
    "Gather": gather,
    "MaxUnpool": max_unpool,
    "OneHot": one_hot,
    "Pad": pad,
    "ScatterElements": scatter_elements,
}
