"""Turns the innermost loops of integer products into the core's multiply instructions.

The products are int32 arithmetic until here. A marked loop holds one step of the reduction: the loops over runs loaded
as one vector, over the positions and channels of a tile, and over lanes. It is replaced by vector statements, one for
every accumulator, whose instructions LLVM has no pattern for in the form in which a schedule can write them.

Sources: Arm Architecture Reference Manual (DDI 0487), SMULL, SMLAL2, SADALP, SDOT (by element); Intel Software
Developer's Manual, PMADDWD.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from tvmbuild.schedules.contracts import LaneSumsMark, MultiplyMark
from tvmbuild.schedules.tir.flat_views import FlatViews, address
from tvmbuild.schedules.tir.rewrite import in_sequence, nest_of, substitute, with_axes_bound

#: Runs of four bytes in a vector register.
_WORDS = 4

#: A buffer and an address in it.
_Place: TypeAlias = tuple[Any, Any]
#: ``(run within the step, sums, inputs, weights, step) -> sums with the products added``.
_Multiply: TypeAlias = "Callable[[int, Any, _Place, _Place, _Step], Any]"


def mark(sch: Any, loop: Any, form: str) -> None:
    """Mark the loop around the runs, positions, channels, lanes and products of one step."""
    MultiplyMark(form).put(sch, loop)


def mark_lane_sums(sch: Any, loop: Any) -> None:
    """Mark the loop around the positions, channels and lanes whose sums are to be added up."""
    LaneSumsMark().put(sch, loop)


def multiply(func: Any) -> Any:
    """Rewrite the loops marked by ``mark`` and ``mark_lane_sums`` in a scheduled PrimFunc (imports tvm)."""
    import tvm_ffi
    from tvm import tirx

    views = FlatViews()

    def on_loop(loop: Any, mutator: Any) -> Any:
        if LaneSumsMark.find(loop) is not None:
            return _add_lanes(loop)
        mark = MultiplyMark.find(loop)
        if mark is None:
            return mutator.default_mutate(loop)
        return _Step(loop, views).statements(_FORMS[mark.multiply])

    body = tvm_ffi.structural_mutate(func.body.block.body, (tirx.For, on_loop))
    return views.declared(func, body) if views else func


class _Step:
    """One step of the reduction over a tile, read off its loops."""

    def __init__(self, loop: Any, views: FlatViews) -> None:
        self.views = views
        self.loops, self.realize = nest_of(loop)
        store = self.realize.block.body
        product = store.value.b
        self.sums, self.indices = store.buffer, store.indices
        self.inputs, self.weights = _loaded(product.a), _loaded(product.b)

    @property
    def size(self) -> int:
        """Weights that one instruction (or a pair for the halves of a vector) takes."""
        return int(self.loops[-2].extent.value) * int(self.loops[-1].extent.value)

    @property
    def runs(self) -> int:
        """Runs of inputs in one step."""
        return int(self.loops[0].extent.value)

    def statements(self, form: _Multiply) -> Any:
        """Return the step with every loop written out but those over lanes and products."""
        from tvm import tirx

        *outer, lanes, _ = self.loops
        width = int(lanes.extent.value)
        inputs, weights = self._flat(self.inputs), self._flat(self.weights)
        written = []
        for values in itertools.product(*(range(int(loop.extent.value)) for loop in outer)):
            run = values[0]

            def at(expression: Any, values: tuple[int, ...] = values, run: int = run) -> Any:
                for loop, value in zip(outer, (run, *values[1:]), strict=True):
                    expression = substitute(expression, loop.loop_var, tirx.const(value, loop.loop_var.ty.dtype))
                return expression

            index = [at(self._bound(axis)) for axis in self.indices]
            index[-1] = tirx.Ramp(index[-1], tirx.const(1, index[-1].ty.dtype), width)
            total = tirx.BufferLoad(self.sums, index)
            first = at(inputs[1], run=0)
            value = form(run, total, (inputs[0], first), (weights[0], at(weights[1])), self)
            written.append(tirx.BufferStore(self.sums, value, index))
        return in_sequence(written)

    def _bound(self, expression: Any) -> Any:
        """Put the loops' values for the block's axes; lanes and products start at 0."""
        from tvm import tirx

        expression = with_axes_bound(expression, self.realize)
        for loop in self.loops[-2:]:
            expression = substitute(expression, loop.loop_var, tirx.const(0, loop.loop_var.ty.dtype))
        return expression

    def _flat(self, load: Any) -> tuple[Any, Any]:
        """Return a flat view of a buffer and the address that a load has in it."""
        import tvm

        analyzer = tvm.sym.Analyzer()
        for axis in self.realize.block.iter_vars:
            analyzer.bind(axis.var, axis.dom)
        where = analyzer.simplify(address(load.source, load.indices))
        return self.views.of(load.source), self._bound(where)


def _add_lanes(loop: Any) -> Any:
    """Add up four lanes of each of four neighbouring channels at a time."""
    from tvm import tirx

    loops, realize = nest_of(loop)
    store = realize.block.body
    positions, _, channels, _ = loops

    def at(index: Any, values: Sequence[int]) -> list[Any]:
        bound = []
        for expression in index:
            expression = with_axes_bound(expression, realize)
            for around, value in zip(loops, values, strict=True):
                variable = around.loop_var
                expression = substitute(expression, variable, tirx.const(value, variable.ty.dtype))
            bound.append(expression)
        return bound

    def vector(index: list[Any]) -> list[Any]:
        return [*index[:-1], tirx.Ramp(index[-1], tirx.const(1, index[-1].ty.dtype), 4)]

    def pairs(a: Any, b: Any) -> Any:
        return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.addp", a, b)

    parts = store.value.b
    written = []
    for position in range(int(positions.extent.value)):
        for first in range(0, int(channels.extent.value), 4):
            sums = [
                tirx.BufferLoad(parts.source, vector(at(parts.indices, (position, 0, first + i, 0)))) for i in range(4)
            ]
            total = pairs(pairs(sums[0], sums[1]), pairs(sums[2], sums[3]))
            written.append(tirx.BufferStore(store.buffer, total, vector(at(store.indices, (position, 0, first, 0)))))
    return in_sequence(written)


def _loaded(expression: Any) -> Any:
    """Return the load below a conversion."""
    from tvm import tirx

    return expression.value if isinstance(expression, tirx.Cast) else expression


def _vector(place: _Place, lanes: int) -> Any:
    from tvm import tirx

    buffer, first = place
    return tirx.BufferLoad(buffer, [tirx.Ramp(first, tirx.const(1, first.ty.dtype), lanes)])


def _smull(run: int, total: Any, inputs: _Place, weights: _Place, step: _Step, *, single: bool = False) -> Any:
    """Add 8 or 16 products to four lanes: two products fit the 16 bits between."""
    from tvm import tirx

    size = step.size
    x, w = _vector(inputs, size), _vector(weights, size)

    def long(a: Any, b: Any) -> Any:
        return tirx.call_llvm_pure_intrin("int16x8", "llvm.aarch64.neon.smull", a, b)

    def paired(value: Any) -> Any:
        return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.saddlp", value)

    if size == 8:
        return total + paired(long(x, w))
    low = long(tirx.vectorlow("int8x8", x), tirx.vectorlow("int8x8", w))
    high = long(tirx.vectorhigh("int8x8", x), tirx.vectorhigh("int8x8", w))
    return total + paired(low) + paired(high) if single else total + paired(low + high)


def _smull_single(run: int, total: Any, inputs: _Place, weights: _Place, step: _Step) -> Any:
    return _smull(run, total, inputs, weights, step, single=True)


def _sdot(run: int, total: Any, inputs: _Place, weights: _Place, step: _Step) -> Any:
    """Add four products to each of four lanes; the inputs are one lane of a vector."""
    from tvm import tirx

    size = step.size
    loaded = min(step.runs, _WORDS)
    loaded = loaded if loaded < 3 else _WORDS
    buffer, first = inputs
    start = first + tirx.const(run // _WORDS * 4 * _WORDS, first.ty.dtype)
    words = tirx.reinterpret(f"int32x{loaded}" if loaded > 1 else "int32", _vector((buffer, start), 4 * loaded))
    word = tirx.Shuffle([words], [tirx.const(run % _WORDS, "int32")]) if loaded > 1 else words
    x = tirx.reinterpret("int8x16", tirx.Broadcast(word, 4))
    return tirx.call_llvm_pure_intrin("int32x4", "llvm.aarch64.neon.sdot", total, _vector(weights, size), x)


def _madd(run: int, total: Any, inputs: _Place, weights: _Place, step: _Step) -> Any:
    """Add pairs of products of int16 to lanes of int32."""
    from tvm import tirx

    size = step.size
    pair = tirx.reinterpret("int32", _vector(inputs, 2))
    x = tirx.reinterpret(f"int16x{size}", tirx.Broadcast(pair, size // 2))
    name = {32: "llvm.x86.avx512.pmaddw.d.512", 16: "llvm.x86.avx2.pmadd.wd", 8: "llvm.x86.sse2.pmadd.wd"}[size]
    return total + tirx.call_llvm_pure_intrin(f"int32x{size // 2}", name, x, _vector(weights, size))


_FORMS: dict[str, _Multiply] = {
    "smull": _smull,
    "smull_single": _smull_single,
    "sdot": _sdot,
    "madd": _madd,
}
