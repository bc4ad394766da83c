"""Picks and applies a schedule for every kernel of a module."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tvmbuild.schedules.finish import finish
from tvmbuild.schedules.kernel import Kernel, analyze
from tvmbuild.schedules.knob import Choice, defaults
from tvmbuild.schedules.library import SCHEDULES
from tvmbuild.schedules.schedule import Schedule
from tvmbuild.schedules.tir.expression_size import result_sizes
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

#: Kind of a kernel that no schedule matched.
NAIVE = "naive"
#: Kind of a chain of kernels that are scheduled already.
STRIPS = "strips"
#: Attributes by which a PrimFunc says that it is scheduled, and what such a chain tells of itself: its
#: multiply-accumulates, one line for people, and the rows of a strip.
IS_SCHEDULED = "tirx.is_scheduled"
MACS, WORKLOAD, ROWS = "tvmbuild.macs", "tvmbuild.workload", "tvmbuild.rows"

#: Largest expression that a schedule may inline, far beyond what fusion leaves (``graph/kernel_size.py``) and the
#: unrolled transforms of Winograd's algorithm (20 thousand): TVM would take minutes, or for ever.
MAX_NODES = 100_000


@dataclass(frozen=True)
class KernelReport:
    """How one kernel was scheduled.

    Attributes:
        name: the PrimFunc's name.
        kind: the schedule ("conv2d.direct"), or "naive" when none matched.
        macs: multiply-accumulates of one call, as the operator is defined.
        workload: shapes and parameters, for people.
        schedule: the choice that was applied, by knob.
        note: why a kernel is naive, or "".
        origin: where the choice came from: "rule", or a tuning record.
    """

    name: str
    kind: str
    macs: int
    workload: str
    schedule: Mapping[str, int] = field(default_factory=dict)
    note: str = ""
    origin: str = "rule"


#: What a mistake in our own code raises; TVM passes on what its callbacks raise, so its mark alone says too little.
_OURS = (TypeError, LookupError, AttributeError, NameError, AssertionError, NotImplementedError, ZeroDivisionError)


def is_scheduled(func: Any) -> bool:
    """Whether a PrimFunc has its schedule already."""
    return func.attrs is not None and IS_SCHEDULED in func.attrs


def find_schedule(kernel: Kernel, target: Target) -> Schedule | None:
    """Return the first schedule that matches a kernel."""
    return next((schedule for schedule in SCHEDULES if schedule.matches(kernel, target)), None)


def is_refusal(error: Exception) -> bool:
    """Whether TVM refuses a schedule of a kernel, rather than our code being wrong.

    Errors that come from TVM's C++ carry its own record of them.
    """
    return hasattr(error, "__tvm_ffi_error__") and not isinstance(error, _OURS)


def schedule_module(
    mod: Any, target: Target, choices: Mapping[str, Choice] | None = None
) -> tuple[Any, tuple[KernelReport, ...]]:
    """Schedule every PrimFunc of a module (imports tvm).

    Args:
        mod: the IRModule after FuseTIR.
        target: the board.
        choices: tuned choices by PrimFunc name, where they differ from the rules'.

    Returns:
        The module with its PrimFuncs scheduled, and a report for each, in the module's order.
    """
    import tvm
    from tvm import tirx

    functions = [(var, func) for var, func in mod.functions_items() if isinstance(func, tirx.PrimFunc)]
    scheduled: dict[Any, Any] = {}
    reports = []
    with stage("schedule kernels", total=len(functions)) as progress:
        for var, func in functions:
            name = str(var.name_hint)
            scheduled[var], report = schedule_function(name, func, target, (choices or {}).get(name))
            reports.append(report)
            progress.advance()
    updated = tvm.IRModule(dict(mod.functions_items()) | scheduled, attrs=mod.attrs)
    return updated, tuple(reports)


def schedule_function(name: str, func: Any, target: Target, choice: Choice | None = None) -> tuple[Any, KernelReport]:
    """Schedule one PrimFunc by the first schedule that matches it, with the rules' defaults unless chosen.

    Returns:
        The PrimFunc (unchanged when nothing matched) and its report.
    """
    import tvm
    from tvm import s_tir

    if is_scheduled(func):
        chosen = {"rows": int(func.attrs[ROWS])}
        return func, KernelReport(name, STRIPS, int(func.attrs[MACS]), str(func.attrs[WORKLOAD]), chosen)
    kernel = analyze(name, func)
    if kernel is None:
        return func, KernelReport(name, NAIVE, 0, "", note="its blocks are opaque, nested or of dynamic extent")
    found = find_schedule(kernel, target)
    if found is None:
        return func, KernelReport(name, NAIVE, kernel.macs, kernel.workload, note="no schedule matches it")
    nodes = max((size.nodes for size in result_sizes(func, {})), default=0)
    if nodes > MAX_NODES:
        note = f"it would compute an element by an expression of {nodes:.3g} operations, so its stages stay apart"
        return func, KernelReport(name, NAIVE, kernel.macs, kernel.workload, note=note)
    values = defaults(found.knobs(kernel, target)) | dict(choice or {})
    loops = s_tir.Schedule(tvm.IRModule({"main": func}))
    try:
        found.apply(loops, kernel, target, values)
    except Exception as error:  # TVM raises errors of many classes; a slow kernel that is named is better than none.
        if not is_refusal(error):
            raise
        note = f"{found.kind} failed: {str(error).strip().splitlines()[-1][:200]}"
        return func, KernelReport(name, NAIVE, kernel.macs, kernel.workload, note=note)
    report = KernelReport(name, found.kind, kernel.macs, kernel.workload, values)
    return finish(loops.mod["main"], target).with_attr(IS_SCHEDULED, True), report
