"""Write operators that TVM's importer misreads in a form that it reads rightly.

Each rewrite takes a node and what is known of the model's tensors, and returns the nodes and constants to put in its
place, or None to leave it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.facts import Facts
from tvmbuild.onnx_model.rewrites.padding import explicit_pads, transposed_pads
from tvmbuild.onnx_model.rewrites.recurrent import unroll
from tvmbuild.onnx_model.rewrites.replacement import Replacement, changed
from tvmbuild.onnx_model.rewrites.resize import resize
from tvmbuild.support.budget import Budget


def rewrite_operators(proto: onnx.ModelProto, facts: Facts, budget: Budget | None = None) -> tuple[str, ...]:
    """Rewrite a folded model in place, within the budget if there is one; return what was rewritten, for people.

    Raises:
        LimitError: unrolling would make more nodes than allowed.
    """
    counts: dict[str, int] = {}
    for graph in walk.graphs(proto.graph):
        nodes: list[NodeProto] = []
        constants: list[TensorProto] = []
        for node in graph.node:
            rewrite = _REWRITES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            replacement = rewrite(node, facts) if rewrite else None
            if replacement is None:
                nodes.append(node)
            else:
                counts[node.op_type] = counts.get(node.op_type, 0) + 1
                nodes.extend(replacement.nodes)
                if budget:
                    budget.check_nodes(len(nodes), "with its recurrent layers unrolled")
                constants.extend(replacement.constants)
        if len(nodes) != len(graph.node) or any(new is not old for new, old in zip(nodes, graph.node, strict=False)):
            copies = [NodeProto.FromString(node.SerializeToString()) for node in nodes]
            del graph.node[:]
            graph.node.extend(copies)
            graph.initializer.extend(constants)
    return tuple(f"{count} {name} rewritten for TVM's importer" for name, count in sorted(counts.items()))


def _pow(node: NodeProto, facts: Facts) -> Replacement | None:
    """Pow with an exponent of another dtype than the base's, which Relax refuses: with the exponent cast first."""
    base, exponent = (facts.dtypes.get(name) for name in node.input)
    if base is None or exponent is None or base == exponent:
        return None
    cast = f"{node.output[0]}__exponent"
    to = helper.np_dtype_to_tensor_dtype(np.dtype(base))
    array = facts.array(node.input[1])
    if array is not None:
        constant = numpy_helper.from_array(array.astype(base), cast)
        return Replacement((changed(node, [node.input[0], cast], {}),), (constant,))
    cast_node = helper.make_node("Cast", [node.input[1]], [cast], to=to)
    return Replacement((cast_node, changed(node, [node.input[0], cast], {})))


_REWRITES: Mapping[str, Callable[[NodeProto, Facts], Replacement | None]] = {
    "AveragePool": explicit_pads,
    "Conv": explicit_pads,
    "ConvTranspose": transposed_pads,
    "GRU": unroll,
    "LSTM": unroll,
    "LpPool": explicit_pads,
    "MaxPool": explicit_pads,
    "Pow": _pow,
    "RNN": unroll,
    "Resize": resize,
}
