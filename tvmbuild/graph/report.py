"""What the graph passes did and, where they did nothing, why."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Kept:
    """A place that a pass looked at and left as it was."""

    node: str
    reason: str


@dataclass(frozen=True)
class PassReport:
    """The outcome of one pass.

    Attributes:
        name: the pass, as in its file ("fold_batch_norm").
        what: what it counts, for people ("BatchNorm folded").
        applied: places rewritten.
        kept: places left alone, with reasons.
    """

    name: str
    what: str
    applied: int
    kept: tuple[Kept, ...] = ()

    @property
    def total(self) -> int:
        """Places that the pass looked at."""
        return self.applied + len(self.kept)

    def __str__(self) -> str:
        """Return "27 of 27 BatchNorm folded"."""
        return f"{self.applied} of {self.total} {self.what}"


@dataclass(frozen=True)
class FusedKernel:
    """One kernel of the library.

    Attributes:
        name: the PrimFunc's name.
        ops: the operators that it computes, in order ("conv2d", "bias", "relu").
        count: how often the model calls it.
    """

    name: str
    ops: tuple[str, ...]
    count: int

    def __str__(self) -> str:
        """Return "conv2d+bias+relu"."""
        return "+".join(self.ops)


@dataclass(frozen=True)
class MemoryPlan:
    """Memory of one inference besides the inputs, in bytes.

    Attributes:
        arena: intermediate tensors, after those that are never alive together share storage.
        naive: intermediate tensors, each with storage of its own.
        outputs: the results, which the caller keeps.
        constants: weights as they lie in the library.
    """

    arena: int
    naive: int
    outputs: int
    constants: int


@dataclass(frozen=True)
class GraphReport:
    """What became of the model's graph.

    Attributes:
        passes: outcomes of the passes, in order.
        kernels: kernels by first use.
        unfused: element-wise operators that stayed kernels of their own, with reasons.
        plan: planned memory.
        schedules: what the kernel library says of each kernel, as it gave it; empty without a library.
    """

    passes: tuple[PassReport, ...]
    kernels: tuple[FusedKernel, ...]
    unfused: tuple[Kept, ...]
    plan: MemoryPlan
    schedules: tuple[Any, ...] = ()

    def groups(self) -> Counter[str]:
        """Count the calls of each group of fused operators ("conv2d+bias+relu": 20)."""
        counts: Counter[str] = Counter()
        for kernel in self.kernels:
            counts[str(kernel)] += kernel.count
        return counts

    def summary(self) -> dict[str, Any]:
        """Return passes, groups and unfused operators as plain data for the manifest."""
        return {
            "passes": [
                {
                    "name": report.name,
                    "what": report.what,
                    "applied": report.applied,
                    "total": report.total,
                    "kept": [asdict(kept) for kept in report.kept],
                }
                for report in self.passes
                if report.total
            ],
            "groups": dict(self.groups().most_common()),
            "unfused": [asdict(kept) for kept in self.unfused],
        }

    def memory(self) -> dict[str, int]:
        """Return the planned bytes as plain data for the manifest."""
        return asdict(self.plan)

    def lines(self, verbose: bool = False) -> list[str]:
        """Return the report for people; with ``verbose`` each group and each place that was left alone."""
        lines = []
        for report in self.passes:
            if report.total:
                lines.append(str(report))
                lines += _reasons(report.kept, verbose)
        calls = sum(kernel.count for kernel in self.kernels)
        fused = sum(kernel.count for kernel in self.kernels if len(kernel.ops) > 1)
        lines.append(f"{calls} kernel calls, {fused} of them with fused operators")
        if verbose:
            lines += [f"  {count} x {group}" for group, count in self.groups().most_common()]
        if self.unfused:
            lines.append(f"{len(self.unfused)} element-wise operators stayed kernels of their own")
            lines += _reasons(self.unfused, verbose)
        lines.append(f"planned memory {self.plan.arena / 2**20:.1f} MiB (naive {self.plan.naive / 2**20:.1f} MiB)")
        return lines


def _reasons(places: tuple[Kept, ...], verbose: bool) -> list[str]:
    if verbose:
        return [f"  {place.node}: {place.reason}" for place in places]
    return [f"  {count}: {reason}" for reason, count in Counter(place.reason for place in places).most_common()]
