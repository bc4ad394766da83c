"""Indices that are computed while a model runs, looked at before anything is read or written with them.

ONNX Runtime ends a run with an error when Gather or one of its kin is given an index outside its data; TVM's kernels
would read or write foreign memory. A small kernel before such an operator turns negative indices into positive ones and
ends the run by the node's name where one is outside.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

from tvm import relax, te, tirx
from tvm.ir import GenericConst
from tvm.script import ir_builder

from tvmbuild.onnx_model.indexed import INDEXED, Indices

#: Longest part of a node's name in a message.
_MAX_NAME = 100


def check_indices(
    builder: relax.BlockBuilder, operator: str, inputs: Sequence[Any], attributes: Mapping[str, Any]
) -> Sequence[Any]:
    """Return an operator's inputs with indices that lie inside the data, from 0 on; constant ones are left as they are.

    Args:
        builder: where the checks are emitted.
        operator: name in the standard set or that of com.microsoft.
        inputs: Relax expressions, None where the operator has none.
        attributes: of the node, with TVM's "tvm_custom".
    """
    label = _label(operator, attributes)
    # TVM's converters want their own kind of list.
    checked: Any = copy(inputs)
    for each in INDEXED.get(operator, ()):
        given = inputs[each.position] if each.position < len(inputs) else None
        if given is None or isinstance(given, GenericConst):
            continue
        # A shape is no tensor; the importer looks its sizes up by itself.
        if all(isinstance(value.ty, relax.TensorType) for value in (given, inputs[0])):
            checked[each.position] = _checked(builder, given, each, _sizes(each, inputs, attributes), label)
    if operator == "MaxRoiPool" and not isinstance(inputs[1], GenericConst):
        checked[1] = _checked_rois(builder, inputs, label)
    return checked  # type: ignore[no-any-return]


def _sizes(indices: Indices, inputs: Sequence[Any], attributes: Mapping[str, Any]) -> list[int]:
    shapes = [() if value is None else tuple(map(int, value.ty.shape)) for value in inputs]
    numbers = {name: value for name, value in attributes.items() if isinstance(value, int)}
    return list(indices.sizes(shapes, numbers))


def check_places(
    builder: relax.BlockBuilder, operator: str, given: Any, size: int, attributes: Mapping[str, Any]
) -> Any:
    """Return indices, computed while the model runs, that lie from 0 to ``size - 1``."""
    anywhere = Indices(1, lambda *_: (size,), negative=False)
    return _checked(builder, given, anywhere, [size], _label(operator, attributes))


def _label(operator: str, attributes: Mapping[str, Any]) -> str:
    name = str(attributes.get("tvm_custom", {}).get("name", ""))
    plain = "".join(letter if letter.isprintable() else "?" for letter in name[:_MAX_NAME])
    return f"{operator} '{plain}'" if plain else operator


def _checked(builder: relax.BlockBuilder, given: Any, kind: Indices, sizes: Sequence[int], label: str) -> Any:
    def compute(indices: Any) -> Any:
        # Plain buffers: fusion refuses those with an offset that TE would make.
        source, target = (
            tirx.decl_buffer(indices.shape, indices.dtype, name, layout=None) for name in ("indices", "checked")
        )
        return te.extern(
            [indices.shape],
            [indices],
            lambda ins, outs: _loop(ins[0], outs[0], kind, sizes, label),
            dtype=str(indices.dtype),
            in_buffers=[source],
            out_buffers=[target],
            name="checked_indices",
        )

    return builder.emit_te(compute, given, primfunc_name_hint="check_indices")


def _checked_rois(builder: relax.BlockBuilder, inputs: Sequence[Any], label: str) -> Any:
    """Return the regions of MaxRoiPool, [image, x1, y1, x2, y2] in floats, with the image's number checked."""
    data, rois = inputs[:2]
    first, rest = (relax.op.strided_slice(rois, [1], [begin], [end]) for begin, end in ((0, 1), (1, 5)))
    images = Indices(1, lambda shapes, _: shapes[0][:1], negative=False)
    number = builder.emit(relax.op.astype(first, "int64"))
    number = _checked(builder, number, images, [int(data.ty.shape[0])], label)
    return builder.emit(relax.op.concat([relax.op.astype(number, str(rois.ty.dtype)), rest], 1))


def _loop(given: Any, checked: Any, kind: Indices, sizes: Sequence[int], label: str) -> Any:
    """Return the loop over all indices; the first that is outside ends the kernel, and with it the run."""
    script = ir_builder.tirx
    source, target = script.buffer_proxy(given), script.buffer_proxy(checked)
    dtype = str(given.dtype)
    count = math.prod(int(size) for size in given.shape)
    with ir_builder.IRBuilder() as ib:
        with script.serial(0, count // len(sizes)) as row:
            for column, size in enumerate(sizes):
                at = row * len(sizes) + column
                low, high = kind.range(size)
                value = source[at]
                # An error of the arguments, for it came with them.
                with script.Assert(
                    tirx.all(value >= tirx.const(low, dtype), value <= tirx.const(high, dtype)),
                    f"{label} takes indices from {low} to {high}, but was given one outside",
                    "ValueError",
                ):
                    pass
                wrapped = tirx.Select(value < tirx.const(0, dtype), value + tirx.const(size, dtype), value)
                target[at] = wrapped if kind.negative else value
        return ib.get()
