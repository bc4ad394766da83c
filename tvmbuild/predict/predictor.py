"""Predict what a library costs on a target's core: run it in QEMU, count its blocks, price them with llvm-mca.

Every figure is predicted, for one thread. Not modelled: other cores, their share of cache and memory bandwidth, branch
mispredictions, the instruction cache, address translation, clock changes by heat. See docs/predict.md for how far to
trust it.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from tvmbuild.device.emulated import EmulatedDevice
from tvmbuild.device.protocol import RunResult
from tvmbuild.device.runner import RunRequest, run_with
from tvmbuild.predict.kernels import KernelPrediction, predict_kernels
from tvmbuild.predict.llvm import find_llvm
from tvmbuild.predict.plugin import plugin_for
from tvmbuild.predict.pricing import PricedBlock, price_profile
from tvmbuild.predict.profile import Profile, read_profile
from tvmbuild.predict.symbols import SymbolMap, read_symbols
from tvmbuild.support.progress import stage
from tvmbuild.target.cores import Core
from tvmbuild.target.target import Target, predicted_core

_TIMEOUT = 3600.0


@dataclass(frozen=True)
class Prediction:
    """Predicted cost of one inference on one thread.

    Attributes:
        target: name of the target.
        core: the core that was modelled ("Cortex-A72").
        llvm_version: of llvm-mca, whose models the figures depend on.
        instructions: executed instructions, exact.
        compute_cycles: predicted cycles without cache misses ("comp").
        estimated_cycles: predicted cycles with the lines that missed ("est"); equal to the former without caches.
        milliseconds: ``estimated_cycles`` at the target's highest clock; None when the clock is unknown.
        l1_misses: accesses that missed the modelled first level; None when the caches were not modelled.
        l2_misses: accesses that missed the second level as well; None when the caches were not modelled.
        priced_share: share of the instructions in blocks that were priced; the totals are scaled up by it.
        kernels: costliest first; not scaled.
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


def predict(
    library: Path,
    target: Target,
    inputs: Sequence[NDArray[Any]],
    *,
    caches: bool = True,
    timeout: float = _TIMEOUT,
) -> Prediction:
    """Predict the cost of the second inference (the first one sets things up and warms the modelled caches).

    Args:
        library: the compiled model, with its local symbols.
        target: what it was compiled for; its qemu_cpu runs it and its cpu prices it.
        inputs: arrays in the order of the model's inputs.
        caches: model the two levels of cache; without, the emulated run is faster and misses cost nothing.
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
    profile = record_profile(library, target, inputs, caches=caches, timeout=timeout)
    with stage("price instructions"):
        blocks = price_profile(profile, core, tools)
    return summarize(profile, blocks, symbols, library, target, core, tools.version)


def record_profile(
    library: Path, target: Target, inputs: Sequence[NDArray[Any]], *, caches: bool, timeout: float
) -> Profile:
    """Run a library on the emulated core and return what it executed in one inference; see ``predict``."""
    with stage("count instructions"):
        return run_profiled(library, target, inputs, caches=caches, timeout=timeout)[0]


def run_profiled(
    library: Path, target: Target, inputs: Sequence[NDArray[Any]], *, caches: bool, timeout: float
) -> tuple[Profile, RunResult]:
    """Run a library on the emulated core; return what it executed in the second inference, and what it computed."""
    device = EmulatedDevice(target)
    plugin = plugin_for(device.launcher()[0])
    with tempfile.TemporaryDirectory(prefix="tvmbuild-predict-") as folder:
        path = Path(folder) / "profile"
        # QEMU separates a plugin's arguments by commas, and takes two for one of the text.
        arguments = [str(plugin).replace(",", ",,"), f"out={path}".replace(",", ",,")]
        if caches:
            arguments += cache_arguments(target, predicted_core(target))
        launcher = device.launcher("-plugin", ",".join(arguments))
        request = RunRequest(library, tuple(inputs), 1, 1, 1, timeout, markers=True)
        result = run_with(launcher, request, target)
        return read_profile(path), result


def cache_arguments(target: Target, core: Core) -> list[str]:
    """Return the plugin's arguments that describe a target's caches."""
    return [f"l1={target.l1d_kib * 1024}:{core.l1_ways}", f"l2={target.l2_kib * 1024}:{core.l2_ways}"]


def summarize(
    profile: Profile,
    blocks: Sequence[PricedBlock],
    symbols: SymbolMap,
    library: Path,
    target: Target,
    core: Core,
    llvm_version: str,
) -> Prediction:
    """Add up what was priced."""
    own_path = str(library.resolve())

    def name_of(block: PricedBlock) -> str:
        first = block.block.parts[0]
        if first.module == own_path:
            return symbols.function_at(first.offset)
        return f"({Path(first.module).name or 'unknown code'})"

    priced = sum(block.block.executed for block in blocks)
    scale = profile.instructions / priced if priced else 0.0
    estimated = scale * sum(block.estimated_cycles for block in blocks)
    has_caches = profile.accesses > 0
    return Prediction(
        target=target.name,
        core=core.name,
        llvm_version=llvm_version,
        instructions=profile.instructions,
        compute_cycles=scale * sum(block.compute_cycles for block in blocks),
        estimated_cycles=estimated,
        milliseconds=estimated / (1000 * target.max_mhz) if target.max_mhz else None,
        l1_misses=sum(block.l1_misses for block in profile.blocks) if has_caches else None,
        l2_misses=sum(block.l2_misses for block in profile.blocks) if has_caches else None,
        priced_share=priced / profile.instructions if profile.instructions else 0.0,
        kernels=predict_kernels(blocks, core, name_of),
    )
