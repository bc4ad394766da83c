"""``tvmbuild records``: look at tuning records, and move them about."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tvmbuild.commands.console import Console, Json, Quiet, Verbose

if TYPE_CHECKING:
    from tvmbuild.records.board_records import BoardRecords

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Records = Annotated[Path, typer.Option(help="Folder of tuning records.")]
TargetName = Annotated[str | None, typer.Option("-t", "--target", help="Of this target alone. [all]")]
BoardName = Annotated[str | None, typer.Option(help="Of this board alone, by the start of its name. [all]")]
FOLDER = Path("tuning_logs")


@app.callback()
def root() -> None:
    """List, merge, prune, export and import tuning records.

    \b
    Examples:
      tvmbuild records list -t rpi4 -v
      tvmbuild records merge ../other/tuning_logs
      tvmbuild records export -t rpi4 -o rpi4-records.tar
    """


@app.command("list")
def list_records(
    target: TargetName = None,
    board: BoardName = None,
    records: Records = FOLDER,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Show what is recorded of which board; with -v each kernel.

    \b
    Examples:
      tvmbuild records list
      tvmbuild records list -t rpi4 -v
    """
    console = Console(as_json, verbose, quiet)
    entries = chosen(records, target, board)
    console.result([_described(entry) for entry in entries])
    for entry in entries:
        found = _described(entry)
        console.text(f"{entry.folder}: {entry.board.about}")
        console.text(
            f"  {found['trials']} trials of {len(found['tasks'])} kernels, {found['failed']} failed; "
            f"{sum(task['gain'] > 0 for task in found['tasks'])} kernels faster than by default"
        )
        if verbose:
            rows = [
                (task["shape"], task["kind"], f"{task['seconds'] * 1e6:.1f}", f"{task['gain']:.1%}", _choice(task))
                for task in found["tasks"]
            ]
            console.table(("kernel", "schedule", "us", "gain", "choice"), rows, indent="  ")
    if not entries:
        console.text(_none(records, target))


@app.command()
def merge(
    source: Annotated[Path, typer.Argument(help="Another folder of tuning records.")],
    records: Records = FOLDER,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Add another folder's records; each board keeps a folder of its own, and no trial is doubled.

    \b
    Examples:
      tvmbuild records merge ../other/tuning_logs
      tvmbuild records merge /mnt/lab/tuning_logs --records tuning_logs
    """
    _merge(Console(as_json, verbose, quiet), source, records)


@app.command()
def prune(
    target: TargetName = None,
    board: BoardName = None,
    records: Records = FOLDER,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Keep each kernel's default and winner, and what is quarantined; drop all other trials.

    \b
    Examples:
      tvmbuild records prune -t rpi4
    """
    from tvmbuild.records.maintenance import prune as prune_board
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    dropped = {
        str(entry.folder): prune_board(entry, load_target(entry.folder.parent.name))
        for entry in chosen(records, target, board)
    }
    console.result(dropped)
    for folder, count in dropped.items():
        console.text(f"{folder}: {count} trials dropped")
    if not dropped:
        console.text(_none(records, target))


@app.command()
def export(
    output: Annotated[Path, typer.Option("-o", "--output", help="The .tar to write.")],
    target: TargetName = None,
    board: BoardName = None,
    records: Records = FOLDER,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Pack records into one file.

    \b
    Examples:
      tvmbuild records export -t rpi4 -o rpi4-records.tar
    """
    from tvmbuild.records.maintenance import export as export_boards
    from tvmbuild.support.errors import RecordsError

    console = Console(as_json, verbose, quiet)
    entries = chosen(records, target, board)
    if not entries:
        raise RecordsError(f"There is nothing to export in {records}.", "See: tvmbuild records list.")
    export_boards(entries, records, output)
    console.result({"output": output, "boards": [entry.folder.name for entry in entries]})
    console.text(f"wrote {output}: {len(entries)} boards")


@app.command("import")
def import_records(
    archive: Annotated[Path, typer.Argument(help="A .tar of 'tvmbuild records export'.")],
    records: Records = FOLDER,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Add the records of a file that ``export`` wrote.

    \b
    Examples:
      tvmbuild records import rpi4-records.tar
    """
    import tempfile

    from tvmbuild.records.maintenance import unpack

    with tempfile.TemporaryDirectory(prefix="tvmbuild-import-") as name:
        unpack(archive, Path(name))
        _merge(Console(as_json, verbose, quiet), Path(name), records)


def chosen(records: Path, target: str | None, board: str | None) -> list[BoardRecords]:
    """Return the boards' records that the options name.

    Raises:
        RecordsError: some are damaged, or a board is named that is not there.
    """
    from tvmbuild.records.board_records import read_target
    from tvmbuild.support.errors import RecordsError

    names = [target] if target else sorted(path.name for path in records.glob("*") if path.is_dir())
    entries = [entry for name in names for entry in read_target(records, name)]
    if board is None:
        return entries
    matching = [entry for entry in entries if entry.folder.name.startswith(board)]
    if not matching:
        there = ", ".join(entry.folder.name for entry in entries)
        raise RecordsError(
            f"There are no records of a board '{board}' in {records}.",
            f"There are: {there}." if there else "There are none at all: name another folder with --records.",
        )
    return matching


def _none(records: Path, target: str | None) -> str:
    """Say that there are no records, and of which other targets there are."""
    others = sorted({path.parent.parent.name for path in records.glob("*/*/board.json")})
    if target is None or not others:
        return f"no records in {records}"
    return f"no records of {target} in {records}; there are some of {', '.join(others)}"


def _merge(console: Console, source: Path, records: Path) -> None:
    from tvmbuild.records.maintenance import merge as merge_boards
    from tvmbuild.support.errors import RecordsError
    from tvmbuild.target.target import load_target

    entries = chosen(source, None, None)
    if not entries:
        raise RecordsError(f"There are no tuning records in {source}.", "Name a folder as 'tvmbuild tune' writes it.")
    merged = [
        merge_boards(
            entry, records / entry.folder.parent.name / entry.folder.name, load_target(entry.folder.parent.name)
        )
        for entry in entries
    ]
    console.result(merged)
    for one in merged:
        console.text(f"{one.folder}: {one.added} trials added, {one.known} known already")


def _described(entry: BoardRecords) -> dict[str, Any]:
    tasks = []
    for key, trial in entry.winners().items():
        default = entry.default(key)
        gain = 1.0 - trial.best / default.best if default is not None else 0.0
        tasks.append(
            {
                "workload": trial.workload,
                "shape": trial.shape,
                "kind": trial.kind,
                "seconds": trial.best,
                "spread": trial.spread,
                "gain": gain,
                "choice": dict(trial.choice),
            }
        )
    return {
        "folder": entry.folder,
        "board": entry.board.to_json(),
        "trials": len(entry.trials),
        "failed": sum(not trial.ok for trial in entry.trials),
        "tasks": tasks,
    }


def _choice(task: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in task["choice"].items())
