"""What the graph passes did and, where they did nothing, why."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tvmbuild.graph import stored

if TYPE_CHECKING:
    from tvmbuild.schedules.legalize.storage import StoredLayer
    from tvmbuild.schedules.registry import KernelReport


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
class MacShare:
    """Multiply-accumulates of the model's convolutions and matrix products.

    Attributes:
        int8: those of int8 operands.
        total: all of them; 0 where nothing is quantized.
    """

    int8: int = 0
    total: int = 0

    @property
    def share(self) -> float:
        """The part in int8."""
        return self.int8 / self.total if self.total else 0.0


NOT_QUANTIZED = MacShare()


@dataclass(frozen=True)
class StripChain:
    """Kernels that run together, strip by strip.

    Attributes:
        name: the kernel that they are.
        layers: the operators of each ("conv2d+add+relu"), in order.
        rows: rows of the output in a strip.
        policy: what becomes of rows that two strips read: "rolling" (kept) or "recompute".
        kernels: different kernels that strips of these layers need.
    """

    name: str
    layers: tuple[str, ...]
    rows: int
    policy: str
    kernels: int

    def __str__(self) -> str:
        """Return "strips of 2 rows, rolling: conv2d+add, conv2d+relu"."""
        rows = "1 row" if self.rows == 1 else f"{self.rows} rows"
        return f"strips of {rows}, {self.policy}: {', '.join(self.layers)}"


@dataclass(frozen=True)
class StripReport:
    """What runs strip by strip, and what that saves.

    Attributes:
        chains: in order of the model.
        before: bytes of activations that kernels would write to memory and read from there, estimated.
        after: the same with the chains.
    """

    chains: tuple[StripChain, ...] = ()
    before: int = 0
    after: int = 0

    def __str__(self) -> str:
        """Return "12 chains of 41 kernels; DRAM traffic of activations 285 to 31 MB (estimate)"."""
        count, layers = len(self.chains), sum(len(chain.layers) for chain in self.chains)
        moved = f"{self.before / 1e6:.0f} to {self.after / 1e6:.0f} MB"
        chains = f"{count} chain{'' if count == 1 else 's'} of {layers} kernels"
        return f"{chains}; DRAM traffic of activations {moved} (estimate)"


NO_STRIPS = StripReport()


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
        macs: the share of the work in int8.
        strips: what runs strip by strip.
        weights: how the weights of each layer lie in the library, but for layers of chains that run strip by strip;
            empty without a library.
    """

    passes: tuple[PassReport, ...]
    kernels: tuple[FusedKernel, ...]
    unfused: tuple[Kept, ...]
    plan: MemoryPlan
    schedules: tuple[KernelReport, ...] = ()
    macs: MacShare = NOT_QUANTIZED
    strips: StripReport = NO_STRIPS
    weights: tuple[StoredLayer, ...] = ()

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
            "kernels": [
                {
                    "name": kernel.name,
                    "ops": kernel.ops,
                    "calls": kernel.count,
                    "kind": report.kind if report else "",
                    "workload": report.workload if report else "",
                    "macs": report.macs if report else 0,
                    "mac_share": round(share, 6),
                    "schedule": dict(report.schedule) if report else {},
                    "note": report.note if report else "",
                    "origin": report.origin if report else "",
                }
                for kernel, report, share in self.scheduled()
            ],
            "unfused": [asdict(kept) for kept in self.unfused],
            "strips": {**asdict(self.strips), "told": str(self.strips) if self.strips.chains else ""},
            "int8": {**asdict(self.macs), "share": round(self.macs.share, 6)},
            "weights": stored.summary(self.weights),
        }

    def scheduled(self) -> list[tuple[FusedKernel, KernelReport | None, float]]:
        """Return each kernel with its schedule and its share of the model's multiply-accumulates, largest first."""
        reports = {report.name: report for report in self.schedules}
        rows = [(kernel, reports.get(kernel.name)) for kernel in self.kernels]
        costs = [kernel.count * report.macs if report else 0 for kernel, report in rows]
        total = sum(costs) or 1
        shared = [(kernel, report, cost / total) for (kernel, report), cost in zip(rows, costs, strict=True)]
        return sorted(shared, key=lambda row: -row[2])

    def unscheduled(self, *, working: bool = False) -> list[str]:
        """Return a sentence for each kernel without a schedule, with its share of the work where it has one.

        Args:
            working: leave out kernels without multiply-accumulates.
        """
        from tvmbuild.schedules.registry import NAIVE

        return [
            f"{report.name} ({kernel}) has no fast schedule"
            + (f", with {share:.1%} of the multiply-accumulates" if report.macs else "")
            + f": {report.note}"
            for kernel, report, share in self.scheduled()
            if report is not None and report.kind == NAIVE and (report.macs or not working)
        ]

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
        if self.macs.total:
            lines.append(f"{self.macs.share:.1%} of the multiply-accumulates in int8")
        if self.strips.chains:
            lines.append(str(self.strips))
            lines += [f"  {chain}" for chain in self.strips.chains if verbose]
        calls = sum(kernel.count for kernel in self.kernels)
        fused = sum(kernel.count for kernel in self.kernels if len(kernel.ops) > 1)
        lines.append(f"{calls} kernel calls, {fused} of them with fused operators")
        lines += self._kernel_lines(verbose)
        if self.unfused:
            lines.append(f"{len(self.unfused)} element-wise operators stayed kernels of their own")
            lines += _reasons(self.unfused, verbose)
        lines += stored.lines(self.weights, verbose)
        lines.append(f"planned memory {self.plan.arena / 2**20:.1f} MiB (naive {self.plan.naive / 2**20:.1f} MiB)")
        return lines + [f"warning: {text}" for text in self.unscheduled()]

    def _kernel_lines(self, verbose: bool) -> list[str]:
        if verbose:
            return [
                f"  {share:6.1%} {kernel.count} x {kernel}: {report.workload} [{report.kind}, {report.origin}]"
                if report
                else f"  {kernel.count} x {kernel}"
                for kernel, report, share in self.scheduled()
            ]
        kinds: Counter[str] = Counter()
        shares: dict[str, float] = {}
        for kernel, report, share in self.scheduled():
            if report is not None:
                kinds[report.kind] += kernel.count
                shares[report.kind] = shares.get(report.kind, 0.0) + share
        listed = [f"{count} {kind} ({shares[kind]:.0%})" for kind, count in kinds.most_common()]
        lines = [f"  calls by schedule, with their share of the multiply-accumulates: {', '.join(listed)}"]
        return [*lines, *self._origin_lines()] if listed else []

    def _origin_lines(self) -> list[str]:
        """Say how many kernels have their schedule from where, unless all follow the rules."""
        origins = Counter(report.origin for report in self.schedules)
        if set(origins) <= {"rule"}:
            return []
        return [
            f"  {count} kernel{'s' if count > 1 else ''} scheduled by: {origin}"
            for origin, count in origins.most_common()
        ]


def _reasons(places: tuple[Kept, ...], verbose: bool) -> list[str]:
    if verbose:
        return [f"  {place.node}: {place.reason}" for place in places]
    return [f"  {count}: {reason}" for reason, count in Counter(place.reason for place in places).most_common()]
