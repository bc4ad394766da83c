"""Decide which tensors are held in int8.

A tensor gets a pair of Q and DQ when a quantized layer reads it, or when it lies between quantized layers on a way of
operators that int8 can pass (pooling, concatenation, addition, activations). It gets none inside a chain that is one
kernel: behind a convolution whose result is added to a residual or goes through an activation.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

import onnx

from tvmbuild.onnx_model import walk
from tvmbuild.quantization.graph_view import CARRY, FLOAT, INSIDE, JOIN, LAYER, POOL, UNARY, GraphView, view


@dataclass(frozen=True)
class Layer:
    """A convolution or matrix product with constant weights.

    Attributes:
        index: of its node.
        name: of its node, or of its first output.
        operator: "Conv", "ConvTranspose", "Gemm" or "MatMul".
        data: the tensor that it reads.
        weight: the name of its weights.
        bias: the name of its bias, or "".
        output: the tensor that it makes.
    """

    index: int
    name: str
    operator: str
    data: str
    weight: str
    bias: str
    output: str


@dataclass(frozen=True)
class Placement:
    """Where Q and DQ go.

    Attributes:
        layers: the layers that are quantized, in the model's order.
        tensors: the tensors that get a pair, in the model's order.
        groups: sets of tensors that share one scale, those of one tensor left out.
    """

    layers: tuple[Layer, ...]
    tensors: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]


def find_layers(graph: GraphView) -> tuple[Layer, ...]:
    """Return every layer that could be quantized, in the model's order."""
    return tuple(_layer(graph, index) for index in range(len(graph.nodes)) if graph.kind(index) == LAYER)


def _layer(graph: GraphView, index: int) -> Layer:
    node = graph.nodes[index]
    bias = node.input[2] if len(node.input) > 2 else ""
    if node.op_type == "MatMul":
        bias = _product_bias(graph, node.output[0], graph.constants[node.input[1]].shape[1])
    return Layer(index, walk.label(node), node.op_type, node.input[0], node.input[1], bias, node.output[0])


def _product_bias(graph: GraphView, output: str, channels: int) -> str:
    """Return the constant that the only reader of a product adds to it, one value a column, or ""."""
    readers = graph.readers.get(output, [])
    if len(readers) != 1 or output in graph.outputs or graph.nodes[readers[0]].op_type != "Add":
        return ""
    other = next((name for name in graph.nodes[readers[0]].input if name != output), "")
    fits = other in graph.constants and graph.constants[other].shape == (channels,)
    return other if fits and len(graph.readers[other]) == 1 else ""


def place(proto: onnx.ModelProto, keep_fp32: Collection[str] = ()) -> Placement:
    """Decide where Q and DQ go when the layers named in ``keep_fp32`` stay as they are."""
    graph = view(proto)
    layers = tuple(layer for layer in find_layers(graph) if layer.name not in keep_fp32)
    kinds = {index: graph.kind(index) for index in range(len(graph.nodes))}
    quantized = {layer.index for layer in layers}
    kinds.update((index, FLOAT) for index, kind in kinds.items() if kind == LAYER and index not in quantized)
    anchored = _anchored(graph, kinds)
    needed = _needed(graph, kinds, anchored)
    fused = _fused(graph, kinds, needed)
    names = [value.name for value in proto.graph.input] + [name for node in graph.nodes for name in node.output]
    tensors = tuple(name for name in names if name in needed and name not in fused)
    return Placement(layers, tensors, _groups(graph, kinds, tensors))


def _anchored(graph: GraphView, kinds: dict[int, str]) -> set[str]:
    """Return the tensors that come from quantized layers alone, through operators that int8 can pass."""
    anchored: set[str] = set()
    for index, node in enumerate(graph.nodes):
        kind = kinds[index]
        passes = kind in (UNARY, JOIN, CARRY, POOL) and all(name in anchored for name in graph.data(index))
        if kind == LAYER or passes:
            anchored |= set(node.output)
    return anchored


def _needed(graph: GraphView, kinds: dict[int, str], anchored: set[str]) -> set[str]:
    """Return the tensors whose values a quantized layer reads in the end."""
    needed: set[str] = set()
    for index in reversed(range(len(graph.nodes))):
        outputs, kind = set(graph.nodes[index].output), kinds[index]
        if kind == LAYER:
            needed.add(graph.nodes[index].input[0])
        elif kind in (UNARY, JOIN, CARRY, POOL) and outputs & needed & anchored:
            needed |= outputs
            needed |= set(graph.data(index))
    return needed


def _fused(graph: GraphView, kinds: dict[int, str], needed: set[str]) -> set[str]:
    """Return the tensors inside a chain that is one kernel."""
    fused: set[str] = set()
    for index, node in enumerate(graph.nodes):
        if kinds[index] not in (UNARY, JOIN) or not set(node.output) & needed:
            continue
        free = [name for name in dict.fromkeys(graph.data(index)) if _is_free(graph, kinds, name)]
        if kinds[index] == JOIN:
            # One operand is the kernel's own; the layer that runs last takes the others as a residual.
            free = sorted(free, key=lambda name: _root(graph, kinds, name))[-1:]
        fused |= set(free)
    return fused


def _is_free(graph: GraphView, kinds: dict[int, str], name: str) -> bool:
    """Whether a tensor is made by a kernel that may go on with the only operator that reads it."""
    maker = graph.producers.get(name)
    return maker is not None and graph.reader_count(name) == 1 and kinds[maker] not in (CARRY, INSIDE)


def _root(graph: GraphView, kinds: dict[int, str], name: str) -> tuple[bool, int]:
    """Return whether a chain starts with a layer, and where its start stands in the model."""
    index = graph.producers[name]
    while kinds[index] == UNARY and graph.data(index)[0] in graph.producers:
        index = graph.producers[graph.data(index)[0]]
    return kinds[index] == LAYER, index


def _groups(graph: GraphView, kinds: dict[int, str], tensors: Iterable[str]) -> tuple[tuple[str, ...], ...]:
    """Join the tensors on both sides of operators that only move values."""
    group = {name: [name] for name in tensors}
    for index, node in enumerate(graph.nodes):
        if kinds[index] != CARRY or not any(name in group for name in node.output):
            continue
        names = [name for name in (*graph.data(index), *node.output) if name in group]
        merged = list(dict.fromkeys(member for name in names for member in group[name]))
        for member in merged:
            group[member] = merged
    order = list(group)
    unique = {tuple(sorted(members, key=order.index)) for members in group.values() if len(members) > 1}
    return tuple(sorted(unique, key=lambda members: order.index(members[0])))
