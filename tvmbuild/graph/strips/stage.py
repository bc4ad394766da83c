"""Find what can be a stage of a chain: an operator that works row by row, and the element-wise operators behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax

from tvmbuild.graph.operators import operator
from tvmbuild.graph.rewriter import Call, Expr, Var, flat_bindings, is_constant, op_name, shape_of, used_vars
from tvmbuild.graph.strips.rows import ALIGNED, WHOLE, Window

#: Of (batch, rows, columns, channels).
_ROWS = 1
_RANK = 4


@dataclass(frozen=True)
class Source:
    """A tensor that a stage reads.

    Attributes:
        var: the tensor.
        window: which of its rows.
        place: the operator of the stage that reads it, and which of its arguments it is (a field of a concatenation's
            tuple counts as an argument).
    """

    var: Var
    window: Window
    place: tuple[int, int]


@dataclass(frozen=True)
class Stage:
    """One kernel to be.

    Attributes:
        bindings: its operators, in order; only the last one's result is read by others.
        sources: the tensors that it reads, one entry an argument.
    """

    bindings: tuple[tuple[Var, Call], ...]
    sources: tuple[Source, ...]

    @property
    def first(self) -> Var:
        """What its first operator makes."""
        return self.bindings[0][0]

    @property
    def output(self) -> Var:
        """What it makes."""
        return self.bindings[-1][0]

    @property
    def head(self) -> Call:
        """Its first operator."""
        return self.bindings[0][1]

    @property
    def names(self) -> tuple[str, ...]:
        """Its operators by their short names ("conv2d")."""
        return tuple(operator(op_name(call)).short for _, call in self.bindings)

    def __str__(self) -> str:
        """Return "conv2d+add+relu"."""
        return "+".join(self.names)


class Graph:
    """The bindings of ``main``, and who reads what."""

    def __init__(self, function: Any) -> None:
        """Read a function without branches."""
        self.bindings = flat_bindings(function)
        self.position = {var: index for index, (var, _) in enumerate(self.bindings)}
        self.readers: dict[Var, list[int]] = {}
        for index, (_, value) in enumerate(self.bindings):
            for var in used_vars(value):
                self.readers.setdefault(var, []).append(index)
        for var in used_vars(function.body.body):
            self.readers.setdefault(var, []).append(len(self.bindings))

    def read_only_by(self, var: Var, positions: set[int]) -> bool:
        """Whether nobody but some bindings reads a variable."""
        return positions.issuperset(self.readers.get(var, ()))


def find_stages(graph: Graph, alone: frozenset[Var] = frozenset()) -> tuple[Stage, ...]:
    """Return the stages of a function, in an order in which they can run.

    Args:
        graph: the function.
        alone: results of first operators that take none of those behind them into their kernel.
    """
    taken: set[Var] = set()
    found = []
    for index, (var, value) in enumerate(graph.bindings):
        if var in taken:
            continue
        head = _head(value)
        if head is None:
            continue
        stage = _grown(graph, index, head, taken) if var not in alone else Stage(((var, value),), head)
        taken.update(var for var, _ in stage.bindings)
        found.append(stage)
    return tuple(sorted(found, key=lambda stage: graph.position[stage.output]))


def _head(value: Expr) -> tuple[Source, ...] | None:
    """Return what the first operator of a stage reads, or None for one that cannot be the first."""
    rule = _HEADS.get(op_name(value))
    if rule is None:
        rule = _pointwise if _is_pointwise(value) else None
    return rule(value) if rule is not None and _is_image(value) else None


def _grown(graph: Graph, index: int, head: tuple[Source, ...], taken: set[Var]) -> Stage:
    """Take as many of the element-wise operators behind the first one as leave one result."""
    var, value = graph.bindings[index]
    bindings, sources = [(var, value)], list(head)
    whole = Stage(tuple(bindings), tuple(sources))
    positions = {index}
    candidates = sorted(graph.readers.get(var, ()))
    while candidates:
        position = candidates.pop(0)
        if position in positions or position >= len(graph.bindings):
            continue
        var, value = graph.bindings[position]
        own = {inside for inside, _ in bindings}
        more = _tail(value, own, len(bindings), shape_of(bindings[0][0])) if var not in taken else None
        if more is None:
            break
        bindings.append((var, value))
        sources += more
        positions.add(position)
        candidates = sorted({*candidates, *graph.readers.get(var, ())})
        if all(graph.read_only_by(inside, positions) for inside, _ in bindings[:-1]):
            whole = Stage(tuple(bindings), tuple(sources))
    return whole


def _tail(value: Expr, own: set[Var], operators: int, shape: tuple[int, ...]) -> list[Source] | None:
    """Return what an operator reads besides the stage's own tensors, or None where it cannot join it."""
    if not _is_pointwise(value) or not _is_image(value) or shape_of(value) != shape:
        return None
    sources = _pointwise(value, own, operators)
    if sources is None:
        return None
    # Small tensors that are computed are spread by a kernel of its own (graph/patterns.py).
    return list(sources) if all(shape_of(source.var) == shape for source in sources) else None


