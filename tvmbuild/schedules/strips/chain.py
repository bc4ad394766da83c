"""A chain of kernels as a value: its tensors, its kernels for strips, and what each core runs on which rows.

All tensors are NHWC with one image, so that a strip of rows is contiguous memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum
from typing import Any


class Role(Enum):
    """What a tensor of a chain is to the rest of the model."""

    INPUT = "input"
    CONSTANT = "constant"
    SCRATCH = "scratch"
    OUTPUT = "output"


@dataclass(frozen=True)
class Tensor:
    """A tensor that kernels of a chain read or write.

    Attributes:
        role: whose it is; a scratch tensor belongs to one core and holds the rows that one strip needs.
        shape: (1, rows, columns, channels), of an input and an output the whole; of a constant any shape.
        dtype: element type ("float32").
    """

    role: Role
    shape: tuple[int, ...]
    dtype: str

    @property
    def row_elements(self) -> int:
        """Elements of one row."""
        return math.prod(self.shape[2:])


@dataclass(frozen=True)
class Operand:
    """What one parameter of a kernel stands for.

    Attributes:
        tensor: index into ``Chain.tensors``.
        row: the tensor's row that is the parameter's first; 0 for a constant.
    """

    tensor: int
    row: int = 0


@dataclass(frozen=True)
class Step:
    """One call of a kernel.

    Attributes:
        kernel: index into ``Chain.kernels``.
        operands: in the order of the PrimFunc's parameters; the last one is its output.
    """

    kernel: int
    operands: tuple[Operand, ...]


@dataclass(frozen=True)
class Keep:
    """Rows of a scratch tensor that the strip before has made, moved to its start before the steps.

    Attributes:
        tensor: index into ``Chain.tensors``.
        row: where they lie.
        rows: how many.
    """

    tensor: int
    row: int
    rows: int


@dataclass(frozen=True)
class Strip:
    """What one core does for one strip of output rows, in order."""

    keeps: tuple[Keep, ...]
    steps: tuple[Step, ...]


@dataclass(frozen=True)
class Chain:
    """A chain of kernels.

    Attributes:
        name: of the PrimFunc to be.
        tensors: in any order; exactly one is the output.
        kernels: scheduled PrimFuncs that open no threads; their parameters have the shapes of strips.
        cores: the strips of each core, in the order in which they run; none where there are fewer strips than cores.
    """

    name: str
    tensors: tuple[Tensor, ...]
    kernels: tuple[Any, ...]
    cores: tuple[tuple[Strip, ...], ...]

    def indices(self, role: Role) -> tuple[int, ...]:
        """Return the tensors of a role, in order."""
        return tuple(index for index, tensor in enumerate(self.tensors) if tensor.role is role)
