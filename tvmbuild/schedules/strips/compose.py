"""Makes one PrimFunc of a chain: every core runs its strips, and a strip runs all kernels of the chain on its rows.

::

    for core in parallel(cores):                  # one fork for the whole chain
        for turn in serial(most strips of a core):
            strip = core * turns + turn
            move the kept rows of each scratch tensor to its start
            if strip in A: kernel 1a: input rows -> scratch 1       # the top of the image
            else:          kernel 1b: input rows -> scratch 1       # all others
            if strip in B: kernel 2a: scratch 1 -> output rows
            else:          kernel 2b: scratch 1 -> output rows

A kernel keeps its loops and its buffers; only where its parameters lie is said before it, by a pointer into the tensor,
so that each kernel stands once whatever strips run it. Nothing is copied but kept rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from itertools import pairwise
from typing import Any

import numpy as np

from tvmbuild.schedules.cache import LINE
from tvmbuild.schedules.strips.chain import Chain, Keep, Role, Step, Strip
from tvmbuild.schedules.strips.position import condition, row_at
from tvmbuild.schedules.tir.serial_loops import serial

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
    writer = _Writer(chain, buffers, workspace, core, core * turns + turn)
    body = tirx.For(turn, 0, turns, tirx.ForKind.SERIAL, writer.strips(turns))
    kind = tirx.ForKind.PARALLEL if len(chain.cores) > 1 else tirx.ForKind.SERIAL
    root = s_tir.SBlock([], [], [], "root", tirx.For(core, 0, len(chain.cores), kind, body))
    attributes = {"global_symbol": chain.name, "tirx.noalias": True, "tirx.is_scheduled": True}
    func = tirx.PrimFunc([*buffers.values(), workspace], s_tir.SBlockRealize([], True, root))
    return func.with_attrs(attributes)


@dataclass
class Slot:
    """What strips do at one place in their order, by what they do there and by their position.

    Attributes:
        keeps: the strips that move the same rows.
        steps: the strips that run the same kernel, each with its call.
    """

    keeps: dict[Keep, list[int]] = field(default_factory=dict)
    steps: dict[int, dict[int, Step]] = field(default_factory=dict)


def slots(chain: Chain, turns: int) -> tuple[dict[int, Slot], list[Slot]]:
    """Sort what strips do into slots.

    Args:
        chain: the chain.
        turns: the most strips that a core has; strip t of core c has position ``c * turns + t``.

    Returns:
        The slots of rows that are kept, by tensor, and those of kernels, in the order in which they run.
    """
    keeps: dict[int, Slot] = {}
    steps: dict[tuple[int, int], Slot] = {}
    sorter: TopologicalSorter[tuple[int, int]] = TopologicalSorter()
    for position, strip in _positions(chain, turns):
        for keep in strip.keeps:
            keeps.setdefault(keep.tensor, Slot()).keeps.setdefault(keep, []).append(position)
        places = _places_of(strip)
        for place, step in zip(places, strip.steps, strict=True):
            steps.setdefault(place, Slot()).steps.setdefault(step.kernel, {})[position] = step
            sorter.add(place)
        for before, after in pairwise(places):
            sorter.add(after, before)
    return keeps, [steps[place] for place in sorter.static_order()]


def _positions(chain: Chain, turns: int) -> Iterable[tuple[int, Strip]]:
    for core, strips in enumerate(chain.cores):
        for turn, strip in enumerate(strips):
            yield core * turns + turn, strip


def _places_of(strip: Strip) -> list[tuple[int, int]]:
    """Return the tensor that each step writes, and how often it was written in the strip before."""
    seen: dict[int, int] = {}
    places = []
    for step in strip.steps:
        tensor = step.operands[-1].tensor
        places.append((tensor, seen.get(tensor, 0)))
        seen[tensor] = seen.get(tensor, 0) + 1
    return places


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
        # Cores share no line.
        size += -(-bytes_of_rows // LINE) * LINE
    return places, size


class _Writer:
    """Writes the statements of strips."""

    def __init__(self, chain: Chain, buffers: dict[int, Any], workspace: Any, core: Any, position: Any) -> None:
        self._chain = chain
        self._buffers = buffers
        self._workspace = workspace
        self._offsets, size = _places(chain)
        self._base = core * size
        self._position = position

    def strips(self, turns: int) -> Any:
        """Return what the strip at the position does."""
        from tvm import tirx

        keeps, steps = slots(self._chain, turns)
        count = turns * len(self._chain.cores)
        statements = []
        for slot in keeps.values():
            moves = [(positions, self._keep(keep)) for keep, positions in slot.keeps.items()]
            statements.append(self._one_of(moves, count))
        for slot in steps:
            calls = [(list(of_kernel), self._call(kernel, of_kernel)) for kernel, of_kernel in slot.steps.items()]
            statements.append(self._one_of(calls, count))
        return tirx.SeqStmt(statements) if len(statements) > 1 else statements[0]

    def _one_of(self, choices: Sequence[tuple[list[int], Any]], count: int) -> Any:
        """Return the choice of the position; that of most positions needs no condition where every one has some."""
        from tvm import tirx

        *rarer, (most, body) = sorted(choices, key=lambda choice: len(choice[0]))
        if sum(len(positions) for positions, _ in choices) < count:
            body = tirx.IfThenElse(condition(self._position, most), body, None)
        for positions, other in reversed(rarer):
            body = tirx.IfThenElse(condition(self._position, positions), other, body)
        return body

    def _call(self, number: int, calls: Mapping[int, Step]) -> Any:
        """Return a kernel's body with its parameters bound to the rows that they stand for at the position."""
        from tvm import s_tir, tirx

        kernel = s_tir.renew_defs(serial(self._chain.kernels[number]))
        bound = []
        for place, parameter in enumerate(kernel.params):
            (tensor,) = {step.operands[place].tensor for step in calls.values()}
            row = row_at(self._position, {at: step.operands[place].row for at, step in calls.items()})
            bound.append(tirx.DeclBuffer(parameter, data=self._pointer(tensor, row, parameter)))
        root = kernel.body.block
        body = tirx.SeqStmt([*bound, root.body])
        block = s_tir.SBlock([], [], [], f"kernel_{number}", body, None, root.alloc_buffers, root.match_buffers)
        return s_tir.SBlockRealize([], True, block)

    def _keep(self, keep: Keep) -> Any:
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
        return tirx.SeqStmt(statements)

    def _pointer(self, index: int, row: Any, view: Any) -> Any:
        """Return a pointer to the first element of a row, of the type of a view."""
        from tvm import ir, tirx

        tensor = self._chain.tensors[index]
        if tensor.role is Role.SCRATCH:
            row_bytes = tensor.row_elements * np.dtype(tensor.dtype).itemsize
            element = tirx.BufferLoad(self._workspace, [self._base + (self._offsets[index] + row * row_bytes)])
        else:
            zeros = [tirx.const(0, "int32")] * len(tensor.shape)
            if tensor.role is not Role.CONSTANT:
                zeros[1] = row
            element = tirx.BufferLoad(self._buffers[index], zeros)
        pointer = tirx.buffer.buffer_data_pointer_type(view)
        return ir.Call(ir.Op.get("tirx.address_of"), [element], ret_ty=pointer)
