"""THE table of cores: what is known of each, once.

Schedules choose tiles and algorithms by it, the prediction prices by it, int8 is weighed against float32 by it, and a
board is recognized by it (``native/common/cores.h`` is generated: ``python -m tvmbuild.target.cores``).

Where the figures come from, by column:

- part numbers, ways of the caches, extensions: Arm's Technical Reference Manual of each core;
- issue, multiply-adds, latencies, loads: Arm's Software Optimization Guides of the Cortex-A72 and the Cortex-A76;
  ``load_uops`` of the latter is that of LLVM's Neoverse N1 model, by which the product predicts it. Those of the
  Cortex-A53 and A55 are from LLVM 22's models, but for the A53's latency (10 there; 8 is judgement, as accumulators are
  forwarded);
- ``window``, ``forwarding`` and ``shared_memory_line``: nobody publishes them. They are judgement.
- ``costs``: each row says it. docs/predict.md says how far predictions by them are from published times of real boards.

A row made by ``_like`` takes the figures of a core of the same kind; nothing was looked up or measured for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from tvmbuild.support.place import NATIVE
from tvmbuild.support.precision import Precision

#: LLVM's names of half-precision arithmetic (Armv8.2-A FP16) and of dot products of int8 (Armv8.2-A DotProd).
HALF_PRECISION = Precision.FP16.extension
DOT_PRODUCT = "dotprod"

#: The instruction set extensions beyond ARMv8.0 that kernels use.
EXTENSIONS = (DOT_PRODUCT, HALF_PRECISION)

#: Arm Limited, as implementer in MIDR_EL1.
ARM = 0x41


@dataclass(frozen=True)
class Costs:
    """What a prediction charges on a core. Cycles are of the core; a line has 64 bytes. ``predict/costs.py`` adds up.

    Attributes:
        source: what the figures rest on, in a line; predictions repeat it, docs/predict.md says more.
        mhz: the clock that they are for: at another one memory, which keeps its pace, takes other numbers of cycles.
        compute_factor: cycles that computing takes on a board, for each that llvm-mca simulates.
        pairwise_add: cycles that an instruction that adds pairs of lanes to an accumulator takes beyond what is
            simulated.
        pairwise_add_most: the most that it may be; only the stated error goes by it.
        divide_excess: cycles by which the simulated division of a vector may be too slow; likewise.
        l2_line: cycles that a line from the second level cache adds.
        l3_line: cycles that a line from the third level adds, where the board has one.
        memory_line: cycles that a line read from or written back to memory adds while the other cores rest.
        bus_line: cycles that such a line keeps the memory busy while several cores wait for lines.
        launch_us: microseconds that starting a parallel loop on all cores, and waiting for its end, adds.
        spread: how far one thread's predictions are from published times: root of the mean square of the logarithm of
            the ratio; 0 where none was compared.
        shared_spread: the same for four threads.
    """

    source: str
    mhz: float = 0.0
    compute_factor: float = 1.0
    pairwise_add: float = 0.0
    pairwise_add_most: float = 0.0
    divide_excess: float = 0.0
    l2_line: float = 0.0
    l3_line: float = 0.0
    memory_line: float = 0.0
    bus_line: float = 0.0
    launch_us: float = 0.0
    spread: float = 0.0
    shared_spread: float = 0.0


@dataclass(frozen=True)
class Core:
    """A core as schedules and predictions see it. Cycles are of this core; a line has 64 bytes.

    Attributes:
        name: for people ("Cortex-A72").
        llvm_cpu: LLVM's name, by which code is generated and targets name it ("cortex-a72").
        part: part number in MIDR_EL1 (implementer Arm Limited); 0 for what has none.
        extensions: which of ``EXTENSIONS`` it has.
        in_order: whether the core issues in order: what llvm-mca counts then stands, unless it multiplies too fast.
        issue: micro-operations issued in a cycle.
        fma_per_cycle: vector multiply-adds issued in a cycle.
        fma_latency: cycles until a multiply-add's sum can be added to again.
        loads_per_cycle: vector loads issued in a cycle.
        load_uops: micro-operations of a vector load.
        float32_macs: fp32 multiply-adds a cycle, at best; 0 where nothing is predicted for the core.
        float16_macs: fp16 multiply-adds a cycle, at best; 0 for a core without fp16 arithmetic.
        int8_macs: int8 multiply-adds a cycle, at best; 0 where int8 is not weighed against float32.
        scheduling_model: LLVM's name of the scheduling model that prices its instructions, "" where none was tried.
        window: size of the reorder window, in micro-operations.
        forwarding: cycles from a multiply-add through store, reload and the next multiply-add; the least that an
            iteration takes when an accumulator lives on the stack.
        costs: what a prediction charges for computing and for lines that are moved.
        shared_memory_line: cycles to bring one core a line while the others wait for lines too; schedules go by it
            where ``costs`` has nothing.
        l1_ways: associativity of the first level data cache.
        l2_ways: associativity of the second level cache.
        l2_is_shared: whether all cores share one second level cache.
        l3_ways: associativity of the third level cache, on boards that have one.
    """

    name: str
    llvm_cpu: str
    part: int
    extensions: tuple[str, ...]
    in_order: bool
    issue: int
    fma_per_cycle: float
    fma_latency: int
    loads_per_cycle: float
    load_uops: float
    float32_macs: float
    float16_macs: float
    int8_macs: float
    scheduling_model: str
    window: int
    forwarding: float
    costs: Costs
    shared_memory_line: float
    l1_ways: int
    l2_ways: int
    l2_is_shared: bool
    l3_ways: int

    def macs(self, precision: Precision) -> float:
        """Return the multiply-adds a cycle, at best, of real numbers in a precision."""
        return {"float32": self.float32_macs, "float16": self.float16_macs}[precision.floats]

    @property
    def is_predicted(self) -> bool:
        """Whether there is enough in the row to predict cycles with."""
        return bool(self.scheduling_model)


_A53_COSTS = Costs(
    "fitted to the times that ncnn published for a Raspberry Pi 3B+", 1400,
    l2_line=0, memory_line=15.3, bus_line=28.3, launch_us=2,
    spread=0.055, shared_spread=0.076,
)  # fmt: skip
_A72_COSTS = Costs(
    "fitted to the times that ncnn published for a Raspberry Pi 4", 1800,
    pairwise_add=0.9, pairwise_add_most=1.0, divide_excess=30,
    l2_line=6.2, memory_line=17.3, bus_line=23.5, launch_us=6,
    spread=0.07, shared_spread=0.088,
)  # fmt: skip
_A76_COSTS = Costs(
    "fitted to the times that ncnn published for a Raspberry Pi 5", 2400, compute_factor=0.9,
    l3_line=5, memory_line=7.2, bus_line=14.6, launch_us=2,
    spread=0.065, shared_spread=0.09,
)  # fmt: skip

# In LLVM's own model of the Cortex-A53 nothing may be done before what was issued earlier, so that a load behind a
# multiply-add waits for it. That of its successor, the A55, fits published times of a Raspberry Pi 3 (docs/predict.md).
_A53 = Core(
    "Cortex-A53", "cortex-a53", 0xD03, (), in_order=True,
    issue=2, fma_per_cycle=1, fma_latency=8, loads_per_cycle=1, load_uops=1.0,
    float32_macs=4, float16_macs=0, int8_macs=8, scheduling_model="cortex-a55",
    window=0, forwarding=16,
    costs=_A53_COSTS, shared_memory_line=32,
    l1_ways=4, l2_ways=16, l2_is_shared=True, l3_ways=0,
)  # fmt: skip
_A72 = Core(
    "Cortex-A72", "cortex-a72", 0xD08, (), in_order=False,
    issue=3, fma_per_cycle=1, fma_latency=7, loads_per_cycle=1, load_uops=1.0,
    float32_macs=4, float16_macs=0, int8_macs=8, scheduling_model="cortex-a72",
    window=128, forwarding=12,
    costs=_A72_COSTS, shared_memory_line=32,
    l1_ways=2, l2_ways=16, l2_is_shared=True, l3_ways=0,
)  # fmt: skip
# LLVM prices cortex-a76 with the model of the Cortex-A57. The Neoverse N1 is the A76's server sibling and has a
# scheduling model of its own.
_A76 = Core(
    "Cortex-A76", "cortex-a76", 0xD0B, EXTENSIONS, in_order=False,
    issue=3, fma_per_cycle=2, fma_latency=4, loads_per_cycle=2, load_uops=1.75,
    float32_macs=8, float16_macs=16, int8_macs=32, scheduling_model="neoverse-n1",
    window=128, forwarding=10,
    costs=_A76_COSTS, shared_memory_line=17,
    l1_ways=4, l2_ways=8, l2_is_shared=False, l3_ways=16,
)  # fmt: skip
#: Any x86-64 core with AVX2; chosen by hand, for nothing is predicted there.
_X86_64 = Core(
    "x86-64", "x86-64", 0, (), in_order=False,
    issue=6, fma_per_cycle=2, fma_latency=4, loads_per_cycle=2, load_uops=1.0,
    float32_macs=0, float16_macs=0, int8_macs=0, scheduling_model="",
    window=0, forwarding=0,
    costs=Costs("nothing is predicted"), shared_memory_line=16,
    l1_ways=8, l2_ways=8, l2_is_shared=False, l3_ways=0,
)  # fmt: skip


def _like(core: Core, name: str, part: int) -> Core:
    """Return the row of a core that is scheduled as another one of its kind, and of which nothing is predicted."""
    llvm_cpu = name.lower().replace(" ", "-")
    return replace(core, name=name, llvm_cpu=llvm_cpu, part=part, scheduling_model="")


_ROWS = (
    _A53,
    _like(_A53, "Cortex-A35", 0xD04),
    replace(_like(_A53, "Cortex-A55", 0xD05), extensions=EXTENSIONS, fma_latency=4, int8_macs=0),
    _like(_A72, "Cortex-A57", 0xD07),
    _A72,
    _like(_A72, "Cortex-A73", 0xD09),
    replace(_like(_A72, "Cortex-A75", 0xD0A), extensions=EXTENSIONS, int8_macs=0),
    _A76,
    _like(_A76, "Neoverse N1", 0xD0C),
    _like(_A76, "Cortex-A77", 0xD0D),
    _like(_A76, "Neoverse V1", 0xD40),
    _like(_A76, "Cortex-A78", 0xD41),
)

#: Arm's cores by LLVM's name.
CORES: Mapping[str, Core] = {core.llvm_cpu: core for core in _ROWS}


def known_core(arch: str, cpu: str) -> Core | None:
    """Return the row of a core, or None where the table has none.

    Args:
        arch: machine name as in ``uname -m``.
        cpu: LLVM's name.
    """
    return _X86_64 if arch == "x86_64" else CORES.get(cpu)


def nearest_core(dot_product: bool) -> Core:
    """Return the known core that is nearest to an unknown one of aarch64, by whether it has dot products of int8."""
    return _A76 if dot_product else _A72


def header() -> str:
    """Return the table as the C++ programs on boards include it."""
    rows = "\n".join(f'    {{0x{core.part:03x}, "{core.llvm_cpu}", "{core.name}"}},' for core in _ROWS)
    return (
        "// The cores that are known by name. Generated: python -m tvmbuild.target.cores\n"
        "#ifndef TVMBUILD_COMMON_CORES_H_\n#define TVMBUILD_COMMON_CORES_H_\n\n"
        "struct KnownCore {\n"
        "  unsigned part;         // of Arm Limited, as in MIDR_EL1\n"
        "  const char* llvm_cpu;  // LLVM's name\n"
        "  const char* name;      // for people\n"
        "};\n\n"
        f"constexpr unsigned kArmLimited = 0x{ARM:02x};\n"
        "// clang-format off: one core a line\n"
        f"constexpr KnownCore kKnownCores[] = {{\n{rows}\n}};\n"
        "// clang-format on\n\n"
        "#endif  // TVMBUILD_COMMON_CORES_H_\n"
    )


def main() -> None:
    """Write the header anew."""
    (NATIVE / "common" / "cores.h").write_text(header(), encoding="utf-8")


if __name__ == "__main__":
    main()
