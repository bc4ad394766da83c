"""How large an expression becomes when everything is inlined that a kernel computes element by element.

A value that is read twice is written twice, so a chain of ``t = t + t`` doubles with each link. TVM's passes walk
trees, and a kernel of a few dozen operators keeps them busy for ever. This is counted without writing it out, before
anything is scheduled, and kernels are cut by it (``graph/kernel_size.py``).

TVM's simplifier takes the condition of a selection three times (alone, given and denied), so it weighs as much.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tvmbuild.schedules.tir.fast_math import FUNCTIONS

#: Most elementary functions within each other. Each is a chain of bound names, and what TVM's simplifier does with
#: names that are bound to names takes seconds for four within each other and minutes for six.
MAX_DEPTH = 2

#: What an elementary function weighs: about the nodes of its polynomial.
_FUNCTION = 40
_CONDITION = 3


@dataclass
class _Weights:
    """What stands in an expression: nodes, elementary functions, and how often each buffer is read."""

    nodes: int = 0
    functions: int = 0
    reads: list[tuple[Any, int]] = field(default_factory=list)


@dataclass(frozen=True)
class Size:
    """The expression of one element of a tensor, with all that is inlined into it.

    Attributes:
        nodes: operations and reads.
        depth: elementary functions within each other.
        in_memory: whether it ends in a sum over an axis, which is not inlined: whoever reads it reads one node.
    """

    nodes: int
    depth: int = 0
    in_memory: bool = False


#: What stands in memory.
READ = Size(1)


def result_sizes(func: Any, inputs: Mapping[int, Size]) -> list[Size]:
    """Return the sizes of what a PrimFunc's blocks write, in order.

    Args:
        func: a PrimFunc that is not scheduled (imports tvm).
        inputs: sizes of the parameters' expressions, by position, where they are computed in the same kernel.
    """
    import tvm_ffi
    from tvm import s_tir

    known = [(parameter, inputs.get(place, READ)) for place, parameter in enumerate(func.params)]
    written: list[Size] = []

    def on_block(block: Any, mutator: Any) -> Any:
        if not block.iter_vars and not block.writes:
            return mutator.default_mutate(block)
        weights = _weigh(block.body)
        read = [(weight, _find(known, buffer)) for buffer, weight in weights.reads]
        size = Size(
            weights.nodes + sum(weight * source.nodes for weight, source in read),
            weights.functions + max((source.depth for _, source in read), default=0),
            in_memory=any(int(axis.iter_type) == _REDUCTION for axis in block.iter_vars),
        )
        known.extend((region.source, READ if size.in_memory else size) for region in block.writes)
        written.append(size)
        return block

    tvm_ffi.structural_mutate(func.body, (s_tir.SBlock, on_block))
    return written


#: tvm.tirx.IterVar's type of a reduction's axis.
_REDUCTION = 2


def _find(sizes: list[tuple[Any, Size]], buffer: Any) -> Size:
    return next((size for known, size in reversed(sizes) if known.same_as(buffer)), READ)


def _weigh(body: Any) -> _Weights:
    """Count a statement's nodes and reads; both stay small, since nothing is inlined yet."""
    import tvm_ffi
    from tvm import ir, tirx

    weights = _Weights()

    def visit(part: Any, weight: int) -> None:
        def on_call(call: Any) -> None:
            name = call.op.name if isinstance(call.op, ir.Op) else ""
            weights.nodes += weight * (_FUNCTION if name in FUNCTIONS else 1)
            weights.functions += name in FUNCTIONS
            if name == "prim.if_then_else":
                visit(call.args[0], weight * (_CONDITION - 1))

        def on_operation(_node: Any) -> None:
            weights.nodes += weight

        tvm_ffi.structural_walk(
            part,
            [
                (ir.TensorLoad, lambda load: weights.reads.append((load.source, weight))),
                (ir.Call, on_call),
                (tirx.Select, lambda select: visit(select.condition, weight * (_CONDITION - 1))),
                ((tirx.Add, tirx.Sub, tirx.Mul, tirx.Div, tirx.Max, tirx.Min), on_operation),
            ],
        )

    visit(body, 1)
    return weights
