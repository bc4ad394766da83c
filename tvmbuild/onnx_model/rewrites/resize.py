"""Write Resize in the form that TVM's importer reads rightly: sizes of all axes, or a choice of rows and columns."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import AttributeProto, NodeProto, TensorProto, helper, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.onnx_model.rewrites.replacement import Replacement, changed, ints, text

#: TVM adds this before rounding down and takes it away before rounding up.
_EPSILON = 1e-5


def resize(node: NodeProto, facts: Facts) -> Replacement | None:
    """Resize with ``axes``, a policy or scales: with the sizes of all axes, where that means the same.

    Nearest neighbours whose coordinates are so close to a tie that TVM picks others than ONNX Runtime become a Gather
    an axis. What cannot be written anew is left, and is refused later.
    """
    found = walk.attributes(node)
    shape, out = facts.shapes.get(node.input[0]), facts.shapes.get(node.output[0])
    if shape is None or out is None or not resizes_by_ratio(node, facts):
        return None
    has_roi = len(node.input) > 1 and bool(node.input[1])
    if has_roi and text(found, "coordinate_transformation_mode", "") == "tf_crop_and_resize":
        return None
    if text(found, "mode", "nearest") == "nearest" and shape[:2] == out[:2]:
        chosen = _choice(found, shape, out)
        if chosen is not None:
            return _gather(node, chosen)
    return _with_sizes(node, found, out)


def resizes_by_ratio(node: NodeProto, facts: Facts) -> bool:
    """Whether a Resize maps coordinates by the ratio of its output's to its input's size on every axis."""
    found = walk.attributes(node)
    shape, out = facts.shapes.get(node.input[0]), facts.shapes.get(node.output[0])
    if shape is None or out is None:
        return False
    axes = [axis % len(shape) for axis in ints(found, "axes", list(range(len(shape))))]
    scales = facts.array(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    if scales is not None and scales.size:
        exact = [float(scale) * shape[axis] for scale, axis in zip(scales, axes, strict=True)]
        return all(abs(size - out[axis]) < 1e-4 for size, axis in zip(exact, axes, strict=True))
    if text(found, "keep_aspect_ratio_policy", "stretch") == "stretch":
        return True
    return len({out[axis] / shape[axis] for axis in axes}) == 1


def _with_sizes(node: NodeProto, found: Mapping[str, AttributeProto], out: tuple[int, ...]) -> Replacement | None:
    has_sizes = len(node.input) > 3 and bool(node.input[3])
    # The two modes differ only where the output's size was rounded down.
    symmetric = text(found, "coordinate_transformation_mode", "half_pixel") == "half_pixel_symmetric"
    if has_sizes and not symmetric and not {"axes", "keep_aspect_ratio_policy"} & set(found):
        return None
    sizes = f"{node.output[0]}__sizes"
    attributes = {"coordinate_transformation_mode": "half_pixel"} if symmetric else {}
    node = changed(node, [node.input[0], "", "", sizes], attributes, ("axes", "keep_aspect_ratio_policy"))
    return Replacement((node,), (numpy_helper.from_array(np.array(out, np.int64), sizes),))


def _choice(
    found: Mapping[str, AttributeProto], shape: tuple[int, ...], out: tuple[int, ...]
) -> dict[int, np.ndarray] | None:
    """Return by axis the indices that ONNX Runtime takes, if TVM would take others on any axis."""
    mode = text(found, "coordinate_transformation_mode", "half_pixel")
    rounding = text(found, "nearest_mode", "round_prefer_floor")
    chosen, same = {}, True
    for axis in range(2, len(shape)):
        chosen[axis] = _indices_of_reference(found, shape[axis], out[axis])
        for dtype in (np.float32, np.float64):
            ours = _indices_of_tvm(mode, rounding, shape[axis], out[axis], dtype)
            same = same and ours is not None and np.array_equal(ours, chosen[axis])
    return None if same else {axis: taken for axis, taken in chosen.items() if shape[axis] != out[axis]}


def _indices_of_reference(found: Mapping[str, AttributeProto], size: int, out: int) -> np.ndarray:
    """Resize one axis that counts up, to see which elements are taken."""
    kept = {name: text(found, name, "") for name in ("coordinate_transformation_mode", "nearest_mode") if name in found}
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="nearest", **kept)
    graph = helper.make_graph(
        [node],
        "axis",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, out])],
        [numpy_helper.from_array(np.array([1, 1, out], np.int64), "s")],
    )
    proto: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)], ir_version=8)
    ramp = np.arange(size, dtype=np.float32).reshape(1, 1, size)
    return np.asarray(np.rint(run_reference(proto, {"x": ramp})["y"]), np.int64).reshape(-1)


def _indices_of_tvm(mode: str, rounding: str, size: int, out: int, dtype: type[np.floating]) -> np.ndarray | None:
    """Compute the indices as TVM's resize does; None for a mode that it does not have."""
    position, ratio = np.arange(out, dtype=dtype), dtype(size) / dtype(out)
    half, epsilon = dtype(0.5), dtype(_EPSILON)
    if mode == "asymmetric":
        x = position * ratio
    elif mode == "align_corners" and out > 1:
        x = position * (dtype(size - 1) / dtype(out - 1))
    elif mode == "half_pixel" or (mode == "pytorch_half_pixel" and out > 1):
        x = (position + half) * ratio - half
    elif mode == "pytorch_half_pixel":
        x = position * 0
    else:
        return None
    rounded = {
        "round_prefer_floor": lambda: np.ceil(x - half),
        "round_prefer_ceil": lambda: np.floor(x + half),
        "floor": lambda: np.floor(x + epsilon),
        "ceil": lambda: np.ceil(x - epsilon),
    }[rounding]()
    return np.asarray(np.clip(rounded, 0, size - 1), np.int64)


def _gather(node: NodeProto, chosen: Mapping[int, np.ndarray]) -> Replacement:
    nodes, constants, source = [], [], node.input[0]
    for number, (axis, indices) in enumerate(chosen.items()):
        target = node.output[0] if number == len(chosen) - 1 else f"{node.output[0]}__axis{axis}"
        name = f"{node.output[0]}__indices{axis}"
        constants.append(numpy_helper.from_array(indices, name))
        nodes.append(helper.make_node("Gather", [source, name], [target], name=f"{node.name}__axis{axis}", axis=axis))
        source = target
    return Replacement(tuple(nodes), tuple(constants))
