"""Puts tuning records into a build: the schedule library, with choices from records where there are any."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from tvmbuild import schedules
from tvmbuild.records.board_records import BoardRecords, read_target, usable
from tvmbuild.records.trial import Trial
from tvmbuild.records.workload import workload_key
from tvmbuild.schedules.kernel import analyze
from tvmbuild.schedules.knob import Choice, Knob, defaults
from tvmbuild.schedules.legalize.conv2d_choices import PlanKey, Plans
from tvmbuild.schedules.legalize.storage import Storage
from tvmbuild.schedules.registry import KernelReport, find_schedule, is_scheduled
from tvmbuild.target.target import Target

#: Numbers of ``Conv2dGeometry.numbers()`` that may differ between a shape and the tuned one that it borrows from: the
#: batch and the size of the image.
_FREE = (0, 1, 2)


@dataclass(frozen=True)
class Origin:
    """A choice and where it came from."""

    choice: Choice
    text: str


class TunedSchedules:
    """The schedule library with tuned choices; it is what ``graph.pipeline.optimize`` takes.

    A convolution gets the plan that was best in the records. A kernel that was tuned gets its record's choice, one that
    differs from a tuned one in the image's size alone gets that one's, and all others follow the rules.
    """

    emit_conv2d = staticmethod(schedules.emit_conv2d)
    emit_matmul = staticmethod(schedules.emit_matmul)

    def __init__(self, records: Sequence[BoardRecords], storage: Storage | None = None) -> None:
        """Take the best of each board, the first board's first.

        Args:
            records: of boards.
            storage: what the build wants of its weights; None for float32. With wishes, plans are not the records'.
        """
        self.storage = storage or Storage()
        self._best: dict[str, tuple[Trial, BoardRecords]] = {}
        plans: dict[PlanKey, str] = {}
        for entry in records:
            for trial in entry.best_of_workloads().values():
                self._best.setdefault(trial.workload, (trial, entry))
            plans = entry.plans() | plans
        self.plans: Plans = plans

    def legalize_map(self, target: Target, plans: Plans = MappingProxyType({})) -> Mapping[str, Any]:
        """See ``schedules.legalize_map``; convolutions that have no other plan get those of the records.

        Kernels that are made by given plans are parts of layers: all parts of a layer have its weights as float32.
        """
        return schedules.legalize_map(target, {**self.plans, **plans}, None if plans else self.storage)

    def schedule_module(self, mod: Any, target: Target) -> tuple[Any, tuple[KernelReport, ...]]:
        """See ``schedules.schedule_module``; the reports say where each choice came from."""
        from tvm import tirx

        found = {
            str(var.name_hint): origin
            for var, func in mod.functions_items()
            if isinstance(func, tirx.PrimFunc)
            and not is_scheduled(func)
            and (origin := self.find(func, target)) is not None
        }
        choices = {name: origin.choice for name, origin in found.items()}
        scheduled, reports = schedules.schedule_module(mod, target, choices)
        return scheduled, tuple(
            dataclasses.replace(report, origin=found[report.name].text) if report.name in found else report
            for report in reports
        )

    def find(self, func: Any, target: Target) -> Origin | None:
        """Return the choice for a PrimFunc before scheduling; None when there is no record to go by."""
        kernel = analyze("main", func)
        module = find_schedule(kernel, target) if kernel is not None else None
        if not self._best or module is None or kernel is None:
            return None
        knobs = module.knobs(kernel, target)
        if not knobs:
            return None
        winner = self._best.get(workload_key(func))
        if winner is not None and _fits(winner[0].choice, knobs):
            trial, entry = winner
            word = "predicted" if entry.board.predicted else "measured"
            return Origin(trial.choice, f"{word} record of {entry.folder.name}")
        geometry = kernel.main.summary.geometry if kernel.main is not None else None
        return self._nearest(module.kind, tuple(geometry.numbers()), knobs) if geometry is not None else None

    def _nearest(self, kind: str, operator: tuple[int, ...], knobs: tuple[Knob, ...]) -> Origin | None:
        near = [
            (distance(operator, trial.operator), trial, entry)
            for trial, entry in self._best.values()
            if trial.kind == kind and set(trial.choice) == {knob.name for knob in knobs}
        ]
        best = min(near, key=lambda item: (item[0], item[1].workload), default=None)
        if best is None or math.isinf(best[0]):
            return None
        _, trial, entry = best
        choice = borrowed(trial.choice, knobs)
        return Origin(choice, f"from the near {trial.shape} of {entry.folder.name}")


def tuned_schedules(
    records: Path, target: Target, board: str = "", storage: Storage | None = None
) -> tuple[TunedSchedules, tuple[str, ...]]:
    """Return the schedule library with a target's records, and notes on records that are not used.

    Raises:
        RecordsError: records are damaged, or of several boards of which none is chosen.
    """
    entries, notes = usable(read_target(records, target.name), target, board)
    return TunedSchedules(entries, storage), notes


def distance(one: Sequence[int], other: Sequence[int]) -> float:
    """Return how far two operators are apart: by the logarithms of image sizes; infinite if anything else differs."""
    if len(one) != len(other) or not one:
        return math.inf
    if any(a != b for position, (a, b) in enumerate(zip(one, other, strict=True)) if position not in _FREE):
        return math.inf
    if any(size < 1 for numbers in (one, other) for size in numbers[: len(_FREE)]):
        # A record may say anything.
        return math.inf
    return sum(abs(math.log(one[position] / other[position])) for position in _FREE)


def borrowed(choice: Choice, knobs: Sequence[Knob]) -> Choice:
    """Return another shape's choice for these knobs: where a value is no candidate, the nearest one."""
    return {
        knob.name: min(knob.candidates, key=lambda value: (abs(value - choice[knob.name]), value)) for knob in knobs
    }


def _fits(choice: Choice, knobs: tuple[Knob, ...]) -> bool:
    known = defaults(knobs)
    return set(choice) == set(known) and all(choice[knob.name] in knob.candidates for knob in knobs)
