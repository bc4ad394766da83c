"""The folder of tuning records: ``<records>/<target>/<board>/``, one folder a board."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.records.fingerprint import BoardIdentity
from tvmbuild.records.journal import JOURNAL, read_journal
from tvmbuild.records.selection import best_trial, by_task
from tvmbuild.records.trial import Trial
from tvmbuild.records.values import parse_object, read_small
from tvmbuild.schedules.legalize.conv2d_choices import PlanKey
from tvmbuild.schedules.library import revision
from tvmbuild.support.atomic.staging import write_whole
from tvmbuild.support.errors import RecordsError
from tvmbuild.target.target import Target

BOARD = "board.json"


@dataclass(frozen=True)
class BoardRecords:
    """What is recorded of one board.

    Attributes:
        folder: where.
        board: the board.
        trials: all trials, in order.
    """

    folder: Path
    board: BoardIdentity
    trials: tuple[Trial, ...]

    def winners(self) -> dict[str, Trial]:
        """Return the best trial of each task."""
        found = {}
        for task, trials in by_task(self.trials).items():
            best = best_trial(trials, predicted=self.board.predicted)
            if best is not None:
                found[task] = best
        return found

    def best_of_workloads(self) -> dict[str, Trial]:
        """Return the best trial of each workload: of a variant that no build uses without a plan, the fastest."""
        groups: dict[str, list[Trial]] = {}
        for trial in self.trials:
            groups.setdefault(trial.workload, []).append(trial)
        found = {key: best_trial(trials, predicted=self.board.predicted) for key, trials in groups.items()}
        return {key: trial for key, trial in found.items() if trial is not None}

    def plans(self) -> dict[PlanKey, str]:
        """Return the best plan of each convolution that was tuned, where that is not the rule's.

        Kernels with the same convolution and different operators fused behind it share its plan: the one with the least
        sum of times over the default's.
        """
        winners = self.winners()
        ratios: dict[PlanKey, dict[str, list[float]]] = {}
        for task, trials in by_task(self.trials).items():
            default, winner = self.default(task), winners.get(task)
            if default is None or winner is None or not winner.operator:
                continue
            best: dict[str, float] = {"": min((t.best for t in trials if t.ok and not t.plan), default=default.best)}
            if winner.plan:
                for trial in trials:
                    best[trial.plan] = min(best.get(trial.plan, trial.best), trial.best)
            for plan, seconds in best.items():
                listed = ratios.setdefault((winner.operator, winner.dtype), {})
                listed.setdefault(plan, []).append(seconds / default.best)
        chosen = {}
        for key, plans in ratios.items():
            tasks = len(plans[""])
            # A plan that a task did not try, or that did not win there, counts as no gain.
            sums = {plan: sum(listed) + (tasks - len(listed)) for plan, listed in plans.items()}
            chosen[key] = min(sums, key=lambda plan: (sums[plan], plan))
        return {key: plan for key, plan in chosen.items() if plan}

    def default(self, task: str) -> Trial | None:
        """Return the trial of a task's default."""
        return next((t for t in reversed(self.trials) if t.task == task and t.is_default and t.ok), None)


def board_folder(records: Path, target: Target, board: BoardIdentity) -> Path:
    """Return where a board's records lie."""
    return records / target.name / board.name


def write_board(folder: Path, board: BoardIdentity) -> None:
    """Write ``board.json`` if it is not there."""
    if not (folder / BOARD).is_file():
        write_whole(folder / BOARD, json.dumps(board.to_json(), indent=2) + "\n")


def read_board(folder: Path) -> BoardRecords:
    """Read one board's folder.

    Raises:
        RecordsError: it has no ``board.json``, or a file is damaged.
    """
    try:
        board = BoardIdentity.from_json(parse_object(read_small(folder / BOARD)))
    except (OSError, ValueError) as error:
        raise RecordsError(
            f"{folder} holds no readable {BOARD}: {error}.", "Delete the folder, or get it anew from where it came."
        ) from error
    return BoardRecords(folder, board, read_journal(folder / JOURNAL))


def read_target(records: Path, target_name: str) -> list[BoardRecords]:
    """Read the folders of all boards of a target, measured ones first.

    Raises:
        RecordsError: a file is damaged.
    """
    folder = records / target_name
    if not folder.is_dir():
        return []
    found = [read_board(path.parent) for path in sorted(folder.glob(f"*/{BOARD}"))]
    return sorted(found, key=lambda entry: (entry.board.predicted, entry.folder.name))


def usable(
    found: Sequence[BoardRecords], target: Target, board: str = ""
) -> tuple[list[BoardRecords], tuple[str, ...]]:
    """Return the records that a build for a target may use, the preferred first, and notes on those that it may not.

    Measured records outrank predicted ones. Records of another core are left out, and stale ones: those of an older
    revision of their schedule, in which a choice meant something else.

    Args:
        found: of ``read_target``.
        target: the board that is built for.
        board: beginning of the name of the board's folder to use; "" for the only one.

    Raises:
        RecordsError: two boards were measured (or predicted in two ways) and none is chosen, or the chosen is missing.
    """
    if board:
        chosen = [entry for entry in found if entry.folder.name.startswith(board)]
        if not chosen:
            names = ", ".join(entry.folder.name for entry in found)
            raise RecordsError(
                f"There are no records of a board '{board}' for {target.name}.",
                f"There are: {names}." if names else "There are none at all: leave --board out, or tune first.",
            )
        found = chosen
    fitting = [entry for entry in found if entry.board.core == target.cpu and entry.trials]
    notes = tuple(
        f"the records of {entry.folder.name} are of another core ({entry.board.core})"
        for entry in found
        if entry.board.core != target.cpu
    )
    for predicted in (False, True):
        same = [entry for entry in fitting if entry.board.predicted == predicted]
        if len(same) > 1:
            names = ", ".join(entry.folder.name for entry in same)
            raise RecordsError(
                f"{target.name} has {'predicted' if predicted else 'measured'} records of {len(same)} boards, "
                f"which are not to be mixed: {names}.",
                "Choose one with --board, merge them with 'tvmbuild records merge', or build with --no-records.",
            )
    stale = tuple(text for entry in fitting if (text := _staleness(entry)))
    current = [_current(entry) for entry in fitting]
    return [entry for entry in current if entry.trials], notes + stale


def _current(entry: BoardRecords) -> BoardRecords:
    """Return the records that were made with the schedules as they are."""
    trials = tuple(trial for trial in entry.trials if trial.revision == revision(trial.kind))
    return entry if len(trials) == len(entry.trials) else dataclasses.replace(entry, trials=trials)


def _staleness(entry: BoardRecords) -> str:
    """Name the records that an older or newer revision of their schedule made; "" where there are none."""
    stale = [trial for trial in entry.trials if trial.revision != revision(trial.kind)]
    if not stale:
        return ""
    kinds = ", ".join(sorted({f"{trial.kind} (revision {trial.revision})" for trial in stale}))
    return (
        f"{len(stale)} of {len(entry.trials)} records of {entry.folder.name} are stale and not used: "
        f"they were made with other revisions of the schedules {kinds}; run 'tvmbuild tune' again"
    )
