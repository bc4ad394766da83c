"""What a stage costs, alone and in strips: cycles of computing, and lines that pass the memory that all cores share.

A tensor that one kernel makes and the next reads leaves the shared cache when it is large beside it: then it is written
to memory and read again. In a chain it does not, but rows are moved or computed twice, weights come from the
cache once a strip.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from tvmbuild.graph.rewriter import Var, array, dtype_of, is_constant, op_name, shape_of
from tvmbuild.graph.strips.algorithm import algorithm_of
from tvmbuild.graph.strips.stage import Stage, granule_of
from tvmbuild.schedules.cache import LINE, caches
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize.conv2d import geometry_of
from tvmbuild.schedules.legalize.conv2d_choices import Plans
from tvmbuild.schedules.loops import depthwise
from tvmbuild.target.target import Target

#: Bytes that a core copies in a cycle, within the caches.
COPIED = 8.0
#: Cycles of an element-wise operator for one vector.
_VECTOR = 1.5
#: Cycles to copy one value into a padded buffer.
_PAD = 0.6
#: Cycles to call a kernel.
CALL = 200.0


#: Share of the cache for strips: the rest is for what passes by.
_SCRATCH_SHARE = 0.6


@dataclass(frozen=True)
class Memory:
    """The caches of a board as chains see them. Cycles are of a core; a line has 64 bytes.

    Attributes:
        shared: bytes of the last level, which all cores share.
        scratch: bytes that the strips of all cores and what they read may take.
        bus_line: cycles for which a line, read or written back, keeps the memory busy when all cores wait for lines.
        cache_line: cycles by which a line from the second level cache delays a core.
        launch: cycles to start all cores and to wait for the last.
    """

    shared: int
    scratch: int
    bus_line: float
    cache_line: float
    launch: float

    def lines_moved(self, size: int) -> float:
        """Return the lines of a tensor of some bytes that are written to memory; as many are read again.

        Half of a tensor that is half as large as the cache leaves it, for something else passes before it is read.
        """
        share = min(1.0, max(0.0, 2.0 * size / self.shared - 0.5))
        return share * size / LINE


def memory_of(target: Target) -> Memory | None:
    """Return the caches of a board; None where too little is known of them to plan by."""
    size = 1024 * (target.l3_kib or (target.l2_kib if target.core.l2_is_shared else 0))
    c = caches(target)
    if not size or not c.is_known:
        return None
    return Memory(size, int(_SCRATCH_SHARE * size), LINE * c.far / c.cores, LINE * c.near, c.launch / c.cores)


@dataclass(frozen=True)
class Cost:
    """What a stage takes, in cycles of one core and in bytes.

    Attributes:
        row: computing of one row of the output.
        rows: of the whole output.
        weights: bytes of its constants, as they are packed.
        row_bytes: of one row of its output.
        padded_bytes: of one row of the copy of its input with padding; 0 where it makes none.
        temporary: bytes that it needs besides while it runs.
        macs: multiply-accumulates of the layer, by the definition.
        granule: strips begin at multiples of so many rows.
        plan: the name of its plan, "" where there is none to choose.
    """

    row: float
    rows: int
    weights: int
    row_bytes: int
    padded_bytes: int = 0
    temporary: int = 0
    macs: int = 0
    granule: int = 1
    plan: str = ""

    @property
    def alone(self) -> float:
        """Computing of the whole layer."""
        return self.row * self.rows

    @property
    def bytes(self) -> int:
        """Of its whole output."""
        return self.row_bytes * self.rows


def cost_of(stage: Stage, target: Target, plans: Plans = MappingProxyType({})) -> Cost:
    """Return what a stage takes; ``plans`` has names of convolutions' plans where they are not the rule's."""
    _, rows, columns, channels = shape_of(stage.output)
    dtype = dtype_of(stage.output)
    size = int(np.dtype(dtype).itemsize)
    vectors = columns * channels * size * 8 / target.vector_bits
    weights = sum(
        array(argument).nbytes for _, call in stage.bindings for argument in call.args if is_constant(argument)
    )
    name = op_name(stage.head)
    geometry = geometry_of(stage.head) if name == "nn.conv2d" else None
    tail = (len(stage.bindings) - 1) * vectors * _VECTOR
    basic = Cost(tail, rows, weights, columns * channels * size, granule=granule_of(stage))
    if geometry is not None:
        # Behind a convolution the others work on what is in registers.
        return _convolution(replace(basic, row=tail / 2, macs=geometry.macs), stage, geometry, target, plans)
    taps = math.prod(int(extent) for extent in stage.head.attrs.pool_size) if "pool" in name else _VECTOR
    return replace(basic, row=tail + vectors * taps)


def _convolution(basic: Cost, stage: Stage, geometry: Conv2dGeometry, target: Target, plans: Plans) -> Cost:
    """Add what a convolution takes."""
    dtype = dtype_of(stage.head)
    if geometry.is_depthwise:
        return replace(basic, row=basic.row + depthwise.row_cycles(geometry, target, dtype))
    found = algorithm_of(stage.head, geometry, target, plans)
    row, padded = basic.row + found.cycles / basic.rows, 0
    if geometry.kernel != (1, 1) or geometry.is_padded:
        columns = geometry.width + geometry.padding[1] + geometry.padding[3]
        padded = columns * geometry.in_channels * int(np.dtype(dtype).itemsize)
        row += columns * geometry.in_channels * _PAD * geometry.stride[0]
    weights = basic.weights - array(stage.head.args[1]).nbytes + found.weights
    return replace(
        basic,
        row=row,
        weights=weights,
        padded_bytes=padded,
        temporary=found.temporary,
        granule=found.granule,
        plan=found.name,
    )


def bytes_of(var: Var) -> int:
    """Return the bytes of a tensor."""
    return math.prod(shape_of(var)) * int(np.dtype(dtype_of(var)).itemsize)