def _is_pointwise(value: Expr) -> bool:
    name = op_name(value)
    return operator(name).is_elementwise or name == "nn.prelu"


def _is_image(value: Expr) -> bool:
    """Whether a result has rows: four axes, of which the first is 1."""
    if not isinstance(value.ty, relax.TensorType):
        return False
    shape = shape_of(value)
    return len(shape) == _RANK and shape[0] == 1 and min(shape) > 0


def _pointwise(call: Call, own: set[Var] | None = None, place: int = 0) -> tuple[Source, ...] | None:
    """Return the tensors that an element-wise operator reads, None where it reads what has no rows like its own."""
    height = shape_of(call)[_ROWS]
    sources = []
    for number, argument in enumerate(call.args):
        if not isinstance(argument.ty, relax.TensorType) or (own and argument in own):
            continue
        shape = shape_of(argument)
        if is_constant(argument):
            # One with rows of its own would have to be cut.
            if len(shape) >= _RANK - _ROWS and shape[len(shape) - _RANK + _ROWS] > 1:
                return None
            continue
        if len(shape) != _RANK or shape[0] != 1:
            return None
        sources.append(Source(argument, ALIGNED if shape[_ROWS] == height else WHOLE, (place, number)))
    return tuple(sources) if sources or own else None


def _convolution(call: Call) -> tuple[Source, ...] | None:
    attrs = call.attrs
    if str(attrs.data_layout) != "NHWC" or not is_constant(call.args[1]):
        return None
    rows = shape_of(call.args[1])[str(attrs.kernel_layout).index("H")]
    top, _, bottom, _ = padding_of(attrs)
    return _windowed(call, Window(rows, int(attrs.strides[0]), int(attrs.dilation[0]), top), bottom)


def _pooling(call: Call) -> tuple[Source, ...] | None:
    attrs = call.attrs
    if str(attrs.layout) != "NHWC" or (bool(attrs.ceil_mode) and bool(attrs.count_include_pad)):
        return None
    top, _, bottom, _ = padding_of(attrs)
    return _windowed(call, Window(int(attrs.pool_size[0]), int(attrs.strides[0]), int(attrs.dilation[0]), top), bottom)


def _windowed(call: Call, window: Window, bottom: int) -> tuple[Source, ...] | None:
    """Return the source of an operator with a window, unless a row of the result could be of padding alone."""
    reach = window.dilation * (window.kernel - 1) + 1
    is_safe = max(window.top, bottom) < reach and shape_of(call.args[0])[_ROWS] + window.top + bottom >= reach
    return (Source(call.args[0], window, (0, 0)),) if is_safe and not is_constant(call.args[0]) else None


def _concatenation(call: Call) -> tuple[Source, ...] | None:
    fields = call.args[0].fields if isinstance(call.args[0], relax.Tuple) else ()
    if int(call.attrs.axis or 0) % _RANK == _ROWS or not all(isinstance(field, relax.Var) for field in fields):
        return None
    return tuple(Source(field, ALIGNED, (0, number)) for number, field in enumerate(fields)) or None


def _resizing(call: Call) -> tuple[Source, ...] | None:
    """An enlargement that repeats each row: its strips begin where a row of the input does (``granule_of``)."""
    attrs = call.attrs
    before, after = shape_of(call.args[0])[_ROWS], shape_of(call)[_ROWS]
    if str(attrs.layout) != "NHWC" or str(attrs.method) != "nearest_neighbor" or after % before:
        return None
    mode, rounding = str(attrs.coordinate_transformation_mode), str(attrs.rounding_method)
    # Other pairs take rows that lie half a row or more away.
    if (mode, rounding) != ("asymmetric", "floor") and (mode != "half_pixel" or not rounding.startswith("round")):
        return None
    return (Source(call.args[0], Window(repeat=after // before), (0, 0)),)


def granule_of(stage: Stage) -> int:
    """Return at multiples of how many rows the kernels of a stage can begin, as far as its operators say."""
    return max(source.window.repeat for source in stage.sources)


def padding_of(attrs: Any) -> tuple[int, int, int, int]:
    """Return an operator's padding at the top, left, bottom and right."""
    values = [int(value) for value in attrs.padding]
    top, left, bottom, right = values if len(values) == _RANK else (values * 2 if len(values) == 2 else values * 4)
    return top, left, bottom, right


_HEADS: Mapping[str, Callable[[Call], tuple[Source, ...] | None]] = {
    "nn.conv2d": _convolution,
    "nn.max_pool2d": _pooling,
    "nn.avg_pool2d": _pooling,
    "concat": _concatenation,
    "image.resize2d": _resizing,
}


def is_chain(graph: Graph, stages: Sequence[Stage]) -> bool:
    """Whether nobody outside reads what some stages make, but for the last."""
    inside = {graph.position[var] for stage in stages for var, _ in stage.bindings}
    return all(graph.read_only_by(stage.output, inside) for stage in stages[:-1])
