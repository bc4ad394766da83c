"""Report every operator that cannot be compiled, at once."""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass
from pathlib import Path

import onnx
from onnx import GraphProto, NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.limits import limit
from tvmbuild.onnx_model.rewrites.qoperators import is_qoperator
from tvmbuild.support.errors import UnsupportedOperatorError

_STANDARD = ("", "ai.onnx")
#: Operators of com.microsoft that TVM's importer knows; it ignores domains, so the list must say which it may have.
_MICROSOFT = frozenset(
    {"BiasGelu", "FastGelu", "Gelu", "SkipLayerNormalization", "EmbedLayerNormalization", "MatMulInteger16"}
)
#: Names in the importer's table that mean something else, or nothing, in the standard operator set.
_NOT_STANDARD = _MICROSOFT - {"Gelu"} | {"AllClassNMS", "Attention"}

#: Operators that the importer does not know and that are rewritten for it.
_REWRITTEN = frozenset({"GRU", "LSTM", "RNN"})
_UNROLL = "it is unrolled, with one sequence length and constant weights only; shorten it, or run that part outside."
_HINTS = {
    "LSTM": _UNROLL,
    "GRU": _UNROLL,
    "RNN": _UNROLL,
    "Loop": "unroll it: export with fixed shapes and a fixed number of iterations.",
    "Scan": "unroll it: export with fixed shapes and a fixed number of iterations.",
    "TopK": "cut the model before it and do that part outside.",
    "NonZero": "its output's size depends on the data; cut the model before it and do that part outside.",
    "NonMaxSuppression": "its output's size depends on the data; cut the model before it and do that part outside.",
    "Unique": "its output's size depends on the data; cut the model before it and do that part outside.",
    "Compress": "its output's size depends on the data; cut the model before it and do that part outside.",
}
_FOREIGN_HINT = "it is not a standard ONNX operator; export without it, or cut the model before it."
_OTHER_HINT = "replace it in the exporter with simpler operators, or cut the model before it."
#: The opset that exporters are asked for: the newest whose operators are all known or have simpler forms.
_SIMPLER = 20
#: Node names shown for each operator.
_SHOWN = 3


@dataclass(frozen=True)
class Unsupported:
    """An operator that cannot be compiled.

    Attributes:
        operator: its name, with its domain if it has one, and what of it is not supported ("Resize with antialias").
        nodes: names of all nodes that use it.
        hint: what to do about it.
    """

    operator: str
    nodes: tuple[str, ...]
    hint: str

    def __str__(self) -> str:
        """Return "LSTM (2 nodes: a, b): hint"."""
        more = ", ..." if len(self.nodes) > _SHOWN else ""
        count = f"{len(self.nodes)} node{'s' if len(self.nodes) > 1 else ''}"
        return f"{self.operator} ({count}: {', '.join(self.nodes[:_SHOWN])}{more}): {self.hint}"


def unsupported_operators(proto: onnx.ModelProto, facts: Facts | None = None) -> tuple[Unsupported, ...]:
    """Find the operators that cannot be compiled, in the graph and in the graphs inside it, most frequent first.

    Operators that depend only on constants and shapes are passed over, since folding removes them. With ``facts`` (of a
    folded model) uses of known operators are looked at too.
    """
    known = _known_operators()
    found: dict[tuple[str, str], list[str]] = {}
    _search(proto.graph, known, facts, [{""}], found)
    listed = [Unsupported(operator, tuple(nodes), hint) for (operator, hint), nodes in found.items()]
    return tuple(sorted(listed, key=lambda each: (-len(each.nodes), each.operator)))


def check_support(path: Path, proto: onnx.ModelProto, facts: Facts | None = None) -> None:
    """Refuse a model with operators that cannot be compiled.

    Raises:
        UnsupportedOperatorError: listing every one.
    """
    found = unsupported_operators(proto, facts)
    if found:
        count = sum(len(each.nodes) for each in found)
        raise UnsupportedOperatorError(
            f"{path} uses {len(found)} unsupported operator{'s' if len(found) > 1 else ''} in {count} of"
            f" {sum(1 for _ in walk.nodes(proto.graph))} nodes:\n" + "\n".join(f"  {each}" for each in found),
            "Change or remove the operators listed; `tvmbuild inspect MODEL` lists them again.",
            {"unsupported": [dataclasses.asdict(each) for each in found]},
        )


def operator_name(node: NodeProto) -> str:
    """Return the name of a node's operator, with its domain if that is not ONNX's own."""
    return node.op_type if node.domain in _STANDARD else f"{node.domain}.{node.op_type}"


@functools.cache
def _older_opset(operator: str) -> str:
    """Return the hint for an operator that exporters wrote in simpler ones before it became standard, or ""."""
    first = min(
        (s.since_version for s in onnx.defs.get_all_schemas_with_history() if s.name == operator and not s.domain),
        default=0,
    )
    if first <= _SIMPLER:
        return ""
    return f"it came with opset {first}; export with opset {_SIMPLER} to {first - 1}, in simpler operators."


def _known_operators() -> frozenset[str]:
    from tvm.relax.frontend.onnx import onnx_frontend

    return frozenset(onnx_frontend._get_convert_map()) | {"If"} | _REWRITTEN


def _search(
    graph: GraphProto,
    known: frozenset[str],
    facts: Facts | None,
    outer: list[set[str]],
    found: dict[tuple[str, str], list[str]],
) -> None:
    """Add the unsupported nodes of a graph to ``found``.

    ``outer`` holds, for each graph around this one, the names that are known when the model is compiled.
    """
    scopes = [*outer, {tensor.name for tensor in graph.initializer}]

    def known_early(name: str) -> bool:
        return any(name in scope for scope in scopes)

    for node in graph.node:
        fixed = all(map(known_early, walk.outer_reads(node))) and not node.op_type.startswith("Random")
        if node.op_type in ("Shape", "Size") or fixed:
            scopes[-1].update(node.output)
            continue
        problem = _problem(node, known, facts)
        if problem:
            found.setdefault(problem, []).append(walk.label(node))
        # A condition that is known leaves one branch only; it is looked at again after folding.
        if not (node.op_type == "If" and known_early(node.input[0])):
            for inner in walk.subgraphs(node):
                _search(inner, known, facts, scopes, found)


def _problem(node: NodeProto, known: frozenset[str], facts: Facts | None) -> tuple[str, str] | None:
    """Return the operator and a hint if a node cannot be compiled."""
    if is_qoperator(node):
        return None
    if node.domain in _STANDARD:
        if node.op_type in known and node.op_type not in _NOT_STANDARD:
            reason = limit(node, facts) if facts else ""
            return (f"{node.op_type} {reason}", _HINTS.get(node.op_type, _OTHER_HINT)) if reason else None
        return node.op_type, _HINTS.get(node.op_type) or _older_opset(node.op_type) or _OTHER_HINT
    if node.domain == "com.microsoft" and node.op_type in _MICROSOFT & known:
        return None
    return operator_name(node), _HINTS.get(node.op_type, _FOREIGN_HINT)
