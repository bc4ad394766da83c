"""Put a planned chain together: its tensors, its kernels, and which core calls which on which rows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from tvmbuild.graph.rewriter import Expr, array, dtype_of, shape_of
from tvmbuild.graph.strips.emit import Made, Order, order
from tvmbuild.graph.strips.plan import Link
from tvmbuild.graph.strips.rows import Kept, Piece, Plan, StripRows
from tvmbuild.schedules.strips.chain import Chain, Keep, Operand, Role, Step, Strip, Tensor


def orders_of(plan: Plan, first: int) -> list[Order]:
    """Return the kernels that a plan needs, each once; ``first`` is the number of the chain's first stage."""
    pieces = (piece for strips in plan.cores for strip in strips for piece in strip.pieces)
    return list(dict.fromkeys(order(first + piece.node, piece.rows, piece.reads) for piece in pieces))


def assemble(name: str, link: Link, plan: Plan, made: Mapping[Order, Made], first: int) -> tuple[Chain, list[Expr]]:
    """Return a chain, and its constants in the order of its tensors.

    Args:
        name: of the kernel that it becomes.
        link: its stages.
        plan: its strips.
        made: the kernels of ``orders_of``.
        first: the number of its first stage in the orders.
    """
    assembly = _Assembly(link, plan, made, first)
    cores = tuple(tuple(assembly.strip(strip) for strip in strips) for strips in plan.cores)
    return Chain(name, tuple(assembly.tensors), tuple(assembly.kernels), cores), assembly.constants


class _Assembly:
    def __init__(self, link: Link, plan: Plan, made: Mapping[Order, Made], first: int) -> None:
        self._link, self._made, self._first = link, made, first
        self._inputs = link.rows.inputs
        self.tensors = [Tensor(Role.INPUT, shape_of(var), dtype_of(var)) for var in link.inputs]
        for number, stage in enumerate(link.stages):
            is_last = number == len(link.stages) - 1
            _, height, *rest = shape_of(stage.output)
            rows = height if is_last else plan.scratch[self._inputs + number]
            role = Role.OUTPUT if is_last else Role.SCRATCH
            self.tensors.append(Tensor(role, (1, rows, *rest), dtype_of(stage.output)))
        self.kernels: list[Any] = []
        self.constants: list[Expr] = []
        self._numbers: dict[tuple[str, tuple[int, ...], bytes], int] = {}
        #: By order: its kernel, and of each argument the number of a source, or of a tensor.
        self._known: dict[Order, tuple[int, tuple[tuple[bool, int], ...]]] = {}

    def strip(self, strip: StripRows) -> Strip:
        """Return what a core does for a strip."""
        return Strip(tuple(map(_keep, strip.kept)), tuple(self._step(piece, strip.bases) for piece in strip.pieces))

    def _step(self, piece: Piece, bases: tuple[int, ...]) -> Step:
        kernel, arguments = self._kernel(order(self._first + piece.node, piece.rows, piece.reads))
        reads = self._link.rows.nodes[piece.node].reads
        operands = []
        for is_source, number in arguments:
            tensor = reads[number].tensor if is_source else number
            operands.append(Operand(tensor, piece.reads[number].rows[0] - bases[tensor] if is_source else 0))
        output = self._inputs + piece.node
        return Step(kernel, (*operands, Operand(output, piece.rows[0] - bases[output])))

    def _kernel(self, wanted: Order) -> tuple[int, tuple[tuple[bool, int], ...]]:
        if wanted not in self._known:
            made = self._made[wanted]
            kernel = next((i for i, known in enumerate(self.kernels) if known is made.function), len(self.kernels))
            if kernel == len(self.kernels):
                self.kernels.append(made.function)
            arguments = tuple(
                (True, argument) if isinstance(argument, int) else (False, self._constant(argument))
                for argument in made.arguments
            )
            self._known[wanted] = kernel, arguments
        return self._known[wanted]

    def _constant(self, expr: Expr) -> int:
        """Return the number of a constant; those of equal content are one."""
        value = np.ascontiguousarray(array(expr))
        key = (value.dtype.str, value.shape, hashlib.sha256(value.data).digest())
        if key not in self._numbers:
            self._numbers[key] = len(self.tensors)
            self.tensors.append(Tensor(Role.CONSTANT, value.shape, str(value.dtype)))
            self.constants.append(expr)
        return self._numbers[key]


def _keep(kept: Kept) -> Keep:
    return Keep(kept.tensor, kept.row, kept.rows)
