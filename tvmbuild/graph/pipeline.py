"""The graph's phases, in order. Each is a list of passes and can dump the module that it leaves."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import tvm
from tvm import relax

from tvmbuild.graph.activations import canonicalize_activations
from tvmbuild.graph.concat_in_place import concat_in_place
from tvmbuild.graph.flatten import flatten
from tvmbuild.graph.fold.batch_norm import fold_batch_norm
from tvmbuild.graph.fold.constant_scales import fold_affine
from tvmbuild.graph.fold.constants import fold_constants
from tvmbuild.graph.fuse import fuse
from tvmbuild.graph.integers.products import IntegerKernels
from tvmbuild.graph.integers.quantize import is_quantized, quantize_graph
from tvmbuild.graph.kernel_operator import legalize_operators
from tvmbuild.graph.layer_norm import recognize_layer_norm
from tvmbuild.graph.layout.nhwc import to_channels_last
from tvmbuild.graph.layout.sink_reshapes import sink_reshapes
from tvmbuild.graph.legalize import fallback_legalizations
from tvmbuild.graph.memory import read_plan
from tvmbuild.graph.report import (
    NO_STRIPS,
    NOT_QUANTIZED,
    FusedKernel,
    GraphReport,
    Kept,
    MacShare,
    MemoryPlan,
    PassReport,
    StripReport,
)
from tvmbuild.graph.rewriter import IRModule
from tvmbuild.graph.simplify import simplify
from tvmbuild.graph.strips.chains import run_in_strips
from tvmbuild.graph.to_float16 import to_float16
from tvmbuild.support import progress
from tvmbuild.support.atomic.staging import write_whole
from tvmbuild.support.precision import Precision
from tvmbuild.support.tvm_log import without_warnings
from tvmbuild.target.target import Target

#: A pass takes a module and returns it changed, with a report where there is something to count.
Pass = Callable[[IRModule], tuple[IRModule, "PassReport | None"]]


class KernelLibrary(IntegerKernels, Protocol):
    """What the graph needs of the schedules: computes for operators, integer products, and loops for kernels."""

    @property
    def plans(self) -> Mapping[Any, str]:
        """Names of convolutions' plans, where they are not the rule's."""

    def legalize_map(self, target: Target, plans: Any = MappingProxyType({})) -> Mapping[str, Any]:
        """Return legalizations by operator name ("relax.nn.conv2d"); ``plans`` go before the library's own."""

    def schedule_module(self, mod: Any, target: Target) -> tuple[Any, Any]:
        """Return the module with scheduled PrimFuncs, and reports."""


@dataclass
class _State:
    """A module on its way through the phases."""

    mod: IRModule
    target: Target
    kernels: KernelLibrary | None
    dump_ir: Path | None
    precision: Precision = Precision.FP32
    strips: bool = False
    passes: tuple[PassReport, ...] = ()
    fused: tuple[FusedKernel, ...] = ()
    unfused: tuple[Kept, ...] = ()
    schedules: tuple[Any, ...] = ()
    macs: MacShare = NOT_QUANTIZED
    chains: StripReport = NO_STRIPS
    phase: int = 0


@without_warnings()
def optimize(
    mod: IRModule,
    target: Target,
    *,
    kernels: KernelLibrary | None = None,
    dump_ir: Path | None = None,
    precision: Precision = Precision.FP32,
    strips: bool = True,
) -> tuple[IRModule, GraphReport]:
    """Simplify, fold, lay out, chain, legalize, fuse and schedule a model.

    Args:
        mod: one function ``main`` of static shapes in NCHW with weights as constants.
        target: the board.
        kernels: computes and schedules; None leaves TVM's computes unscheduled.
        dump_ir: folder for the module after each phase (``01-simplify.py``, ...).
        precision: what real numbers are computed in where that is safe; the target must have its extension.
        strips: whether chains of kernels may run strip by strip where that is predicted to be faster.

    Raises:
        UnsupportedOperatorError: control flow or shapes that depend on data are left.
        OutputError: the dump cannot be written.
    """
    state = _State(mod, target, kernels, dump_ir, precision, strips)
    for name, phase in PHASES.items():
        with progress.stage(f"graph: {name}") as step:
            before = len(state.passes)
            phase(state)
            step.detail = _detail(state, before)
        _dump(state, name)
    plan = plan_memory(state.mod, target)
    report = GraphReport(
        _merged(state.passes), state.fused, state.unfused, plan, state.schedules, state.macs, state.chains
    )
    return state.mod, report


@without_warnings()
def prepare_graph(
    mod: IRModule, target: Target, kernels: KernelLibrary, *, precision: Precision = Precision.FP32
) -> IRModule:
    """Run the phases before legalization; ``make_kernels`` goes on, as often as one likes."""
    state = _State(mod, target, kernels, None, precision)
    for name, phase in PHASES.items():
        if name == _FIRST_OF_KERNELS:
            break
        phase(state)
    return state.mod


@without_warnings()
def make_kernels(mod: IRModule, target: Target, kernels: KernelLibrary) -> IRModule:
    """Legalize and fuse what ``prepare_graph`` returned; nothing is scheduled yet."""
    state = _State(mod, target, kernels, None)
    _legalize(state)
    _fuse(state)
    return state.mod


@without_warnings()
def lower(mod: IRModule, target: Target, *, dump_ir: Path | None = None) -> IRModule:
    """Turn an optimized module into calls of the virtual machine with planned memory, ready for code generation."""
    with progress.stage("graph: lower"):
        mod = _in_order([*planning_passes(), *finalizing_passes()])(_with_target(target), mod)
    _dump(_State(mod, target, None, dump_ir, phase=len(PHASES)), "lower")
    return mod


