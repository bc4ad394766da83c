"""What a PrimFunc computes, read off its blocks once, so that schedules match by structure and not by name.

A fused PrimFunc is a list of stages in order of computation. At most one carries the work (the *main* stage: the
reduction with the largest iteration domain); those before it are its *producers* (padding, input transforms), those
after it its *epilogue* (bias, residual, activation, cast).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from tvmbuild.schedules.contracts import Notes, Summary

_N = TypeVar("_N", bound=Notes)


@dataclass(frozen=True)
class TensorRef:
    """A buffer that a stage reads or writes.

    Attributes:
        name: the buffer's name in the PrimFunc (unique there).
        shape: extents of its axes.
        dtype: element type ("float32").
        parameter: whether it is an argument of the PrimFunc and not an intermediate.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    parameter: bool


@dataclass(frozen=True)
class Stage:
    """One block of a PrimFunc.

    Attributes:
        name: the block's name, unique in the PrimFunc.
        spatial: extents of its data-parallel axes, outermost first.
        reduction: extents of its reduction axes, outermost first; empty for an element-wise or injective stage.
        reads: what it reads, each buffer once.
        writes: what it writes (more than one for tuple reductions such as arg-max).
        elementwise: whether it has no reduction and reads each intermediate exactly where it writes
            (parameters may be read in any way, e.g. broadcast).
        annotations: the block's annotations; those of own computes are read through ``contract``.
    """

    name: str
    spatial: tuple[int, ...]
    reduction: tuple[int, ...]
    reads: tuple[TensorRef, ...]
    writes: tuple[TensorRef, ...]
    elementwise: bool
    annotations: Mapping[str, Any]

    @property
    def is_reduction(self) -> bool:
        """Whether the stage accumulates."""
        return bool(self.reduction)

    @property
    def iterations(self) -> int:
        """Size of the iteration domain."""
        return math.prod(self.spatial) * math.prod(self.reduction)

    @cached_property
    def summary(self) -> Summary:
        """What our own compute says of the stage, whatever its kind."""
        return Summary.from_notes(self.annotations)

    def contract(self, kind: type[_N]) -> _N:
        """Return what our own compute of a kind promises of the stage."""
        return kind.from_notes(self.annotations)


@dataclass(frozen=True)
class Kernel:
    """A PrimFunc as schedules see it.

    Attributes:
        name: its name in the module.
        stages: its blocks in order of computation.
        output: name of the last stage.
    """

    name: str
    stages: tuple[Stage, ...]

    @cached_property
    def main(self) -> Stage | None:
        """The stage that carries the work: the reduction with the largest domain; None when there is none."""
        reductions = [stage for stage in self.stages if stage.is_reduction]
        return max(reductions, key=lambda stage: stage.iterations) if reductions else None

    @property
    def kind(self) -> str:
        """Kind that our own compute gave to the main stage ("conv2d"), or "" for a stock operator."""
        return self.main.summary.kind if self.main else ""

    @property
    def last(self) -> Stage:
        """The stage that writes the output."""
        return self.stages[-1]

    @property
    def producers(self) -> tuple[Stage, ...]:
        """Stages before the main one."""
        return self.stages[: self._main_index]

    @property
    def epilogue(self) -> tuple[Stage, ...]:
        """Stages after the main one."""
        return self.stages[self._main_index + 1 :]

    @property
    def macs(self) -> int:
        """Multiply-accumulates: as our computes note them (padding not counted), else the domains of reductions."""
        total = 0
        for stage in self.stages:
            if stage.is_reduction:
                noted = stage.summary.macs
                total += stage.iterations if noted is None else noted
        return total

    @property
    def workload(self) -> str:
        """One line for people: the main stage's tensors, e.g. ``1x56x56x64,8x3x3x64x8->1x56x56x64 float32``."""
        stage = self.main or self.last
        if stage.summary.workload:
            return stage.summary.workload
        reads = ",".join("x".join(map(str, ref.shape)) for ref in stage.reads)
        writes = ",".join("x".join(map(str, ref.shape)) for ref in stage.writes)
        return f"{reads}->{writes} {stage.writes[0].dtype}"

    @property
    def _main_index(self) -> int:
        return self.stages.index(self.main) if self.main else len(self.stages)


def analyze(name: str, func: Any) -> Kernel | None:
    """Describe a PrimFunc (imports tvm).

    Returns:
        The kernel, or None for one that schedules cannot treat: a dynamic extent, an opaque block, or blocks
        nested in blocks.
    """
    from tvm import s_tir

    schedule = s_tir.Schedule(func)
    try:
        root = schedule.get_sblock("root")
    except s_tir.ScheduleError:
        return None  # Sorting, scans and scatters are loops without blocks.
    names = _names(schedule.get(root).alloc_buffers)
    stages = []
    for block in schedule.get_child_blocks(root):
        stage = _stage(schedule.get(block), names)
        if stage is None or schedule.get_child_blocks(block):
            return None
        stages.append(stage)
    return Kernel(name, tuple(stages)) if stages else None


def _names(buffers: Iterable[Any]) -> dict[Any, str]:
    """Return a name of its own for each intermediate buffer: TVM gives several of a fused kernel the same."""
    names: dict[Any, str] = {}
    counts: Counter[str] = Counter()
    for buffer in buffers:
        name = str(buffer.name)
        # A dot stands in none of TVM's names.
        names[buffer] = f"{name}.{counts[name]}" if counts[name] else name
        counts[name] += 1
    return names


def _stage(block: Any, names: Mapping[Any, str]) -> Stage | None:
    spatial: list[int] = []
    reduction: list[int] = []
    for variable in block.iter_vars:
        extent = _integer(variable.dom.extent)
        if extent is None or variable.iter_type not in (_DATA_PARALLEL, _REDUCTION):
            return None
        (spatial if variable.iter_type == _DATA_PARALLEL else reduction).append(extent)
    reads = _references(block.reads, names)
    writes = _references(block.writes, names)
    if reads is None or not writes:
        return None
    return Stage(
        name=str(block.name_hint),
        spatial=tuple(spatial),
        reduction=tuple(reduction),
        reads=reads,
        writes=writes,
        elementwise=not reduction and _is_elementwise(block, names),
        annotations={str(key): value for key, value in block.annotations.items()},
    )


#: tvm.tirx.IterVar's types.
_DATA_PARALLEL = 0
_REDUCTION = 2


def _references(regions: Any, names: Mapping[Any, str]) -> tuple[TensorRef, ...] | None:
    found: dict[Any, TensorRef] = {}
    for region in regions:
        buffer = region.source
        shape = [_integer(extent) for extent in buffer.shape]
        if any(extent is None for extent in shape):
            return None
        name = names.get(buffer) or str(buffer.name)
        if buffer not in names and name in names.values():
            name += ".parameter"
        sizes = tuple(extent for extent in shape if extent is not None)
        found[buffer] = TensorRef(name, sizes, str(buffer.dtype), parameter=buffer not in names)
    return tuple(found.values())


def _is_elementwise(block: Any, names: Mapping[Any, str]) -> bool:
    import tvm_ffi

    written = block.writes[0]
    for region in block.reads:
        if region.source not in names:
            continue
        if len(region.region) != len(written.region):
            return False
        for read, write, extent in zip(region.region, written.region, written.source.shape, strict=True):
            if _integer(read.extent) != 1:
                return False
            if _integer(extent) != 1 and not tvm_ffi.structural_equal(read.min, write.min):
                return False
    return True


def _integer(expression: Any) -> int | None:
    value = getattr(expression, "value", expression)
    return int(value) if isinstance(value, int) else None
