"""Merges, prunes, exports and imports tuning records."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from tvmbuild.artifact.members import Archive, Limits, members
from tvmbuild.records.board_records import BOARD, BoardRecords, read_board, write_board
from tvmbuild.records.database import RECORDS, WORKLOADS, DatabaseImage
from tvmbuild.records.journal import JOURNAL, append_line, drop_torn_line, locked, trial_line
from tvmbuild.records.selection import by_task
from tvmbuild.records.trial import Trial
from tvmbuild.support.atomic.staging import staged, write_whole
from tvmbuild.support.errors import OutputError, RecordsError
from tvmbuild.target.target import Target

#: Files of a board's folder that travel.
_FILES = (BOARD, JOURNAL, WORKLOADS, RECORDS)
#: Seconds to wait for another one that writes to a board's folder.
PATIENCE = 30.0
_MAKE_ONE = "Make one with: tvmbuild records export."
#: Where a file lies in an archive of records: a target's name, a board's name and its own.
_PLACE = re.compile(r"[^./][^/]*/[^./][^/]*/([^/]+)")
#: A hundred boards with far more trials than anyone has made.
_LIMITS = Limits(files=len(_FILES) * 100, bytes=1 << 30)


@dataclass(frozen=True)
class Merged:
    """What a merge did: the board's folder, trials that came in, and those that were there already."""

    folder: Path
    added: int
    known: int


def merge(source: BoardRecords, folder: Path, target: Target) -> Merged:
    """Add the trials of a board to its folder elsewhere.

    Args:
        source: what to add.
        folder: the same board's folder in other records; it need not exist.
        target: the target of both.

    Raises:
        RecordsError: the folder is of another board, damaged, or in use.
    """
    with locked(folder, PATIENCE):
        write_board(folder, source.board)
        drop_torn_line(folder / JOURNAL)
        present = read_board(folder)
        if present.board != source.board:
            raise RecordsError(
                f"{folder} is of another board than {source.folder}, and boards are not mixed.",
                "Merge into another folder.",
            )
        known = {trial.key for trial in present.trials}
        new = [trial for trial in source.trials if trial.key not in known]
        image = DatabaseImage(folder, target)
        image.mend(present.trials)
        functions = DatabaseImage(source.folder, target).functions()
        for trial in new:
            if trial.ok and trial.workload in functions:
                image.add_workload(functions[trial.workload])
            append_line(folder / JOURNAL, trial_line(trial))
            if trial.ok and trial.workload in functions:
                image.add_record(trial)
    return Merged(folder, len(new), len(source.trials) - len(new))


def pruned(entry: BoardRecords) -> list[Trial]:
    """Return the trials worth keeping: each task's default and winner, and what is quarantined."""
    winners = entry.winners()
    kept = []
    for task, trials in by_task(entry.trials).items():
        default = entry.default(task)
        kept += [
            trial for trial in trials if trial is winners.get(task) or trial is default or trial.cause == "quarantined"
        ]
    return kept


def prune(entry: BoardRecords, target: Target) -> int:
    """Rewrite a board's folder with ``pruned``; return how many trials went.

    Raises:
        RecordsError: it is damaged or in use.
    """
    folder = entry.folder
    with locked(folder, PATIENCE):
        # Others may have added trials since it was read.
        present = read_board(folder)
        kept = pruned(present)
        functions = DatabaseImage(folder, target).functions()
        with staged(folder, JOURNAL) as aside:
            for file in (WORKLOADS, RECORDS):
                if (folder / file).is_file():
                    (aside / file).touch()
            image = DatabaseImage(aside, target)
            for trial in kept:
                if trial.ok and trial.workload in functions:
                    image.add_workload(functions[trial.workload])
                    image.add_record(trial)
            (aside / JOURNAL).write_bytes(b"".join(map(trial_line, kept)))
        # Runs refer to trials that are gone.
        for run in folder.glob("run-*.json"):
            run.unlink()
    return len(present.trials) - len(kept)


def export(entries: Sequence[BoardRecords], records: Path, output: Path) -> None:
    """Pack boards' folders into a .tar, whose bytes depend on the records alone.

    Raises:
        OutputError: it cannot be written.
    """
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for entry in sorted(entries, key=lambda entry: str(entry.folder)):
            for name in _FILES:
                path = entry.folder / name
                if path.is_file():
                    content = path.read_bytes()
                    member = tarfile.TarInfo(str(PurePosixPath(*path.relative_to(records).parts)))
                    member.size, member.mode = len(content), 0o644
                    archive.addfile(member, io.BytesIO(content))
    write_whole(output, packed.getvalue())


def unpack(archive: Path, folder: Path) -> None:
    """Unpack what ``export`` wrote.

    Raises:
        RecordsError: it is no such file, damaged, or larger than any real one.
        OutputError: the folder cannot be written.
    """
    packed = Archive(archive, "archive of tuning records", _MAKE_ONE, RecordsError, _LIMITS)
    try:
        for member in members(packed):
            match = _PLACE.fullmatch(member.name)
            if match is None or match[1] not in _FILES:
                raise packed.refused(f"{member.name!r} is no tuning record")
            path = folder / member.name
            path.parent.mkdir(parents=True, exist_ok=True)
            member.write(path)
    except OSError as error:
        raise OutputError(f"{folder} cannot be written: {error.strerror or error}.", "Free some space.") from error
