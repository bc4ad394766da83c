"""Fold constants and shape arithmetic, with onnxslim.

Of onnxslim's rewrites only those run that remove nodes without changing arithmetic. Its fusions (BatchNorm into Conv
and the like) are left to tvmbuild's own graph passes, which report what they did.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tvmbuild.errors import PreparationError
from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.shapes import forget_shapes
from tvmbuild.onnx_model.skeleton import weight_bytes, with_weights, without_weights

#: The oldest opset that onnxslim folds.
OLDEST_FOLDED = 7
#: Bytes of the largest constant that folding may create: more would swell the artifact.
_LARGEST_FOLDED = 64 << 20
#: Bytes of weights with which a model still fits into one protobuf message (2 GiB), which onnxslim makes of it. Of
#: larger models the large weights stay aside, and what is computed from them is left to the graph passes.
_LARGEST_MESSAGE = 1536 << 20
#: Attributes of Constant that hold plain numbers, and the dtype that ONNX gives their tensor.
_PLAIN = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def fold_constants(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model with constants folded, and dead and repeated nodes removed.

    Raises:
        PreparationError: folding failed.
    """
    import onnxslim
    from onnxslim.core.pattern.registry import DEFAULT_FUSION_PATTERNS

    large = weight_bytes(proto) > _LARGEST_MESSAGE
    fusions = [name for name in DEFAULT_FUSION_PATTERNS if name.startswith("Fusion")]
    names = [value.name for value in proto.graph.output]
    proto = _with_constant_tensors(proto)
    try:
        with _quiet():
            folded: onnx.ModelProto | None = onnxslim.slim(
                without_weights(proto, _LARGEST_FOLDED) if large else proto,
                skip_fusion_patterns=fusions,
                # Two weights that are equal are not one parameter: quantization may treat them differently.
                skip_optimizations=["weight_tying"],
                size_threshold=_LARGEST_FOLDED,
            )
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise PreparationError(
            f"Folding the model's constants failed: {type(error).__name__}: {reason}",
            "Try `onnxslim MODEL.onnx OUT.onnx`, or simplify the model in its exporter.",
        ) from error
    if folded is None or [value.name for value in folded.graph.output] != names:
        raise PreparationError("Folding the model's constants lost one of its outputs.")
    if large:
        with_weights(folded, proto.graph.initializer)
    # An input that nothing reads is an input all the same.
    del folded.graph.input[:]
    folded.graph.input.extend(proto.graph.input)
    # onnxslim's shapes are wrong for some operators (Resize with axes).
    forget_shapes(folded)
    return folded


def _with_constant_tensors(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with the plain numbers of Constant as tensors: onnxslim makes doubles of plain floats."""
    if not any(_plain_number(node) for node in walk.nodes(proto.graph)):
        return proto
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for node in walk.nodes(changed.graph):
        plain = _plain_number(node)
        if plain is not None:
            array = np.array(helper.get_attribute_value(plain), _PLAIN[plain.name])
            value = helper.make_attribute("value", numpy_helper.from_array(array))
            del node.attribute[:]
            node.attribute.append(value)
    return changed


def _plain_number(node: onnx.NodeProto) -> onnx.AttributeProto | None:
    is_constant = node.op_type == "Constant" and node.domain in ("", "ai.onnx")
    return next((found for found in node.attribute if is_constant and found.name in _PLAIN), None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep onnxslim's loggers from the screen; it sets levels itself, so they are disabled instead."""
    loggers = [logging.getLogger(name) for name in ("onnxslim", "ONNXSlim", "onnx_graphsurgeon")]
    before = [logger.disabled for logger in loggers]
    for logger in loggers:
        logger.disabled = True
    try:
        yield
    finally:
        for logger, disabled in zip(loggers, before, strict=True):
            logger.disabled = disabled
