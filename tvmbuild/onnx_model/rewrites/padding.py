"""Say the padding of convolutions and pools in numbers, which TVM's importer always reads rightly."""

from __future__ import annotations

import numpy as np
from onnx import NodeProto, helper, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.rewrites.replacement import Replacement, changed, ints, text


def explicit_pads(node: NodeProto, facts: Facts) -> Replacement | None:
    """Conv and pools with ``auto_pad`` or ``ceil_mode``: with pads.

    The importer pads by an operator of its own for Conv, and counts other windows for pools. SAME gives
    ceil(in / stride) windows, the odd pad at the end for SAME_UPPER and at the beginning for SAME_LOWER. With ceil_mode
    the last window may reach past the padding, so that more padding at the end makes the same windows whole; a window
    that would start there does not count.
    """
    found = walk.attributes(node)
    shape = facts.shapes.get(node.input[0])
    auto_pad = text(found, "auto_pad", "NOTSET")
    ceil = "ceil_mode" in found and bool(found["ceil_mode"].i)
    if shape is None or (auto_pad == "NOTSET" and not ceil):
        return None
    sizes = list(shape[2:])
    rank = len(sizes)
    kernel = ints(found, "kernel_shape", list(facts.shapes.get(node.input[1], ())[2:]) if len(node.input) > 1 else [])
    stride, dilation = ints(found, "strides", [1] * rank), ints(found, "dilations", [1] * rank)
    span = [(kernel[axis] - 1) * dilation[axis] + 1 for axis in range(rank)]
    if auto_pad.startswith("SAME"):
        pads = _same(sizes, span, stride, auto_pad == "SAME_UPPER")
    else:
        pads = [0] * (2 * rank) if auto_pad == "VALID" else ints(found, "pads", [0] * (2 * rank))
    includes = "count_include_pad" in found and bool(found["count_include_pad"].i)
    if ceil:
        missing = _missing(sizes, span, stride, pads)
        if includes and any(missing):
            return _padded_first(node, pads, missing)
        pads = pads[:rank] + [end + more for end, more in zip(pads[rank:], missing, strict=True)]
    return Replacement((changed(node, list(node.input), {"pads": pads}, ("auto_pad", "ceil_mode")),))


def _padded_first(node: NodeProto, pads: list[int], missing: list[int]) -> Replacement:
    """Return an average that counts its padding but not what the last window takes beyond it, as Pad and average."""
    data, amounts, rank = f"{node.output[0]}__padded", f"{node.output[0]}__pads", len(missing)
    pad = helper.make_node("Pad", [node.input[0], amounts], [data])
    constant = numpy_helper.from_array(np.array([0, 0, *pads[:rank], 0, 0, *pads[rank:]], np.int64), amounts)
    attributes = {"pads": [0] * rank + missing, "count_include_pad": 0}
    return Replacement((pad, changed(node, [data], attributes, ("auto_pad", "ceil_mode"))), (constant,))


def _same(sizes: list[int], span: list[int], stride: list[int], upper: bool) -> list[int]:
    """Return the pads of SAME, all beginnings and then all ends."""
    begin, end = [], []
    for size, reach, step in zip(sizes, span, stride, strict=True):
        total = max((-(-size // step) - 1) * step + reach - size, 0)
        begin.append(total // 2 if upper else total - total // 2)
        end.append(total - begin[-1])
    return begin + end


def _missing(sizes: list[int], span: list[int], stride: list[int], pads: list[int]) -> list[int]:
    """Return by axis how far the last window of ``ceil_mode`` reaches beyond the padding."""
    rank, missing = len(sizes), []
    for axis in range(rank):
        padded = sizes[axis] + pads[axis] + pads[rank + axis]
        windows = -(-(padded - span[axis]) // stride[axis]) + 1
        if (windows - 1) * stride[axis] >= sizes[axis] + pads[axis]:
            windows -= 1
        missing.append(max((windows - 1) * stride[axis] + span[axis] - padded, 0))
    return missing


def transposed_pads(node: NodeProto, facts: Facts) -> Replacement | None:
    """ConvTranspose with ``output_shape``, which the importer ignores: with pads.

    The ONNX manual's formula: total = stride * (in - 1) + output_padding + (kernel - 1) * dilation + 1 - out; half of
    it at each end, the odd one at the end for SAME_UPPER and at the beginning otherwise.
    """
    found = walk.attributes(node)
    shape, weight = facts.shapes.get(node.input[0]), facts.shapes.get(node.input[1])
    if "output_shape" not in found or shape is None or weight is None:
        return None
    rank = len(shape) - 2
    out = list(found["output_shape"].ints)[-rank:]
    stride, dilation = ints(found, "strides", [1] * rank), ints(found, "dilations", [1] * rank)
    extra = ints(found, "output_padding", [0] * rank)
    upper = text(found, "auto_pad", "NOTSET") == "SAME_UPPER"
    begin, end = [], []
    for axis in range(rank):
        full = stride[axis] * (shape[axis + 2] - 1) + (weight[axis + 2] - 1) * dilation[axis] + 1
        total = full + extra[axis] - out[axis]
        if total < 0:
            # More than the whole result is asked for: the rest is zeros at the end, as output_padding gives.
            extra[axis], total = extra[axis] - total, 0
        begin.append(total // 2 if upper else total - total // 2)
        end.append(total - begin[-1])
    attributes = {"pads": begin + end, "output_padding": extra}
    return Replacement((changed(node, list(node.input), attributes, ("output_shape", "auto_pad")),))
