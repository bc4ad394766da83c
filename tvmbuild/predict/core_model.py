"""What the prediction assumes of a core beyond LLVM's scheduling model: a table of data.

llvm-mca models pipes, latencies and the width of dispatch, but neither a full reorder window, nor the chain through a
spilled accumulator, nor memory. The figures here stand in for those. They come from public descriptions (Arm's
Cortex-A53, A72 and A76 Technical Reference Manuals and Software Optimization Guides; Raspberry Pi's documentation of
BCM2837, BCM2711 and BCM2712 for the caches) and, where nobody publishes any, from judgement. None was fitted to a board
yet, so predictions rank kernels; they do not time them.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvmbuild.support.errors import TargetError
from tvmbuild.targets.target import Target


@dataclass(frozen=True)
class CoreModel:
    """A core as the prediction sees it.

    Attributes:
        name: the core, for reports ("Cortex-A76").
        llvm_cpu: LLVM's name of the scheduling model that prices its instructions.
        in_order: whether the core issues in order; llvm-mca's own count of cycles then stands as it is.
        window: size of the reorder window, in micro-operations (assumed).
        forwarding: cycles from a multiply-add through store, reload and the next multiply-add; the least that an
            iteration takes when an accumulator lives on the stack (assumed).
        l2_line: cycles to bring a 64-byte line from the second level cache, as bandwidth (assumed).
        memory_line: cycles to bring a 64-byte line from memory, as bandwidth of one core (assumed).
        l1_ways: associativity of the first level data cache.
        l2_ways: associativity of the second level cache.
        float32_macs: fp32 multiply-adds a cycle, at best.
        float16_macs: fp16 multiply-adds a cycle, at best; 0 for a core without fp16 arithmetic.
        int8_macs: int8 multiply-adds a cycle, at best.
    """

    name: str
    llvm_cpu: str
    in_order: bool
    window: int
    forwarding: float
    l2_line: float
    memory_line: float
    l1_ways: int
    l2_ways: int
    float32_macs: float
    float16_macs: float
    int8_macs: float


_MODELS = {
    "cortex-a53": CoreModel("Cortex-A53", "cortex-a53", True, 0, 16, 12, 40, 4, 16, 4, 0, 8),
    "cortex-a72": CoreModel("Cortex-A72", "cortex-a72", False, 128, 12, 8, 24, 2, 16, 4, 0, 8),
    # LLVM prices cortex-a76 with the model of the Cortex-A57. The Neoverse N1 is the A76's server sibling and has a
    # scheduling model of its own.
    "cortex-a76": CoreModel("Cortex-A76", "neoverse-n1", False, 128, 10, 4, 13, 4, 8, 8, 16, 32),
}


def core_model(target: Target) -> CoreModel:
    """Return the model of a target's core.

    Raises:
        TargetError: there is none.
    """
    model = _MODELS.get(target.cpu) if target.arch == "aarch64" else None
    if model is None:
        raise TargetError(
            f"There is no model of {target.cpu} ({target.name}) to predict with.",
            f"Cores with a model: {', '.join(sorted(_MODELS))}.",
        )
    return model
