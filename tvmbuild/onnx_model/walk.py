"""Visit a graph and the graphs inside its nodes (the branches of If, the body of Loop and Scan)."""

from __future__ import annotations

from collections.abc import Iterator

from onnx import AttributeProto, GraphProto, NodeProto, TensorProto


def subgraphs(node: NodeProto) -> Iterator[GraphProto]:
    """Yield the graphs that are attributes of a node."""
    for attribute in node.attribute:
        if attribute.type == AttributeProto.GRAPH:
            yield attribute.g
        elif attribute.type == AttributeProto.GRAPHS:
            yield from attribute.graphs


def graphs(graph: GraphProto) -> Iterator[GraphProto]:
    """Yield a graph and every graph inside it."""
    yield graph
    for node in graph.node:
        for inner in subgraphs(node):
            yield from graphs(inner)


def nodes(graph: GraphProto) -> Iterator[NodeProto]:
    """Yield every node of a graph and of the graphs inside it."""
    for each in graphs(graph):
        yield from each.node


def tensors(graph: GraphProto) -> Iterator[TensorProto]:
    """Yield every weight and every tensor that is an attribute, in a graph and the graphs inside it."""
    for each in graphs(graph):
        yield from each.initializer
        for node in each.node:
            for attribute in node.attribute:
                if attribute.type == AttributeProto.TENSOR:
                    yield attribute.t
                elif attribute.type == AttributeProto.TENSORS:
                    yield from attribute.tensors


def outer_reads(node: NodeProto) -> set[str]:
    """Return the names that a node reads: its inputs and whatever its graphs take from outside."""
    names = {name for name in node.input if name}
    for graph in subgraphs(node):
        own = {value.name for value in graph.input} | {tensor.name for tensor in graph.initializer}
        for inner in graph.node:
            names |= outer_reads(inner) - own
            own |= set(inner.output)
        names |= {value.name for value in graph.output} - own
    return names


def label(node: NodeProto) -> str:
    """Return a node's name or, if it has none, its first output's."""
    return node.name or next((name for name in node.output if name), "(unnamed)")


def attributes(node: NodeProto) -> dict[str, AttributeProto]:
    """Return a node's attributes by name."""
    return {attribute.name: attribute for attribute in node.attribute}
