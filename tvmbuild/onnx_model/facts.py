"""What is known of a model's tensors before it runs: shapes, dtypes and constants."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import GraphProto, TensorProto, ValueInfoProto, helper, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.onnx_model.shapes import input_specs
from tvmbuild.onnx_model.skeleton import weight_bytes, without_weights
from tvmbuild.support.budget import Budget
from tvmbuild.support.errors import ModelError


@dataclass(frozen=True)
class Facts:
    """What is known of a model's tensors, those of inner graphs among them.

    Attributes:
        opset: version of the standard operator set.
        shapes: fixed shapes by tensor's name.
        dtypes: NumPy's dtype names by tensor's name.
        constants: weights and constants by name.
        read: names that a node reads or that are outputs.
    """

    opset: int
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    constants: dict[str, TensorProto]
    read: frozenset[str]

    def array(self, name: str) -> np.ndarray | None:
        """Return a constant's elements, or None for a tensor that is not constant."""
        return np.asarray(numpy_helper.to_array(self.constants[name])) if name in self.constants else None


def gather_facts(proto: onnx.ModelProto, budget: Budget | None = None, *, run: bool = False) -> Facts:
    """Collect what is known of a model with fixed input shapes.

    With ``run``, the shapes that ONNX's inference does not find (of GroupNormalization, of foreign operators) are taken
    from a run of the model. With a budget the inference keeps to it, or with ``run`` the run does: that is for folded
    models, whose inference ended when their shapes were inferred before folding.

    Raises:
        LimitError: it takes more than the budget has.
    """
    inferred = infer_shapes(proto, None if run else budget)
    shapes: dict[str, tuple[int, ...]] = {}
    dtypes: dict[str, str] = {}
    constants: dict[str, TensorProto] = {}
    read: set[str] = set()
    for graph in walk.graphs(inferred.graph):
        for value in (*graph.input, *graph.value_info, *graph.output):
            tensor = value.type.tensor_type
            if is_fixed(value):
                shapes[value.name] = tuple(dim.dim_value for dim in tensor.shape.dim)
            if tensor.elem_type:
                dtypes[value.name] = str(helper.tensor_dtype_to_np_dtype(tensor.elem_type))
        read |= {name for node in graph.node for name in walk.outer_reads(node)}
        read |= {value.name for value in graph.output}
    for graph in walk.graphs(proto.graph):
        constants |= {tensor.name: tensor for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant" and "value" in (found := walk.attributes(node)):
                constants[node.output[0]] = found["value"].t
    for name, tensor in constants.items():
        shapes[name] = tuple(tensor.dims)
        dtypes[name] = str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    if run:
        for name, (shape, dtype) in _run_unknown(proto, shapes, budget).items():
            shapes[name], dtypes[name] = shape, dtype
    return Facts(opset_of(proto), shapes, dtypes, constants, frozenset(read))


def _run_unknown(
    proto: onnx.ModelProto, shapes: Mapping[str, tuple[int, ...]], budget: Budget | None
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Return shape and dtype of each tensor whose shape is unknown."""
    unknown = [name for node in proto.graph.node for name in node.output if name and name not in shapes]
    if not unknown:
        return {}
    if budget is None:
        return _run_for(proto, unknown)
    return budget.run("running it for shapes", weight_bytes(proto), _run_for, proto, unknown)


def _run_for(proto: onnx.ModelProto, names: list[str]) -> dict[str, tuple[tuple[int, ...], str]]:
    try:
        arrays = run_reference(proto, random_inputs(input_specs(proto)), names)
    except ModelError:
        return {}
    return {name: (array.shape, str(array.dtype)) for name, array in arrays.items()}


def infer_shapes(proto: onnx.ModelProto, budget: Budget | None = None) -> onnx.ModelProto:
    """Return the model without its weights and with every shape that ONNX's inference finds.

    The inference does not look outside an inner graph for the axes and sizes it needs, so these are copied into it.

    Raises:
        LimitError: it takes more than the budget has. (It computes with shapes, which a file can double at each node.)
    """
    skeleton = without_weights(proto)
    _lend(skeleton.graph, ChainMap())
    if budget is None:
        return onnx.shape_inference.infer_shapes(skeleton, data_prop=True)
    inferred = onnx.ModelProto()
    inferred.ParseFromString(budget.run("inferring its shapes", 0, _inferred, skeleton, share=8))
    return inferred


def _inferred(skeleton: onnx.ModelProto) -> bytes:
    return bytes(onnx.shape_inference.infer_shapes(skeleton, data_prop=True).SerializeToString())


def _lend(graph: GraphProto, outer: ChainMap[str, TensorProto]) -> None:
    """Give inner graphs copies of the outer constants that they read."""
    scope = outer.new_child({tensor.name: tensor for tensor in graph.initializer})
    for node in graph.node:
        for inner in walk.subgraphs(node):
            own = {tensor.name for tensor in inner.initializer}
            reads = {name for each in inner.node for name in walk.outer_reads(each)}
            inner.initializer.extend(scope[name] for name in sorted(reads - own) if name in scope)
            _lend(inner, scope)


def opset_of(proto: onnx.ModelProto) -> int:
    """Return the version of the standard operator set that the model uses."""
    return next((int(each.version) for each in proto.opset_import if each.domain in ("", "ai.onnx")), 1)


def is_fixed(value: ValueInfoProto) -> bool:
    """Whether every size of a declared tensor is a number."""
    tensor = value.type.tensor_type
    return tensor.HasField("shape") and all(dim.HasField("dim_value") for dim in tensor.shape.dim)
