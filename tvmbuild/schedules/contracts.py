"""What a compute says of its stages to the schedule, and a schedule of its loops to the rewrites after it.

A compute writes its *contract* on a stage, as annotations of the block; the schedule reads it back. A schedule *marks*
a block or a loop, and a rewrite of ``finish`` takes the mark off. Each kind is a frozen dataclass here, with one
annotation ``tvmbuild.<field>`` for each field that is not None: nothing else knows the keys.

Contracts are part of the PrimFunc that tuning records are found by: another name, type or value of a field makes the
records of its kernels strangers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from tvmbuild.schedules.geometry import Conv2dGeometry

_PREFIX = "tvmbuild."

#: Of a field of numbers that is written as text ("3,7"), and left out where there is none.
_TEXT = {"as_text": True}

_N = TypeVar("_N", bound="Notes")
_M = TypeVar("_M", bound="Mark")


@dataclass(frozen=True)
class Notes:
    """Fields that are kept as annotations of a block or loop."""

    def to_notes(self) -> dict[str, Any]:
        """Return the annotations."""
        notes: dict[str, Any] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.metadata == _TEXT:
                value = ",".join(map(str, value)) or None
            if value is not None:
                notes[_PREFIX + each.name] = _encoded(value)
        return notes

    @classmethod
    def from_notes(cls: type[_N], annotations: Mapping[str, Any]) -> _N:
        """Read the fields off annotations, of which others may stand beside them.

        Raises:
            TypeError: a field without default is not there.
        """
        values = {}
        for name, kind in _kinds(cls).items():
            if _PREFIX + name in annotations:
                values[name] = _decoded(annotations[_PREFIX + name], kind)
        return cls(**values)


def _encoded(value: Any) -> Any:
    if isinstance(value, Conv2dGeometry):
        return value.numbers()
    if isinstance(value, tuple):
        return list(value)
    return int(value) if isinstance(value, bool) else value


def _decoded(value: Any, kind: Any) -> Any:
    if kind is Conv2dGeometry:
        return Conv2dGeometry.from_numbers(value)
    if get_origin(kind) is tuple:
        numbers = str(value).split(",") if isinstance(value, str) else value
        return tuple(int(number) for number in numbers)
    return kind(value)


def _kinds(notes: type[Notes]) -> dict[str, Any]:
    """Return the type of each field, of an optional one the type that it has when it is there."""
    found = {}
    for name, hint in get_type_hints(notes).items():
        options = () if get_origin(hint) is tuple else get_args(hint)
        found[name] = next((option for option in options if option is not type(None)), hint)
    return found


@dataclass(frozen=True)
class Summary(Notes):
    """What the contracts of main stages have in common, each part where the contract has it.

    Attributes:
        kind: of the schedule that the compute is made for ("conv2d.direct"); "" for a stock operator.
        macs: multiply-accumulates by the operator's definition.
        workload: one line for people.
        geometry: the convolution.
    """

    kind: str = ""
    macs: int | None = None
    workload: str = ""
    geometry: Conv2dGeometry | None = None


@dataclass(frozen=True)
class GemmContract(Notes):
    """A product by register tiles: a convolution by its definition, or a matrix product.

    Attributes:
        kind: "conv2d.direct" or "matmul".
        tile: columns and channels of a tile of outputs.
        lane_step: reduction indices unrolled together.
        by_vector: whether each column's inputs of a step are loaded as one vector.
        macs: multiply-accumulates.
        workload: one line for people.
        geometry: the convolution; None for a matrix product.
    """

    kind: str
    tile: tuple[int, int]
    lane_step: int
    by_vector: bool
    macs: int
    workload: str
    geometry: Conv2dGeometry | None = None


@dataclass(frozen=True)
class TransformedContract(Notes):
    """The products of a convolution whose inputs and outputs are transformed.

    Attributes:
        kind: "conv2d.winograd" or "conv2d.strassen".
        tile: columns (tiles of outputs) and channels of a tile of products.
        rows: rows of tiles of outputs, and tiles of a row.
        chunk: rows of tiles that pass all stages together.
        group: blocks of channels that pass products and output transform together.
        channels: output channels at each place of a transformed tile.
        macs: multiply-accumulates by the convolution's definition.
        workload: one line for people.
        geometry: the convolution.
    """

    kind: str
    tile: tuple[int, int]
    rows: tuple[int, int]
    chunk: int
    group: int
    channels: int
    macs: int
    workload: str
    geometry: Conv2dGeometry


@dataclass(frozen=True)
class WinogradContract(TransformedContract):
    """A convolution by Winograd's algorithm.

    Attributes:
        m: rows and columns of a tile of outputs.
    """

    m: int


@dataclass(frozen=True)
class StrassenContract(TransformedContract):
    """A 1x1 convolution by Strassen's algorithm.

    Attributes:
        lanes: channels of a vector, by which the output channels are halved.
    """

    lanes: int


@dataclass(frozen=True)
class DepthwiseContract(Notes):
    """A depthwise convolution.

    Attributes:
        kind: "depthwise".
        geometry: the convolution.
        macs: multiply-accumulates.
        workload: one line for people.
    """

    kind: str
    geometry: Conv2dGeometry
    macs: int
    workload: str


@dataclass(frozen=True)
class Int8DepthwiseContract(DepthwiseContract):
    """A depthwise convolution of int8.

    Attributes:
        pairs: whether two products always fit 16 bits.
    """

    pairs: bool


@dataclass(frozen=True)
class Int8GemmContract(Notes):
    """A convolution or matrix product of int8 by register tiles.

    Attributes:
        kind: "conv2d.int8" or "matmul.int8".
        form: name of the ``Int8Form``.
        tile: positions and channels of a tile of sums.
        vectors: runs for which inputs are loaded as one vector.
        partial: parts of a sum, in lanes of their own.
        macs: multiply-accumulates.
        workload: one line for people.
        window: of an im2col copy, rows of the kernel and elements of a row; None where inputs are read tap by tap.
        groups: groups, and output channels of one; None for a single group.
    """

    kind: str
    form: str
    tile: tuple[int, int]
    vectors: int
    partial: int
    macs: int
    workload: str
    window: tuple[int, int] | None = None
    groups: tuple[int, int] | None = None


@dataclass(frozen=True)
class SumContract(Notes):
    """A stage that adds up what another multiplied.

    Attributes:
        macs: multiply-accumulates of its own: none.
    """

    macs: int = 0


@dataclass(frozen=True)
class Mark(Notes):
    """What a schedule asks of a rewrite, on a block or loop."""

    def put(self, sch: Any, place: Any) -> None:
        """Mark a block or loop of a ``tvm.s_tir.Schedule``."""
        for key, value in self.to_notes().items():
            sch.annotate(place, key, value)

    @classmethod
    def find(cls: type[_M], place: Any) -> _M | None:
        """Return the mark of a ``tirx.For`` or ``s_tir.SBlock``, or None."""
        first = _PREFIX + fields(cls)[0].name
        return cls.from_notes(place.annotations) if first in place.annotations else None

    @classmethod
    def others(cls, place: Any) -> dict[str, Any]:
        """Return the annotations of a loop or block but for the mark's."""
        own = {_PREFIX + each.name for each in fields(cls)}
        return {key: value for key, value in place.annotations.items() if key not in own}


