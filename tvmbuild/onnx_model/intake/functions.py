"""Replace calls of a model's own functions by their bodies, which TVM's importer does not look into."""

from __future__ import annotations

import functools
from collections.abc import Iterable

import onnx
from onnx import NodeProto

from tvmbuild.onnx_model import walk
from tvmbuild.onnx_model.skeleton import weight_bytes
from tvmbuild.support.budget import Budget
from tvmbuild.support.errors import ModelError

#: Domain, name and overload of a function.
_Key = tuple[str, str, str]


def inline_functions(proto: onnx.ModelProto, budget: Budget) -> onnx.ModelProto:
    """Return a model that ONNX's checker accepts with its own functions inlined.

    Raises:
        ModelError: functions that cannot be inlined.
        LimitError: more nodes than allowed, or too long or too much memory.
    """
    budget.check_nodes(_expanded(proto), "with its functions inlined")
    data = budget.run("inlining its functions", weight_bytes(proto), _inline, proto)
    if isinstance(data, str):
        raise ModelError(f"{budget.path} has functions that cannot be inlined: {data}.", "Export without functions.")
    inlined = onnx.ModelProto()
    inlined.ParseFromString(data)
    return inlined


def _inline(proto: onnx.ModelProto) -> bytes | str:
    from onnx import inliner

    try:
        return bytes(inliner.inline_local_functions(proto).SerializeToString())
    except (RuntimeError, ValueError) as error:
        return str(error)


def _expanded(proto: onnx.ModelProto) -> int:
    """Return the number of nodes once every call is replaced, without replacing any.

    ONNX's checker has refused calls nested over a hundred deep, circles among them.
    """
    calls = {_key(each): [_call(node) for node in _nodes(each.node)] for each in proto.functions}

    @functools.cache
    def size(key: _Key) -> int:
        return sum(map(size, calls[key])) if key in calls else 1

    return sum(size(_call(node)) for node in walk.nodes(proto.graph))


def _nodes(top: Iterable[NodeProto]) -> Iterable[NodeProto]:
    for node in top:
        yield node
        for inner in walk.subgraphs(node):
            yield from walk.nodes(inner)


def _call(node: NodeProto) -> _Key:
    return node.domain, node.op_type, node.overload


def _key(function: onnx.FunctionProto) -> _Key:
    return function.domain, function.name, function.overload
