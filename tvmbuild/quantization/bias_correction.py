"""Take the mean error of each layer out of its bias.

Rounding weights and activations shifts a layer's outputs by a mean that differs from channel to channel; the bias can
take it back (Nagel et al., "Data-Free Quantization Through Weight Equalization and Bias Correction", ICCV 2019, section
4.2, here with the means of calibration samples). A layer is corrected with all those before it corrected already:
corrected all at once, or a few at a time, each takes the errors of the others for its own (docs/int8.md has figures).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.quantization.calibration.activation_session import ActivationSession
from tvmbuild.quantization.calibration.sample_set import SampleRef
from tvmbuild.quantization.placement import Layer
from tvmbuild.support import progress

#: Samples that the means are taken over.
MOST_SAMPLES = 16


def correct_biases(
    reference: onnx.ModelProto, quantized: onnx.ModelProto, layers: Sequence[Layer], samples: Sequence[SampleRef]
) -> onnx.ModelProto:
    """Return the quantized model with corrected biases; layers without a bias stay as they are.

    Args:
        reference: the folded float model.
        quantized: the QDQ model made of it.
        layers: those that are quantized, in the model's order.
        samples: of the calibration; the first ``MOST_SAMPLES`` are used.
    """
    corrected = onnx.ModelProto()
    corrected.CopyFrom(quantized)
    constants = {tensor.name: tensor for tensor in corrected.graph.initializer}
    biased = [layer for layer in layers if f"{layer.output}__bias_quantized" in constants]
    used = samples[:MOST_SAMPLES]
    with progress.stage("correct biases", total=len(biased)) as step:
        wanted = {layer.output: np.zeros(1) for layer in biased}
        session = ActivationSession(reference, list(wanted))
        for ref in used:
            outputs = session.run(ref.load())
            for layer in biased:
                wanted[layer.output] = wanted[layer.output] + _means(layer, outputs.pop(layer.output))
        for layer in biased:
            part = ActivationSession(_up_to(corrected, layer.output), [layer.output])
            found = sum((_means(layer, part.run(ref.load())[layer.output]) for ref in used), np.zeros(1))
            _shift(constants, f"{layer.output}__bias", (found - wanted[layer.output]) / len(used))
            step.advance()
        step.detail = f"{len(biased)} layers, {len(used)} samples"
    return corrected


def _means(layer: Layer, output: np.ndarray) -> np.ndarray:
    """Return the mean of each channel: axis 1 of an image, the last of a matrix."""
    axis = 1 if layer.operator in ("Conv", "ConvTranspose") else output.ndim - 1
    others = tuple(index for index in range(output.ndim) if index != axis)
    return np.asarray(output.mean(axis=others, dtype=np.float64))


def _shift(constants: dict[str, onnx.TensorProto], name: str, error: np.ndarray) -> None:
    """Subtract a mean error from an int32 bias."""
    tensor = constants[f"{name}_quantized"]
    scales = numpy_helper.to_array(constants[f"{name}_scale"]).astype(np.float64)
    moved = numpy_helper.to_array(tensor) - np.rint(error / scales)
    integers = np.clip(moved, -(2**31) + 1, 2**31 - 1).astype(np.int32)
    tensor.CopyFrom(numpy_helper.from_array(integers, tensor.name))


def _up_to(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """Return the part of a model that makes one tensor."""
    needed = {name}
    kept = []
    for node in reversed(proto.graph.node):
        if needed & set(node.output):
            needed |= walk.outer_reads(node)
            kept.append(node)
    part = onnx.ModelProto()
    part.CopyFrom(proto)
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del part.graph.node[:]
    part.graph.node.extend(copies)
    initializers = [tensor for tensor in proto.graph.initializer if tensor.name in needed]
    del part.graph.initializer[:]
    part.graph.initializer.extend(initializers)
    return part
