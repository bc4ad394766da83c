"""Computes the kernel of a PrimFunc with NumPy, block by block, as it stands before scheduling.

A block there stores one element for each point of its domain, so it is computed for all points at once: each iteration
variable is a grid of its values. Loops and schedules play no part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tvm_ffi
from tvm import ir, s_tir, tirx

Array = np.ndarray[Any, Any]
#: Points of a block's domain, at most.
_MOST_POINTS = 4e6
_erf = np.vectorize(math.erf, otypes=[np.float64])


class Unknown(Exception):
    """The kernel has something that this does not compute."""


def run(func: Any, inputs: Sequence[Array]) -> list[Array]:
    """Return the buffers of a kernel that are no inputs, after it ran.

    Raises:
        Unknown: it has a statement or expression that is not known here.
    """
    if func.attrs is not None and "tirx.is_scheduled" in func.attrs:
        raise Unknown("it is scheduled")
    buffers: dict[Any, Array] = {}
    outputs = []
    for number, buffer in enumerate(func.params):
        if number < len(inputs):
            buffers[buffer] = np.asarray(inputs[number])
        else:
            buffers[buffer] = _empty(buffer)
            outputs.append(buffers[buffer])
    blocks: list[Any] = []
    tvm_ffi.structural_walk(func.body, [(s_tir.SBlock, blocks.append)])
    # Blocks come in the order of their ends, so the root is the last.
    for block in blocks[:-1]:
        _block(block, buffers)
    return outputs


def _empty(buffer: Any) -> Array:
    return np.zeros([int(size) for size in buffer.shape], str(buffer.dtype))


def _block(block: Any, buffers: dict[Any, Array]) -> None:
    store, axes = block.body, list(block.iter_vars)
    if not isinstance(store, tirx.BufferStore):
        raise Unknown(type(store).__name__)
    extents = [int(axis.dom.extent) for axis in axes]
    if math.prod(extents) > _MOST_POINTS:
        raise Unknown("it takes too long")
    grids = {
        axis.var: np.arange(extent).reshape([-1 if at == place else 1 for at in range(len(axes))])
        for place, (axis, extent) in enumerate(zip(axes, extents, strict=True))
    }
    value = store.value
    reduced = tuple(place for place, axis in enumerate(axes) if int(axis.iter_type) == 2)
    if store.buffer not in buffers:
        buffers[store.buffer] = _empty(store.buffer)
    target = buffers[store.buffer]
    if block.init is None:
        indices = [_value(index, grids, buffers) for index in store.indices]
        target[tuple(np.broadcast_arrays(*indices)) if indices else ()] = _value(value, grids, buffers)
        return
    name = type(value).__name__
    if name not in ("Add", "Max", "Min"):
        raise Unknown(f"a reduction by {name}")
    terms = np.broadcast_to(_value(value.b, grids, buffers), extents)
    combine = {"Add": np.add, "Max": np.maximum, "Min": np.minimum}[name]
    start = _value(block.init.value, grids, buffers)
    result = combine.reduce(terms, axis=reduced, keepdims=True, dtype=target.dtype)
    spatial = {axis.var: grids[axis.var] for place, axis in enumerate(axes) if place not in reduced}
    indices = [_value(index, spatial, buffers) for index in store.indices]
    target[tuple(np.broadcast_arrays(*indices)) if indices else ()] = combine(start, result).astype(target.dtype)


def _value(node: Any, grids: dict[Any, Array], buffers: dict[Any, Array]) -> Any:
    def of(part: Any) -> Any:
        return _value(part, grids, buffers)

    name = type(node).__name__
    if name in ("IntImm", "FloatImm"):
        return np.asarray(node.value, _dtype(node))
    if isinstance(node, tirx.Var):
        return grids[node]
    if isinstance(node, ir.TensorLoad):
        source = buffers[node.source]
        indices = [of(index) for index in node.indices]
        # What a condition leaves out is computed too, and must not leave the tensor.
        inside = [np.clip(index, 0, size - 1) for index, size in zip(indices, source.shape, strict=True)]
        return source[tuple(np.broadcast_arrays(*inside))] if inside else source[()]
    if name in _BINARY:
        return _BINARY[name](of(node.a), of(node.b))
    if name == "Not":
        return np.logical_not(of(node.a))
    if name == "Select":
        return np.where(of(node.condition), of(node.true_value), of(node.false_value))
    if name == "Cast":
        return np.asarray(of(node.value)).astype(_dtype(node))
    if isinstance(node, ir.Call) and isinstance(node.op, ir.Op) and node.op.name.rpartition(".")[2] in _CALLS:
        return _CALLS[node.op.name.rpartition(".")[2]](*(of(argument) for argument in node.args))
    raise Unknown(f"{name} {getattr(getattr(node, 'op', None), 'name', '')}")


def _dtype(node: Any) -> str:
    return str(node.ty.dtype)


def _divide(a: Any, b: Any) -> Any:
    return a / b if np.asarray(a).dtype.kind == "f" else np.trunc(a / b).astype(np.asarray(a).dtype)


_BINARY: dict[str, Callable[..., Any]] = {
    "Add": np.add,
    "Sub": np.subtract,
    "Mul": np.multiply,
    "Div": _divide,
    "FloorDiv": np.floor_divide,
    "FloorMod": np.mod,
    "Min": np.minimum,
    "Max": np.maximum,
    "EQ": np.equal,
    "NE": np.not_equal,
    "LT": np.less,
    "LE": np.less_equal,
    "GT": np.greater,
    "GE": np.greater_equal,
    "And": np.logical_and,
    "Or": np.logical_or,
}
_CALLS: dict[str, Callable[..., Any]] = {
    "if_then_else": np.where,
    "nearbyint": np.rint,
    "round": np.rint,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "erf": lambda x: _erf(x).astype(np.asarray(x).dtype),
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "fabs": np.abs,
    "pow": np.power,
    **{name: getattr(np, name) for name in ("exp", "log", "tanh", "sqrt", "floor", "ceil", "sin", "cos", "tan")},
}
