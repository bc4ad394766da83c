"""Uses of known operators that TVM's importer gets wrong, or refuses with a message that helps nobody."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from onnx import NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.indexed import INDEXED
from tvmbuild.onnx_model.rewrites.recurrent import recurrent_limit
from tvmbuild.onnx_model.rewrites.resize import resizes_by_ratio

#: Inputs that must be known when the model is compiled, since they decide shapes.
_CONSTANT_INPUTS: Mapping[str, tuple[int, ...]] = {
    "ConstantOfShape": (0,),
    "CumSum": (1,),
    "Expand": (1,),
    "MaxUnpool": (2,),
    "OneHot": (1,),
    "Pad": (1, 2, 3),
    "Range": (0, 1, 2),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Tile": (1,),
    "TopK": (1,),
    "Unsqueeze": (1,),
    "Upsample": (1,),
}
#: Operators whose output's size depends on the data.
_DATA_DEPENDENT = frozenset({"Compress", "NonMaxSuppression", "NonZero", "Unique"})
#: Operators of which the importer reads the first output only.
_FIRST_OUTPUT_ONLY = frozenset({"BatchNormalization", "Dropout", "LayerNormalization", "MaxPool"})


def limit(node: NodeProto, facts: Facts) -> str:
    """Return what of a node of a known operator is not supported ("with antialias"), or ""."""
    inputs = _CONSTANT_INPUTS.get(node.op_type, (1,) if node.op_type.startswith("Reduce") else ())
    for index in inputs:
        name = node.input[index] if index < len(node.input) else ""
        if name and name not in facts.constants:
            return "whose parameters are computed while the model runs"
    if node.op_type in _DATA_DEPENDENT:
        return "whose output's size depends on the data"
    if node.op_type in _FIRST_OUTPUT_ONLY and any(name in facts.read for name in node.output[1:]):
        return "with a second output that is used"
    if node.op_type == "If" and _branches_differ(node, facts):
        return "whose branches give different shapes"
    check = _CHECKS.get(node.op_type)
    return (check(node, facts) if check else "") or _index_outside(node, facts)


def _index_outside(node: NodeProto, facts: Facts) -> str:
    """Return which constant index lies outside its data; others are looked at while the model runs."""
    shapes = [facts.shapes.get(name, ()) for name in node.input]
    numbers = {name: int(found.i) for name, found in walk.attributes(node).items()}
    for each in INDEXED.get(node.op_type, ()):
        array = facts.array(node.input[each.position]) if each.position < len(node.input) else None
        if array is None or not array.size or node.input[0] not in facts.shapes:
            continue
        rows = array.reshape(-1, len(sizes := each.sizes(shapes, numbers)))
        for column, size in enumerate(sizes):
            low, high = each.range(size)
            outside = rows[:, column][(rows[:, column] < low) | (rows[:, column] > high)]
            if outside.size:
                return f"with the index {outside[0]}, where {low} to {high} are"
    return ""


def _branches_differ(node: NodeProto, facts: Facts) -> bool:
    shapes = [[facts.shapes.get(value.name) for value in branch.output] for branch in walk.subgraphs(node)]
    return any(shape != shapes[0] for shape in shapes)


def _text(node: NodeProto, name: str, default: str) -> str:
    found = walk.attributes(node)
    return found[name].s.decode() if name in found else default


def _number(node: NodeProto, name: str, default: int) -> int:
    found = walk.attributes(node)
    return int(found[name].i) if name in found else default


def _resize(node: NodeProto, facts: Facts) -> str:
    shape, out = facts.shapes.get(node.input[0]), facts.shapes.get(node.output[0])
    mode = _text(node, "coordinate_transformation_mode", "half_pixel")
    if shape is None or out is None:
        return "of unknown size"
    if not 3 <= len(shape) <= 5 or shape[:2] != out[:2]:
        return "of other axes than the last one to three"
    if "axes" in walk.attributes(node):
        return "with a region of interest on chosen axes"
    if _number(node, "antialias", 0):
        return "with antialias"
    if not resizes_by_ratio(node, facts):
        return "by scales that give no whole sizes"
    if mode not in ("half_pixel", "align_corners", "asymmetric", "pytorch_half_pixel", "tf_crop_and_resize"):
        return f"with coordinate_transformation_mode={mode}"
    if mode == "align_corners" and 1 in out[2:]:
        return "to a size of 1 with align_corners"
    return ""


def _is_inf(node: NodeProto, facts: Facts) -> str:
    both = _number(node, "detect_negative", 1) and _number(node, "detect_positive", 1)
    return "" if both else "of one sign only"


def _pow(node: NodeProto, facts: Facts) -> str:
    return "" if facts.dtypes.get(node.input[0], "float32").startswith("float") else "of integers"


def _mod(node: NodeProto, facts: Facts) -> str:
    whole = not facts.dtypes.get(node.input[0], "int32").startswith("float")
    return "" if whole or _number(node, "fmod", 0) else "of floats with fmod=0"


def _reduce_extreme(node: NodeProto, facts: Facts) -> str:
    return "of booleans" if facts.dtypes.get(node.input[0]) == "bool" else ""


def _space_to_depth(node: NodeProto, facts: Facts) -> str:
    return "" if _text(node, "mode", "DCR") == "DCR" else "with mode=CRD"


def _quantize(node: NodeProto, facts: Facts) -> str:
    integers = node.input[0] if node.op_type == "DequantizeLinear" else node.output[0]
    dtype = facts.dtypes.get(integers, "int8")
    if dtype not in ("int8", "uint8", "int16", "uint16", "int32"):
        return f"of {dtype}"
    return "in blocks" if _number(node, "block_size", 0) else ""


def _rms_normalization(node: NodeProto, facts: Facts) -> str:
    rank = len(facts.shapes.get(node.input[0], (0, 0)))
    return "over every axis" if _number(node, "axis", -1) in (0, -rank) else ""


def _roi_align(node: NodeProto, facts: Facts) -> str:
    return "" if _text(node, "mode", "avg") == "avg" else "with mode=max"


def _batch_normalization(node: NodeProto, facts: Facts) -> str:
    return "in training mode" if _number(node, "training_mode", 0) else ""


def _top_k(node: NodeProto, facts: Facts) -> str:
    return "that runs on the board, whose runtime cannot sort"


_CHECKS: Mapping[str, Callable[[NodeProto, Facts], str]] = {
    "BatchNormalization": _batch_normalization,
    "DequantizeLinear": _quantize,
    "GRU": recurrent_limit,
    "IsInf": _is_inf,
    "LSTM": recurrent_limit,
    "Mod": _mod,
    "Pow": _pow,
    "QuantizeLinear": _quantize,
    "RNN": recurrent_limit,
    "ReduceMax": _reduce_extreme,
    "ReduceMin": _reduce_extreme,
    "Resize": _resize,
    "RMSNormalization": _rms_normalization,
    "RoiAlign": _roi_align,
    "SpaceToDepth": _space_to_depth,
    "TopK": _top_k,
}