@dataclass(frozen=True)
class VectorMark(Mark):
    """A loop of constant extent to cut into vectors (``tir.vector_loops``).

    Attributes:
        lanes: elements of a vector, a power of two.
        borders: iterations at which no vector may cross.
    """

    lanes: int
    borders: tuple[int, ...] = field(default=(), metadata=_TEXT)


@dataclass(frozen=True)
class ReductionMark(Mark):
    """A loop of a reduction to cut into vectors of partial results (``tir.vector_reduction``).

    Attributes:
        reduce_lanes: partial results of a vector.
    """

    reduce_lanes: int


@dataclass(frozen=True)
class PeelMark(Mark):
    """A loop of which the ends are written out (``tir.border``).

    Attributes:
        peel: iterations at its start and at its end.
    """

    peel: tuple[int, ...] = field(metadata=_TEXT)


@dataclass(frozen=True)
class GuardMark(Mark):
    """A block whose products with padding are skipped (``tir.border``)."""

    guard: bool = True


@dataclass(frozen=True)
class FlatMark(Mark):
    """A block whose parameters are read through flat views (``tir.flat_views``)."""

    flat: bool = True


@dataclass(frozen=True)
class PartsMark(Mark):
    """A reduction loop after each of whose iterations the accumulators go to totals (``gemm.partial_sums``)."""

    parts: bool = True


@dataclass(frozen=True)
class MultiplyMark(Mark):
    """The loop around one step of an integer product (``int8.multiply``).

    Attributes:
        multiply: name of the ``Int8Form``.
    """

    multiply: str


@dataclass(frozen=True)
class LaneSumsMark(Mark):
    """The loop around the lanes whose sums are added up (``int8.multiply``)."""

    lane_sums: bool = True


@dataclass(frozen=True)
class TapsMark(Mark):
    """The loop around the taps of an integer depthwise convolution (``int8.taps``).

    Attributes:
        taps: products that are added up in 16 bits before they are widened.
    """

    taps: int
