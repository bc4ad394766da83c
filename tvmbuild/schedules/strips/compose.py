"""Makes one PrimFunc of a chain: every core runs its strips, and a strip runs all kernels of the chain on its rows.

::

    for core in parallel(cores):                # one fork for the whole chain
        for turn in serial(most strips of a core):
            strip = core * turns + turn
            if strip in A:              # a branch for each kind of strip: top, first of a core, ...
                move the kept rows of each scratch tensor to its start
                kernel 1: input rows  -> scratch 1
                kernel 2: scratch 1   -> scratch 2
                kernel 3: scratch 2   -> output rows
            else if strip in B: ...

A kernel keeps its loops and its buffers; only where its parameters lie is said before it, by a pointer into the tensor.
Nothing is copied but kept rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tvmbuild.schedules.strips.chain import Chain, Keep, Operand, Role, Step, Strip

#: Bytes that the scratch tensors of a core begin at multiples of: a line of the caches, so that cores share none.
_LINE = 64

#: Elements that are moved by one vector operation where rows are kept: TVM cuts it into registers.
_MOVED = 16


def workspace_bytes(chain: Chain) -> int:
    """Return the size of the scratch tensors of all cores together."""
    return _places(chain)[1] * len(chain.cores)


def compose(chain: Chain) -> Any:
    """Return the chain as a PrimFunc (imports tvm).

    Its parameters are the inputs, the constants, the output, each in the order of ``chain.tensors``, and a workspace
    of ``workspace_bytes`` of uint8.
    """
    from tvm import s_tir, tirx

    order = (*chain.indices(Role.INPUT), *chain.indices(Role.CONSTANT), *chain.indices(Role.OUTPUT))
    buffers = {index: _parameter(chain, index) for index in order}
    workspace = tirx.decl_buffer((max(1, workspace_bytes(chain)),), "uint8", "workspace")
    turns = max(len(strips) for strips in chain.cores)
    core, turn = tirx.Var("core", "int32"), tirx.Var("turn", "int32")
    position = core * turns + turn
    writer = _Writer(chain, buffers, workspace, core, position, turns * len(chain.cores))
    body = tirx.For(turn, 0, turns, tirx.ForKind.SERIAL, _branches(strip_kinds(chain, turns), position, writer))
    kind = tirx.ForKind.PARALLEL if len(chain.cores) > 1 else tirx.ForKind.SERIAL
    root = s_tir.SBlock([], [], [], "root", tirx.For(core, 0, len(chain.cores), kind, body))
    attributes = {"global_symbol": chain.name, "tirx.noalias": True, "tirx.is_scheduled": True}
    func = tirx.PrimFunc([*buffers.values(), workspace], s_tir.SBlockRealize([], True, root))
    return func.with_attrs(attributes)


@dataclass(frozen=True)
class StripKind:
    """Strips that differ in nothing but the rows of inputs and outputs, by their positions in order."""

    strips: tuple[tuple[int, Strip], ...]


def strip_kinds(chain: Chain, turns: int) -> list[StripKind]:
    """Sort the strips into kinds, the most frequent last: it is what is left when no condition holds.

    Args:
        chain: the chain.
        turns: the most strips that a core has; strip t of core c has position ``c * turns + t``.
    """
    found: dict[Any, list[tuple[int, Strip]]] = {}
    for core, strips in enumerate(chain.cores):
        for turn, strip in enumerate(strips):
            found.setdefault(_signature(chain, strip), []).append((core * turns + turn, strip))
    kinds = [kind for members in found.values() for kind in _split(chain, members)]
    return sorted(kinds, key=lambda kind: len(kind.strips))


def _signature(chain: Chain, strip: Strip) -> Any:
    def operand(each: Operand) -> tuple[int, int]:
        moves = chain.tensors[each.tensor].role in (Role.INPUT, Role.OUTPUT)
        return each.tensor, -1 if moves else each.row

    return strip.keeps, tuple((step.kernel, tuple(map(operand, step.operands))) for step in strip.steps)


def _split(chain: Chain, members: list[tuple[int, Strip]]) -> list[StripKind]:
    """Keep together what a straight line in the position gives the rows of, for each operand."""
    if _lines(members) is not None:
        return [StripKind(tuple(members))]
    half = len(members) // 2
    return [*_split(chain, members[:half]), *_split(chain, members[half:])]


@dataclass(frozen=True)
class _Line:
    """A row as ``first + slope * (position - start)``."""

    first: int
    slope: int
    start: int


def _lines(members: Sequence[tuple[int, Strip]]) -> list[list[_Line]] | None:
    """Return the line of each operand of each step, or None where rows are not on a line."""
    (start, first), *others = members
    lines: list[list[_Line]] = []
    for number, step in enumerate(first.steps):
        lines.append([])
        for place, operand in enumerate(step.operands):
            rows = [(at, strip.steps[number].operands[place].row) for at, strip in others]
            slope = _slope(start, operand.row, rows)
            if slope is None:
                return None
            lines[-1].append(_Line(operand.row, slope, start))
    return lines


def _slope(start: int, first: int, rows: Sequence[tuple[int, int]]) -> int | None:
    slopes = {(row - first) / (at - start) for at, row in rows} or {0.0}
    slope = slopes.pop()
    return int(slope) if not slopes and slope.is_integer() else None


def _branches(kinds: Sequence[StripKind], position: Any, writer: _Writer) -> Any:
    from tvm import tirx

    *rarer, most = kinds
    body = writer.strip(most)
    if sum(len(kind.strips) for kind in kinds) < writer.positions:
        body = tirx.IfThenElse(_is_one_of(position, [at for at, _ in most.strips]), body, None)
    for kind in reversed(rarer):
        body = tirx.IfThenElse(_is_one_of(position, [at for at, _ in kind.strips]), writer.strip(kind), body)
    return body


def _is_one_of(position: Any, members: Sequence[int]) -> Any:
    """Return the condition that a position is among some, by runs of neighbours."""
    from tvm import tirx

    runs: list[tuple[int, int]] = []
    for at in sorted(members):
        if runs and runs[-1][1] == at - 1:
            runs[-1] = (runs[-1][0], at)
        else:
            runs.append((at, at))
    conditions = [
        position == first if first == last else tirx.all(position >= first, position <= last) for first, last in runs
    ]
    return tirx.any(*conditions) if len(conditions) > 1 else conditions[0]


def _parameter(chain: Chain, index: int) -> Any:
    from tvm import tirx

    tensor = chain.tensors[index]
    return tirx.decl_buffer(tensor.shape, tensor.dtype, f"{tensor.role.value}_{index}")


def _places(chain: Chain) -> tuple[dict[int, int], int]:
    """Return where each scratch tensor lies in a core's part of the workspace, in bytes, and the size of that part."""
    places, size = {}, 0
    for index in chain.indices(Role.SCRATCH):
        tensor = chain.tensors[index]
        places[index] = size
        bytes_of_rows = tensor.shape[1] * tensor.row_elements * np.dtype(tensor.dtype).itemsize
        size += -(-bytes_of_rows // _LINE) * _LINE
    return places, size


class _Writer:
    """Writes the statements of a kind of strip."""

    def __init__(
        self, chain: Chain, buffers: dict[int, Any], workspace: Any, core: Any, position: Any, positions: int
    ) -> None:
        self._chain = chain
        self._buffers = buffers
        self._workspace = workspace
        self._places, size = _places(chain)
        self._base = core * size
        self._position = position
        self.positions = positions

    def strip(self, kind: StripKind) -> Any:
        """Return what a strip of a kind does."""
        from tvm import tirx

        _, first = kind.strips[0]
        lines = _lines(kind.strips)
        assert lines is not None
        statements = [statement for keep in first.keeps for statement in self._keep(keep)]
        for step, rows in zip(first.steps, lines, strict=True):
            statements.append(self._step(step, [self._row(line) for line in rows]))
        return tirx.SeqStmt(statements) if len(statements) > 1 else statements[0]

    def _row(self, line: _Line) -> Any:
        from tvm import tirx

        if not line.slope:
            return tirx.const(line.first, "int32")
        return self._position * line.slope + (line.first - line.slope * line.start)

    def _step(self, step: Step, rows: Sequence[Any]) -> Any:
        """Return a kernel's body with its parameters bound to the rows that they stand for."""
        from tvm import s_tir, tirx

        kernel = s_tir.renew_defs(_serial(self._chain.kernels[step.kernel]))
        bound = [
            tirx.DeclBuffer(parameter, data=self._pointer(operand.tensor, row, parameter))
            for parameter, operand, row in zip(kernel.params, step.operands, rows, strict=True)
        ]
        root = kernel.body.block
        body = tirx.SeqStmt([*bound, root.body])
        block = s_tir.SBlock([], [], [], f"kernel_{step.kernel}", body, None, root.alloc_buffers, root.match_buffers)
        return s_tir.SBlockRealize([], True, block)

    def _keep(self, keep: Keep) -> list[Any]:
        """Return loops that move rows towards the start of a scratch tensor, the first ones first: they may overlap."""
        from tvm import tirx

        tensor = self._chain.tensors[keep.tensor]
        view = tirx.decl_buffer((tensor.shape[1] * tensor.row_elements,), tensor.dtype, f"kept_{keep.tensor}")
        distance, count = keep.row * tensor.row_elements, keep.rows * tensor.row_elements
        vectors, rest = divmod(count, _MOVED)
        statements = [tirx.DeclBuffer(view, data=self._pointer(keep.tensor, tirx.const(0, "int32"), view))]
        index = tirx.Var("vector", "int32")
        if vectors:
            wide = tirx.BufferLoad(view, [tirx.Ramp(index * _MOVED + distance, 1, _MOVED)])
            move = tirx.BufferStore(view, wide, [tirx.Ramp(index * _MOVED, 1, _MOVED)])
            statements.append(tirx.For(index, 0, vectors, tirx.ForKind.SERIAL, move))
        for element in range(count - rest, count):
            statements.append(tirx.BufferStore(view, tirx.BufferLoad(view, [element + distance]), [element]))
        return statements

    def _pointer(self, index: int, row: Any, view: Any) -> Any:
        """Return a pointer to the first element of a row, of the type of a view."""
        from tvm import ir, tirx

        tensor = self._chain.tensors[index]
        if tensor.role is Role.SCRATCH:
            row_bytes = tensor.row_elements * np.dtype(tensor.dtype).itemsize
            element = tirx.BufferLoad(self._workspace, [self._base + (self._places[index] + row * row_bytes)])
        else:
            buffer = self._buffers[index]
            zeros = [tirx.const(0, "int32")] * len(tensor.shape)
            if tensor.role is not Role.CONSTANT:
                zeros[1] = row
            element = tirx.BufferLoad(buffer, zeros)
        return ir.Call(ir.Op.get("tirx.address_of"), [element], ret_ty=tirx.buffer.buffer_data_pointer_type(view))


def _serial(func: Any) -> Any:
    """Return a kernel whose parallel loops are plain ones: the cores are busy with strips of their own."""
    import tvm_ffi
    from tvm import tirx

    def on_loop(loop: Any, mutator: Any) -> Any:
        loop = mutator.default_mutate(loop)
        if loop.kind != tirx.ForKind.PARALLEL:
            return loop
        return tirx.For(loop.loop_var, loop.min, loop.extent, tirx.ForKind.SERIAL, loop.body)

    return func.with_body(tvm_ffi.structural_mutate(func.body, (tirx.For, on_loop)))
