"""Predict what a library costs on a target's core: run it in QEMU, count its blocks, price them with llvm-mca.

Every figure is predicted. Not modelled: branch mispredictions, the instruction cache, address translation, prefetching
as such, clock changes by heat. See docs/predict.md for how far to trust it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tvmbuild.device.emulated import EmulatedDevice
from tvmbuild.device.protocol import RunRequest, RunResult
from tvmbuild.device.runner import run_with
from tvmbuild.predict.costs import error_band, total
from tvmbuild.predict.kernels import Board, KernelPrediction, Sharing, predict_kernels
from tvmbuild.predict.llvm import find_llvm
from tvmbuild.predict.plugin import plugin_for
from tvmbuild.predict.pricing import PricedBlock, price_profile
from tvmbuild.predict.profile import LINE_BYTES, Block, Profile, read_profile
from tvmbuild.predict.symbols import SymbolMap, read_symbols
from tvmbuild.support.errors import OptionError
from tvmbuild.support.progress import stage
from tvmbuild.target.cores import Core
from tvmbuild.target.target import Target, predicted_core

_TIMEOUT = 3600.0
#: Cores that the plugin models, as in native/qemu_plugin/cache_levels.c.
MOST_THREADS = 16


@dataclass(frozen=True)
class Prediction:
    """Predicted cost of one inference.

    Attributes:
        target: name of the target.
        core: the core that was modelled ("Cortex-A72").
        llvm_version: of llvm-mca, whose models the figures depend on.
        instructions: executed instructions of all threads, exact.
        compute_cycles: simulated cycles of all threads together, without cache misses ("comp").
        estimated_cycles: predicted cycles from start to end, with the lines that are moved ("est").
        milliseconds: ``estimated_cycles`` at the target's highest clock; None when the clock is unknown.
        l1_misses: accesses that missed the modelled first level; None when the caches were not modelled.
        l2_misses: accesses that missed the second level as well; None when the caches were not modelled.
        priced_share: share of the instructions in blocks that were priced; the totals are scaled up by it.
        kernels: costliest first; not scaled.
        threads: threads that the kernels were shared out among.
        read_bytes: read from memory; None when the caches were not modelled.
        written_bytes: written back to memory; None when the caches were not modelled.
        band: least and most milliseconds that a board is expected to take (see ``costs.error_band``); None where no
            board's times were compared, the clock is unknown or the caches were not modelled.
        source: what the charged costs rest on.
    """

    target: str
    core: str
    llvm_version: str
    instructions: int
    compute_cycles: float
    estimated_cycles: float
    milliseconds: float | None
    l1_misses: int | None
    l2_misses: int | None
    priced_share: float
    kernels: tuple[KernelPrediction, ...]
    threads: int = 1
    read_bytes: int | None = None
    written_bytes: int | None = None
    band: tuple[float, float] | None = None
    source: str = ""


def predict(
    library: Path,
    target: Target,
    inputs: Sequence[NDArray[Any]],
    *,
    threads: int = 1,
    caches: bool = True,
    timeout: float = _TIMEOUT,
) -> Prediction:
    """Predict the cost of the second inference (the first one sets things up and warms the modelled caches).

    Args:
        library: the compiled model, with its local symbols.
        target: what it was compiled for; its qemu_cpu runs it and its cpu prices it.
        inputs: arrays in the order of the model's inputs.
        threads: threads that kernels may use. With several, each task of a parallel loop has a core of its own, while
            all compete for the shared caches and for memory.
        caches: model the caches; without, the emulated run is faster and misses cost nothing.
        timeout: of the emulated run, in seconds.

    Raises:
        TargetError: there is no model of the target's core.
        ToolchainError: LLVM, QEMU with plugins, or a compiler is missing.
        ArtifactError: the library is not an ELF file or was stripped.
        DeviceError, InputDataError: the run failed.
    """
    core = predicted_core(target)
    tools = find_llvm()
    symbols = read_symbols(library)
    run = ProfiledRun(library, target, tuple(inputs), threads, caches, timeout)
    with stage("count instructions"):
        profile = run_profiled(run)[0]
    with stage("price instructions"):
        blocks = price_profile(profile, core, tools)
    return summarize(profile, blocks, symbols, run, tools.version)


def check_threads(threads: Sequence[int]) -> None:
    """Check that as many cores can be modelled as threads are asked for.

    Raises:
        OptionError: there are more threads than can be modelled.
    """
    if max(threads) > MOST_THREADS:
        raise OptionError(
            f"{max(threads)} threads cannot be predicted: at most {MOST_THREADS} cores are modelled.",
            "Give fewer with --threads.",
        )


@dataclass(frozen=True)
class ProfiledRun:
    """What to run on the emulated core; ``predict`` says what the fields are.

    Attributes:
        cold: empty the modelled caches before the counted inference, so that nothing is there that only this kernel
            left there.
    """

    library: Path
    target: Target
    inputs: tuple[NDArray[Any], ...]
    threads: int
    caches: bool
    timeout: float
    cold: bool = False


def run_profiled(run: ProfiledRun) -> tuple[Profile, RunResult]:
    """Run a library on the emulated core; return what it executed in the second inference, and what it computed."""
    device = EmulatedDevice(run.target)
    plugin = plugin_for(device.launcher()[0])
    with tempfile.TemporaryDirectory(prefix="tvmbuild-predict-") as folder:
        path = Path(folder) / "profile"
        # QEMU separates a plugin's arguments by commas, and takes two for one of the text.
        arguments = [str(plugin).replace(",", ",,"), f"out={path}".replace(",", ",,")]
        if run.caches:
            arguments += cache_arguments(run.target, predicted_core(run.target))
        launcher = device.launcher("-plugin", ",".join(arguments))
        request = RunRequest(run.library, run.inputs, 1, 1, run.threads, run.timeout, markers=True, cold=run.cold)
        result = run_with(launcher, request, run.target)
        return read_profile(path), result


def cache_arguments(target: Target, core: Core) -> list[str]:
    """Return the plugin's arguments that describe a target's caches."""
    levels = [
        (target.l1d_kib, core.l1_ways, False),
        (target.l2_kib, core.l2_ways, core.l2_is_shared),
        (target.l3_kib, core.l3_ways, True),
    ]
    return [
        f"l{number}={kib * 1024}:{ways}{'' if shared else ':each'}"
        for number, (kib, ways, shared) in enumerate(levels, 1)
        if kib and ways
    ]


def summarize(
    profile: Profile, blocks: Sequence[PricedBlock], symbols: SymbolMap, run: ProfiledRun, llvm_version: str
) -> Prediction:
    """Add up what was priced."""
    own_path = str(run.library.resolve())

    def name_of(block: Block) -> str:
        if block.module == own_path:
            return symbols.function_at(block.offset)
        return f"({Path(block.module).name or 'unknown code'})"

    target, core = run.target, predicted_core(run.target)
    sharings = share_out(profile, name_of, run.threads)
    kernels = predict_kernels(
        blocks,
        Board(core, target.max_mhz),
        lambda block: name_of(block.block.parts[0]),
        lambda name: sharings.get(name, Sharing(run.threads)),
    )
    priced = sum(block.block.executed for block in blocks)
    scale = profile.instructions / priced if priced else 0.0
    estimated = scale * sum(kernel.estimated_cycles for kernel in kernels)
    has_caches = profile.accesses > 0

    def lines(counted: str) -> int | None:
        return sum(getattr(block, counted) for block in profile.blocks) if has_caches else None

    read, written = lines("memory_reads"), lines("memory_writes")
    band = error_band(estimated, total(block.counts for block in blocks), core.costs, run.threads)
    cycles_per_ms = 1000 * target.max_mhz
    return Prediction(
        target=target.name,
        core=core.name,
        llvm_version=llvm_version,
        instructions=profile.instructions,
        compute_cycles=scale * sum(kernel.compute_cycles for kernel in kernels),
        estimated_cycles=estimated,
        milliseconds=estimated / cycles_per_ms if cycles_per_ms else None,
        l1_misses=lines("l1_misses"),
        l2_misses=lines("l2_misses"),
        priced_share=priced / profile.instructions if profile.instructions else 0.0,
        kernels=kernels,
        threads=run.threads,
        read_bytes=None if read is None else LINE_BYTES * read,
        written_bytes=None if written is None else LINE_BYTES * written,
        band=(band[0] / cycles_per_ms, band[1] / cycles_per_ms) if band and cycles_per_ms and has_caches else None,
        source=core.costs.source,
    )


def share_out(profile: Profile, name_of: Callable[[Block], str], threads: int) -> dict[str, Sharing]:
    """Return how each kernel with parallel loops is shared out, by what its tasks executed."""
    names = {block.address: name_of(block) for block in profile.blocks}
    executed: Counter[str] = Counter()
    saved: Counter[str] = Counter()
    launches: Counter[str] = Counter()
    for block in profile.blocks:
        executed[name_of(block)] += block.executed
    for loop in profile.loops:
        name = names.get(loop.body, "")
        saved[name] += loop.instructions - loop.longest
        launches[name] += loop.launches
    return {
        name: Sharing(threads, executed[name] / max(1, executed[name] - saved[name]), count)
        for name, count in launches.items()
    }
