"""Adds up priced blocks by kernel, and finds each kernel's hot loop."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from tvmbuild.predict.costs import Counts, one_thread_cycles, shared_cycles, total
from tvmbuild.predict.instructions import branch_displacement, multiply_add_bound, spilled_accumulators
from tvmbuild.predict.pricing import PricedBlock
from tvmbuild.predict.profile import INSTRUCTION_BYTES, LINE_BYTES
from tvmbuild.target.cores import Core


@dataclass(frozen=True)
class HotLoop:
    """The innermost loop of a kernel that takes the most cycles; all figures are per iteration and predicted.

    Attributes:
        instructions: executed instructions.
        cycles: predicted cycles, without cache misses.
        multiply_adds: multiply-add instructions.
        bound_share: the cycles that the multiply-adds need at the core's best rate, of ``cycles``; 1.0 is the limit.
        spills: accumulators that it keeps on the stack.
        kernel_share: its share of the kernel's predicted cycles.
        assembly: its instructions, by address.
    """

    instructions: float
    cycles: float
    multiply_adds: float
    bound_share: float
    spills: int
    kernel_share: float
    assembly: tuple[str, ...]


@dataclass(frozen=True)
class Sharing:
    """How a kernel's work is shared out among threads.

    Attributes:
        threads: threads that there are.
        speedup: by what its computing is divided: what it executes, over what its longest tasks and all that is outside
            of its parallel loops execute; 1.0 for a kernel without parallel loops.
        launches: parallel loops that it starts in one inference.
    """

    threads: int = 1
    speedup: float = 1.0
    launches: int = 0


@dataclass(frozen=True)
class KernelPrediction:
    """What one PrimFunc (or code outside the library) is predicted to cost in one inference.

    Attributes:
        name: the PrimFunc, or the file name of a library that was called, in brackets ("(libm.so.6)").
        instructions: executed instructions, of all threads.
        compute_cycles: simulated cycles of all threads together, without cache misses.
        estimated_cycles: predicted cycles from start to end, with the lines that are moved, on all threads that there
            are.
        share: of the whole inference's estimated cycles.
        hot_loop: None when the kernel has no loop that was executed enough to be priced.
        read_bytes: read from memory; 0 without cache model.
        written_bytes: written back to memory.
        sharing: among threads.
    """

    name: str
    instructions: int
    compute_cycles: float
    estimated_cycles: float
    share: float
    hot_loop: HotLoop | None
    read_bytes: int = 0
    written_bytes: int = 0
    sharing: Sharing = Sharing()


@dataclass(frozen=True)
class Board:
    """What kernels are predicted for: a core, and its clock in MHz (0 when unknown)."""

    core: Core
    mhz: float = 0.0


def predict_kernels(
    blocks: Sequence[PricedBlock],
    board: Board,
    name_of: Callable[[PricedBlock], str],
    sharing_of: Callable[[str], Sharing] = lambda _: Sharing(),
) -> tuple[KernelPrediction, ...]:
    """Add up blocks by kernel, costliest first.

    Args:
        blocks: everything that was priced.
        board: what they were priced for.
        name_of: the kernel of a block.
        sharing_of: how the kernel of a name is shared out.
    """
    by_kernel: dict[str, list[PricedBlock]] = {}
    for block in blocks:
        by_kernel.setdefault(name_of(block), []).append(block)
    counts = {name: total(block.counts for block in part) for name, part in by_kernel.items()}
    cycles = {name: kernel_cycles(of_kernel, board, sharing_of(name)) for name, of_kernel in counts.items()}
    whole = sum(cycles.values())
    kernels = [
        KernelPrediction(
            name=name,
            instructions=sum(block.block.executed for block in part),
            compute_cycles=counts[name].compute_cycles,
            estimated_cycles=cycles[name],
            share=cycles[name] / whole if whole else 0.0,
            hot_loop=hot_loop(part, board.core),
            read_bytes=LINE_BYTES * round(counts[name].memory_reads),
            written_bytes=LINE_BYTES * round(counts[name].memory_writes),
            sharing=sharing_of(name),
        )
        for name, part in by_kernel.items()
    ]
    return tuple(sorted(kernels, key=lambda kernel: (-kernel.estimated_cycles, kernel.name)))


def kernel_cycles(counts: Counts, board: Board, sharing: Sharing) -> float:
    """Return the cycles that a kernel takes from its start to its end."""
    costs = board.core.costs
    if sharing.threads == 1:
        return one_thread_cycles(counts, costs, board.mhz)
    return shared_cycles(counts, costs, speedup=sharing.speedup, launches=sharing.launches, mhz=board.mhz)


def hot_loop(blocks: Sequence[PricedBlock], core: Core) -> HotLoop | None:
    """Return the innermost loop with the most predicted cycles among a kernel's blocks."""
    best: tuple[float, int, list[PricedBlock]] | None = None
    for start, end in _innermost(_loops(blocks)):
        body = sorted(
            (block for block in blocks if start <= block.block.parts[0].address < end),
            key=lambda block: block.block.parts[0].address,
        )
        iterations = sum(block.block.count for block in body if _has_part_at(block, start))
        cycles = sum(block.counts.compute_cycles for block in body)
        if iterations and (best is None or cycles > best[0]):
            best = cycles, iterations, body
    return None if best is None else _describe(*best, sum(block.counts.compute_cycles for block in blocks), core)


def _loops(blocks: Iterable[PricedBlock]) -> set[tuple[int, int]]:
    """Return the address range of each loop: from where a branch goes back to, to behind the branch."""
    loops = set()
    for block in blocks:
        texts = dict(zip(block.block.words, block.body, strict=False)) if _is_whole(block) else {}
        for part in block.block.parts:
            displacement = branch_displacement(texts.get(part.words[-1], ""))
            if displacement is not None and displacement < 0:
                loops.add((part.end - INSTRUCTION_BYTES + displacement, part.end))
    return loops


def _is_whole(block: PricedBlock) -> bool:
    """Whether every instruction has its text, so that the two match one to one."""
    return len(block.block.words) == len(block.body)


def _innermost(loops: set[tuple[int, int]]) -> list[tuple[int, int]]:
    """Drop the loops that contain another."""
    return [
        outer
        for outer in sorted(loops)
        if not any(outer != inner and outer[0] <= inner[0] and inner[1] <= outer[1] for inner in loops)
    ]


def _has_part_at(block: PricedBlock, address: int) -> bool:
    return any(part.address == address for part in block.block.parts)


def _describe(
    cycles: float, iterations: int, body: list[PricedBlock], kernel_cycles: float, core: Core
) -> HotLoop:  # fmt: skip
    bounds = [(block.block.count, *multiply_add_bound(list(block.body), core)) for block in body]
    assembly = [text for block in body for text in block.body]
    return HotLoop(
        instructions=sum(block.block.executed for block in body) / iterations,
        cycles=cycles / iterations,
        multiply_adds=sum(count * number for count, number, _ in bounds) / iterations,
        bound_share=sum(count * bound for count, _, bound in bounds) / cycles if cycles else 0.0,
        spills=spilled_accumulators(assembly),
        kernel_share=cycles / kernel_cycles if kernel_cycles else 0.0,
        assembly=tuple(assembly),
    )
