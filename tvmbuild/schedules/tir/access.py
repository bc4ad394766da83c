"""How a block without reduction walks its buffers.

A run of trailing axes is *flat* when every buffer that the block touches moves by one constant step for each
iteration over the whole run, as if the run were one axis. An element-wise operation is flat over all its axes; a
per-channel bias only over the channels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tvmbuild.schedules.tir.fast_math import FUNCTIONS
from tvmbuild.schedules.tir.flat_views import address
from tvmbuild.schedules.tir.rewrite import substitute


@dataclass(frozen=True)
class Walk:
    """How the block moves through one buffer.

    Attributes:
        steps: change of the address (in elements) for a step along each axis; None where it is not constant.
        store: whether it is written.
    """

    steps: tuple[int | None, ...]
    store: bool


@dataclass(frozen=True)
class Access:
    """What a block of spatial axes does to its buffers.

    Attributes:
        extents: extents of the axes.
        walks: one for every load and the store.
        conditional: whether a condition (of a pad or a concatenation) depends on the axis, by axis.
        borders: iterations of the last axis where such a condition changes.
        bits: width of the widest element.
        functions: calls of elementary functions (exp, ...) in the body.
    """

    extents: tuple[int, ...]
    walks: tuple[Walk, ...]
    conditional: tuple[bool, ...]
    borders: tuple[int, ...]
    bits: int
    functions: int

    @property
    def flat_from(self) -> int:
        """First axis of the longest flat run of trailing axes (at most the last axis)."""
        last = len(self.extents) - 1
        if self.conditional[last]:
            return last
        first = last
        while first > 0 and not self.conditional[first - 1] and all(self._extends(walk, first) for walk in self.walks):
            first -= 1
        return first

    @property
    def contiguous(self) -> bool:
        """Whether each buffer is read in a row, or stands still, along the last axis, and the output is in a row."""
        return all(
            walk.steps[-1] == 1 or (walk.steps[-1] == 0 and not walk.store) or self.extents[-1] == 1
            for walk in self.walks
        )

    def _extends(self, walk: Walk, first: int) -> bool:
        if self.extents[first - 1] == 1:
            return True
        outer, inner = walk.steps[first - 1], walk.steps[first]
        if self.extents[first] == 1:
            # An axis of one iteration has no step of its own: look past it.
            inner = next((s for s, e in zip(walk.steps[first:], self.extents[first:], strict=True) if e > 1), None)
            if inner is None:
                return outer is not None
            size = math.prod(self.extents[first:])
            return outer is not None and outer == inner * size
        return outer is not None and inner is not None and outer == inner * self.extents[first]


def analyze_access(block: Any) -> Access:
    """Describe a ``tvm.s_tir.SBlock`` of spatial axes of constant extent (imports tvm)."""
    import tvm
    import tvm_ffi
    from tvm import ir, tirx

    variables = [axis.var for axis in block.iter_vars]
    extents = tuple(int(axis.dom.extent.value) for axis in block.iter_vars)
    analyzer = tvm.sym.Analyzer()
    for axis in block.iter_vars:
        analyzer.bind(axis.var, axis.dom)
    walks: list[Walk] = []
    conditions: list[Any] = []
    widths: list[int] = []
    functions = 0

    def walk(buffer: Any, indices: Any, *, store: bool) -> None:
        widths.append(_bits(str(buffer.dtype)))
        here = address(buffer, indices)
        walks.append(Walk(tuple(_step(here, variable, analyzer) for variable in variables), store))

    def on_call(call: Any) -> None:
        nonlocal functions
        name = call.op.name if isinstance(call.op, ir.Op) else ""
        if name == "prim.if_then_else":
            conditions.append(call.args[0])
        elif name in FUNCTIONS:
            functions += 1

    tvm_ffi.structural_walk(
        block.body,
        [
            (ir.TensorLoad, lambda load: walk(load.source, load.indices, store=False)),
            (tirx.BufferStore, lambda store: walk(store.buffer, store.indices, store=True)),
            (ir.Call, on_call),
        ],
    )
    used = [_variables(condition) for condition in conditions]
    conditional = tuple(any(any(v.same_as(u) for u in names) for names in used) for v in variables)
    borders = _borders(conditions, variables[-1]) if variables and conditional[-1] else ()
    return Access(extents, tuple(walks), conditional, borders, max(widths), functions)


def _step(here: Any, variable: Any, analyzer: Any) -> int | None:
    from tvm import tirx

    one = tirx.const(1, variable.ty.dtype)
    difference = analyzer.simplify(substitute(here, variable, variable + one) - here)
    value = getattr(difference, "value", None)
    return int(value) if isinstance(value, int) else None


def _variables(expression: Any) -> list[Any]:
    import tvm_ffi
    from tvm import tirx

    found: list[Any] = []
    tvm_ffi.structural_walk(expression, (tirx.Var, found.append))
    return found


def _borders(conditions: list[Any], variable: Any) -> tuple[int, ...]:
    """Return the iterations where comparisons of the variable with a constant change."""
    import tvm_ffi
    from tvm import tirx

    found: set[int] = set()

    def compare(node: Any) -> None:
        left, right = node.a, node.b
        if left.same_as(variable) and isinstance(getattr(right, "value", None), int):
            # v < c and v >= c change at c; v <= c and v > c at c + 1.
            found.add(int(right.value) + (0 if isinstance(node, tirx.LT | tirx.GE) else 1))
        elif right.same_as(variable) and isinstance(getattr(left, "value", None), int):
            # c <= v and c > v change at c; c < v and c >= v at c + 1.
            found.add(int(left.value) + (0 if isinstance(node, tirx.LE | tirx.GT) else 1))

    for condition in conditions:
        tvm_ffi.structural_walk(condition, ((tirx.LT, tirx.LE, tirx.GT, tirx.GE), compare))
    return tuple(sorted(found))


def _bits(dtype: str) -> int:
    digits = "".join(character for character in dtype if character.isdigit())
    return int(digits) if digits else 8
