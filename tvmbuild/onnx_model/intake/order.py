"""Put nodes after what they read, and find cycles."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.support.errors import ModelError


def sort_nodes(path: Path, proto: onnx.ModelProto) -> tuple[str, ...]:
    """Sort the nodes of every graph topologically, in place; return what was mended.

    Raises:
        ModelError: a tensor that two nodes write, or a cycle, with the nodes in it.
    """
    notes = []
    for graph in walk.graphs(proto.graph):
        order = _sorted(path, graph)
        if order != list(range(len(graph.node))):
            nodes = [NodeProto.FromString(graph.node[index].SerializeToString()) for index in order]
            del graph.node[:]
            graph.node.extend(nodes)
            notes.append(f"sorted the nodes of graph '{graph.name}'")
    return tuple(notes)


def _sorted(path: Path, graph: GraphProto) -> list[int]:
    """Return the nodes' indices in a topological order that keeps to the file's where it can (Kahn's algorithm)."""
    writers = _writers(path, graph)
    needs = [{writers[name] for name in walk.outer_reads(node) if name in writers} for node in graph.node]
    if all(all(other < index for other in need) for index, need in enumerate(needs)):
        return list(range(len(graph.node)))
    readers: dict[int, list[int]] = {}
    for index, need in enumerate(needs):
        for other in need:
            readers.setdefault(other, []).append(index)
    waiting = [len(need) for need in needs]
    ready = deque(index for index, count in enumerate(waiting) if count == 0)
    order: list[int] = []
    while ready:
        index = ready.popleft()
        order.append(index)
        for reader in readers.get(index, []):
            waiting[reader] -= 1
            if waiting[reader] == 0:
                ready.append(reader)
    if len(order) < len(needs):
        cycle = [walk.label(graph.node[index]) for index in _cycle(needs, set(order))]
        shown = " -> ".join(cycle[:8] + (["..."] if len(cycle) > 8 else []) + cycle[:1])
        raise ModelError(
            f"{path}: the graph has a cycle of {len(cycle)} nodes: {shown}.",
            "An ONNX graph must not have one; the file is damaged or was edited wrongly.",
        )
    return order


def _writers(path: Path, graph: GraphProto) -> dict[str, int]:
    writers: dict[str, int] = {}
    for index, node in enumerate(graph.node):
        for name in node.output:
            if name and writers.setdefault(name, index) != index:
                raise ModelError(
                    f"{path}: two nodes write the tensor '{name}'.", "The file is damaged; export it again."
                )
    return writers


def _cycle(needs: list[set[int]], done: set[int]) -> list[int]:
    """Return one cycle among the nodes that could not be sorted, in the data's order, the file's first node first."""
    index = next(number for number in range(len(needs)) if number not in done)
    places: dict[int, int] = {}
    while index not in places:
        places[index] = len(places)
        index = next(other for other in sorted(needs[index]) if other not in done)
    cycle = list(places)[places[index] :][::-1]
    first = cycle.index(min(cycle))
    return cycle[first:] + cycle[:first]
