"""Operators of old opsets whose meaning onnx's version converter changes, written in terms of opset 13."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts


@dataclass(frozen=True)
class Rewrite:
    """How to write an old operator anew.

    Attributes:
        below: the opset from which the operator means what it means in opset 13.
        apply: (node, facts) -> nodes of opset 13 that compute the same.
    """

    below: int
    apply: Callable[[NodeProto, Facts], list[NodeProto]]


def _constant(name: str, array: np.ndarray) -> NodeProto:
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(array, name))


def _upsample(node: NodeProto, facts: Facts) -> list[NodeProto]:
    """Upsample-7 and -9: Resize that maps an output coordinate to itself divided by the scale, rounding down."""
    found = walk.attributes(node)
    if "scales" in found:
        scales = f"{node.output[0]}__scales"
        first = [_constant(scales, np.array(found["scales"].floats, np.float32))]
    else:
        scales, first = node.input[1], []
    mode = found["mode"].s.decode() if "mode" in found else "nearest"
    return [*first, _resize_node(node, mode, scales)]


def _resize(node: NodeProto, facts: Facts) -> list[NodeProto]:
    """Resize-10, which knows only what Upsample does."""
    found = walk.attributes(node)
    mode = found["mode"].s.decode() if "mode" in found else "nearest"
    return [_resize_node(node, mode, node.input[1])]


def _resize_node(node: NodeProto, mode: str, scales: str) -> NodeProto:
    return helper.make_node(
        "Resize",
        [node.input[0], "", scales],
        list(node.output),
        name=node.name,
        mode=mode if mode == "nearest" else "linear",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )


def _flattened(node: NodeProto, facts: Facts) -> list[NodeProto]:
    """Softmax, LogSoftmax and Hardmax before 13, which work on all axes from ``axis`` on as if they were one."""
    found = walk.attributes(node)
    axis = found["axis"].i if "axis" in found else 1
    source, target = node.input[0], node.output[0]
    if axis in (-1, len(facts.shapes.get(source, ())) - 1):
        return [helper.make_node(node.op_type, [source], [target], name=node.name, axis=-1)]
    flat, done, shape = f"{target}__flat", f"{target}__done", f"{target}__shape"
    return [
        helper.make_node("Shape", [source], [shape]),
        helper.make_node("Flatten", [source], [flat], axis=axis),
        helper.make_node(node.op_type, [flat], [done], name=node.name, axis=-1),
        helper.make_node("Reshape", [done, shape], [target]),
    ]


def _prelu(node: NodeProto, facts: Facts) -> list[NodeProto]:
    """PRelu before 7, whose slopes belong to the channels, the second axis, instead of broadcasting from the last."""
    rank, slope = len(facts.shapes.get(node.input[0], ())), facts.shapes.get(node.input[1], ())
    per_channel, shape = f"{node.output[0]}__slope", f"{node.output[0]}__shape"
    if np.prod(slope) == 1 or rank <= 2:
        return [helper.make_node("PRelu", list(node.input), list(node.output), name=node.name)]
    return [
        _constant(shape, np.array([-1] + [1] * (rank - 2), np.int64)),
        helper.make_node("Reshape", [node.input[1], shape], [per_channel]),
        helper.make_node("PRelu", [node.input[0], per_channel], list(node.output), name=node.name),
    ]


#: By operator, what is rewritten here instead of by onnx's converter.
REWRITES = {
    "PRelu": Rewrite(7, _prelu),
    "Upsample": Rewrite(10, _upsample),
    "Resize": Rewrite(11, _resize),
    "Softmax": Rewrite(13, _flattened),
    "LogSoftmax": Rewrite(13, _flattened),
    "Hardmax": Rewrite(13, _flattened),
}
