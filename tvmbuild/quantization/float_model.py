"""The float model that is quantized: prepared for the compiler, then folded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx

from tvmbuild.onnx_model.facts import gather_facts
from tvmbuild.onnx_model.prepare import PreparedModel, prepare
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values, set_shape
from tvmbuild.quantization.fold_affine import fold_affine
from tvmbuild.quantization.placement import Placement, place
from tvmbuild.support import progress
from tvmbuild.support.budget import parse_limits
from tvmbuild.support.errors import CalibrationError
from tvmbuild.support.options import QuantizeOptions

_QUANTIZED = ("QuantizeLinear", "DequantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger")


@dataclass(frozen=True)
class FloatModel:
    """A folded float model.

    Attributes:
        prepared: what it was made from.
        proto: the model.
        placement: where Q and DQ go when every layer is quantized.
        sizes: number of elements by tensor's name.
        folded: number of nodes that were folded into layers.
    """

    prepared: PreparedModel
    proto: onnx.ModelProto
    placement: Placement
    sizes: dict[str, int]
    folded: int


def open_float_model(path: Path, options: QuantizeOptions) -> FloatModel:
    """Read a model, prepare it and fold it.

    Raises:
        CalibrationError: it is quantized already, or has nothing to quantize.
        TvmbuildError: the model cannot be read or prepared.
    """
    prepared = prepare(
        path,
        parse_shapes(options.shape),
        parse_values(options.value),
        compare=options.compare,
        seed=options.seed,
        limits=parse_limits(options.limit),
    )
    if any(node.op_type in _QUANTIZED for node in prepared.proto.graph.node):
        raise CalibrationError(f"{path} is quantized already.", f"Build it as it is: tvmbuild build {path}")
    with progress.stage("fold into layers") as step:
        proto, count = fold_affine(prepared.proto)
        for value, spec in zip(proto.graph.output, prepared.outputs, strict=True):
            set_shape(value, spec.shape)
        placement = place(proto)
        step.detail = f"{count} nodes folded, {len(placement.layers)} layers"
    if not placement.layers:
        raise CalibrationError(
            f"{path} has no convolution or matrix product with constant weights.", "There is nothing to quantize in it."
        )
    sizes = {name: math.prod(shape) for name, shape in gather_facts(proto).shapes.items()}
    return FloatModel(prepared, proto, placement, sizes, count)