def plan_memory(mod: IRModule, target: Target) -> MemoryPlan:
    """Return the memory that an optimized module will need."""
    return read_plan(_in_order(planning_passes())(_with_target(target), mod))


def simplify_passes() -> list[Pass]:
    """Straighten the graph and write its operators in canonical form."""
    return [
        flatten,
        fold_constants,
        simplify,
        canonicalize_activations,
        simplify,
        recognize_layer_norm,
        _relax(relax.transform.EliminateCommonSubexpr()),
    ]


def fold_passes() -> list[Pass]:
    """Fold into convolutions and products what the algebra allows."""
    return [fold_batch_norm, fold_affine, fold_constants, simplify]


def planning_passes() -> list[Any]:
    """Return TVM's passes from tensors as values to planned storage."""
    return [
        relax.transform.RewriteDataflowReshape(),
        relax.transform.ToNonDataflow(),
        relax.transform.RemovePurityChecking(),
        relax.transform.CallTIRRewrite(),
        relax.transform.StaticPlanBlockMemory(),
    ]


def finalizing_passes() -> list[Any]:
    """Return TVM's passes from planned storage to calls of the virtual machine."""
    return [
        relax.transform.LowerAllocTensor(),
        relax.transform.KillAfterLastUse(),
        relax.transform.LowerRuntimeBuiltin(),
        relax.transform.ComputePrimValue(),
        relax.transform.VMShapeLower(),
        relax.transform.AttachGlobalSymbol(),
    ]


def _simplify(state: _State) -> None:
    _run(state, simplify_passes())


def _fold(state: _State) -> None:
    _run(state, fold_passes())


def _layout(state: _State) -> None:
    state.mod, reports = to_channels_last(state.mod)
    state.passes += reports
    _run(state, [sink_reshapes, simplify, _relax(relax.transform.EliminateCommonSubexpr())])


def _quantize(state: _State) -> None:
    if state.kernels is not None and is_quantized(state.mod):
        state.mod, report, state.macs = quantize_graph(state.mod, state.kernels, state.target)
        state.passes += (report,)
        _run(state, [fold_constants])


def _precision(state: _State) -> None:
    if state.precision.floats == "float16":
        _run(state, [to_float16, _relax(relax.transform.EliminateCommonSubexpr())])


def _strips(state: _State) -> None:
    library = state.kernels
    if library is None or not state.strips:
        return
    # A strip is one core's, and so is its share of the cache.
    target = replace(state.target, cores=1, l2_kib=max(1, state.target.l2_kib // state.target.cores))

    def make(mod: IRModule, plans: Any) -> tuple[IRModule, tuple[Any, ...]]:
        part = _State(mod, target, library, None)
        _legalize(part, plans)
        _fuse(part)
        return library.schedule_module(part.mod, target)

    state.mod, report, state.chains = run_in_strips(state.mod, state.target, make, library.plans)
    state.passes += (report,)


def _legalize(state: _State, plans: Any = MappingProxyType({})) -> None:
    customized = fallback_legalizations()
    if state.kernels is not None:
        customized.update(state.kernels.legalize_map(state.target, plans))
    with _with_target(state.target):
        # TopK, sorting and cumulative sums have no legalization; this gives them TVM's compute for the target.
        mod = relax.backend.DispatchSortScan()(state.mod)
        mod = legalize_operators(mod, customized)
    state.mod, _ = fold_constants(relax.transform.DeadCodeElimination()(mod))


def _fuse(state: _State) -> None:
    state.mod, state.fused, state.unfused = fuse(state.mod)
    state.mod = relax.transform.DeadCodeElimination()(state.mod)


def _schedule(state: _State) -> None:
    if state.kernels is not None:
        state.mod, reports = state.kernels.schedule_module(state.mod, state.target)
        placed = concat_in_place(state.mod, state.fused, tuple(reports))
        state.mod, state.fused, state.schedules = placed.mod, placed.kernels, placed.schedules
        state.passes += (placed.report,)


#: The order of the work.
PHASES: dict[str, Callable[[_State], None]] = {
    "simplify": _simplify,
    "fold": _fold,
    "layout": _layout,
    "quantize": _quantize,
    "precision": _precision,
    "strips": _strips,
    "legalize": _legalize,
    "fuse": _fuse,
    "schedule": _schedule,
}


#: The first phase that ``prepare_graph`` leaves out.
_FIRST_OF_KERNELS = "strips"


def _run(state: _State, passes: Sequence[Pass]) -> None:
    for apply in passes:
        state.mod, report = apply(state.mod)
        if report is not None:
            state.passes += (report,)


def _merged(reports: Sequence[PassReport]) -> tuple[PassReport, ...]:
    """Add up the reports of passes that ran more than once."""
    merged: dict[str, PassReport] = {}
    for report in reports:
        seen = merged.get(report.name)
        merged[report.name] = (
            report
            if seen is None
            else replace(seen, applied=seen.applied + report.applied, kept=seen.kept + report.kept)
        )
    return tuple(merged.values())


def _detail(state: _State, before: int) -> str:
    if state.fused:
        return f"{len(state.fused)} kernels"
    return ", ".join(str(report) for report in _merged(state.passes[before:]) if report.total)


def _relax(transform: Any) -> Pass:
    return lambda mod: (transform(mod), None)


def _in_order(passes: Sequence[Any]) -> Callable[[Any, IRModule], IRModule]:
    def run(target: Any, mod: IRModule) -> IRModule:
        with target:
            return tvm.transform.Sequential(list(passes))(mod)

    return run


def _with_target(target: Target) -> Any:
    return target.to_tvm()


def _dump(state: _State, name: str) -> None:
    state.phase += 1
    if state.dump_ir is None:
        return
    write_whole(state.dump_ir / f"{state.phase:02}-{name}.py", state.mod.script(), option="--dump-ir")
