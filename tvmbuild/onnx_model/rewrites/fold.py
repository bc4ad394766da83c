"""Fold constants and shape arithmetic, with onnxslim.

Of onnxslim's rewrites only those run that remove nodes without changing arithmetic. Its fusions (BatchNorm into Conv
and the like) are left to tvmbuild's own graph passes, which report what they did.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator

import numpy as np
import onnx
from onnx import helper, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.reference import onnx_runtime
from tvmbuild.onnx_model.shapes import forget_shapes
from tvmbuild.onnx_model.skeleton import SMALL_BYTES, weight_bytes, with_weights, without_weights
from tvmbuild.support.budget import Budget
from tvmbuild.support.errors import PreparationError

#: The oldest opset that onnxslim folds.
OLDEST_FOLDED = 7
#: Bytes of the largest constant that folding may create: more would swell the artifact.
_LARGEST_FOLDED = 64 << 20
#: Bytes of weights with which a model still fits into one protobuf message (2 GiB), which onnxslim makes of it. Of
#: larger models the large weights stay aside, and what is computed from them is left to the graph passes.
_LARGEST_MESSAGE = 1536 << 20
#: Inputs above which they are hidden behind one node, and the name of all that this needs.
_MANY_INPUTS = 32
_INPUTS = "tvmbuild.inputs"
#: Times that a weight may be computed anew on the way to what is folded (cast, scaled, transposed, ...).
_WEIGHT_FORMS = 4
#: Attributes of Constant that hold plain numbers, and the dtype that ONNX gives their tensor.
_PLAIN = {"value_float": np.float32, "value_floats": np.float32, "value_int": np.int64, "value_ints": np.int64}


def fold_constants(proto: onnx.ModelProto, budget: Budget | None = None) -> onnx.ModelProto:
    """Return a model with constants folded, and dead and repeated nodes removed; within the budget, if there is one.

    Raises:
        PreparationError: folding failed.
        LimitError: it takes more than the budget has.
    """
    large = weight_bytes(proto) > _LARGEST_MESSAGE
    names = [value.name for value in proto.graph.output]
    proto = _with_constant_tensors(proto)
    given = without_weights(proto, _LARGEST_FOLDED) if large else proto
    data = budget.run("folding its constants", weight_bytes(given), _slim, given) if budget else _slim(given)
    folded = _with_shared_data(onnx.ModelProto.FromString(data), given)
    if [value.name for value in folded.graph.output] != names:
        raise PreparationError("Folding the model's constants lost one of its outputs.")
    if large:
        with_weights(folded, proto.graph.initializer)
    # An input that nothing reads is an input all the same.
    del folded.graph.input[:]
    folded.graph.input.extend(proto.graph.input)
    # onnxslim's shapes are wrong for some operators (Resize with axes).
    forget_shapes(folded)
    return folded


def check_computed_constants(proto: onnx.ModelProto, facts: Facts, budget: Budget) -> None:
    """Refuse a model of whose constants folding would make too many bytes, before it makes them.

    Raises:
        LimitError: they take more than the budget has, besides some times the weights that they may be made of.
    """
    constant = set(facts.constants)
    count = 0
    for node in proto.graph.node:
        of_shape = node.op_type in ("Shape", "Size")
        if of_shape or (walk.outer_reads(node) <= constant and not node.op_type.startswith("Random")):
            constant.update(node.output)
            count += (
                0 if of_shape else sum(_bytes_of(name, facts) for name in node.output if name not in facts.constants)
            )
    budget.check_bytes(max(0, count - _WEIGHT_FORMS * weight_bytes(proto)), "the constants that folding computes")


def _bytes_of(name: str, facts: Facts) -> int:
    if name not in facts.shapes or name not in facts.dtypes:
        return 0
    return math.prod(facts.shapes[name]) * np.dtype(facts.dtypes[name]).itemsize


def _slim(proto: onnx.ModelProto) -> bytes:
    """Return what onnxslim makes of a model, without the data of large weights that it left as they were."""
    # It imports ONNX Runtime by itself.
    onnx_runtime()
    import onnxslim
    from onnxslim.core.pattern.registry import DEFAULT_FUSION_PATTERNS

    before = {tensor.name: tensor.raw_data for tensor in proto.graph.initializer if len(tensor.raw_data) > SMALL_BYTES}
    hidden = _with_one_input(proto)
    try:
        with _quiet():
            folded: onnx.ModelProto | None = onnxslim.slim(
                hidden,
                skip_fusion_patterns=[name for name in DEFAULT_FUSION_PATTERNS if name.startswith("Fusion")],
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
    if folded is None:
        raise PreparationError("Folding the model's constants failed.")
    _drop_input_node(folded)
    for tensor in folded.graph.initializer:
        if tensor.raw_data and before.get(tensor.name) == tensor.raw_data:
            tensor.raw_data = b""
    return bytes(folded.SerializeToString())


def _with_one_input(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of many inputs with a node that writes them: onnxslim looks for each input in all its tensors."""
    if len(proto.graph.input) <= _MANY_INPUTS:
        return proto
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    graph = changed.graph
    names = [value.name for value in graph.input]
    graph.value_info.extend(graph.input)
    del graph.input[:]
    graph.input.append(helper.make_tensor_value_info(_INPUTS, onnx.TensorProto.FLOAT, [1]))
    graph.node.insert(0, helper.make_node("Inputs", [_INPUTS], names, name=_INPUTS, domain=_INPUTS))
    changed.opset_import.append(helper.make_opsetid(_INPUTS, 1))
    return changed


def _drop_input_node(proto: onnx.ModelProto) -> None:
    """Take out, in place, the node that ``_with_one_input`` put in."""
    for place, node in enumerate(proto.graph.node):
        if node.domain == _INPUTS:
            del proto.graph.node[place]
            break
    kept = [each for each in proto.opset_import if each.domain != _INPUTS]
    del proto.opset_import[:]
    proto.opset_import.extend(kept)


def _with_shared_data(folded: onnx.ModelProto, given: onnx.ModelProto) -> onnx.ModelProto:
    """Give weights that ``_slim`` sent without data those of the same names, in place."""
    before = {tensor.name: tensor for tensor in given.graph.initializer}
    for tensor in folded.graph.initializer:
        if tensor.HasField("raw_data") and not tensor.raw_data and 0 not in tensor.dims:
            tensor.raw_data = before[tensor.name].raw_data
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
