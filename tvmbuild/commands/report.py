"""``tvmbuild report``: the tuning curve of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tvmbuild.commands.console import Console, Json, Quiet, Verbose


def report(
    model: Annotated[Path, typer.Argument(help="The tuned ONNX file, or its name.", metavar="MODEL")],
    target: Annotated[str, typer.Option("-t", "--target", help="The target it was tuned for.")] = "rpi4",
    board: Annotated[str | None, typer.Option(help="The board, by the start of its name. [the only one]")] = None,
    records: Annotated[Path, typer.Option(help="Folder of tuning records.")] = Path("tuning_logs"),
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Draw into this .svg, .png or .pdf.")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Draw how a model's time fell in its last tuning run.

    Draws with characters; with -o also into a file, for which matplotlib has to be installed (tvmbuild[plot]).

    \b
    Examples:
      tvmbuild report squeezenet.onnx -t rpi4
      tvmbuild report squeezenet -t rpi4 -o curve.svg --json
    """
    from tvmbuild.commands.records import chosen
    from tvmbuild.support.errors import RecordsError
    from tvmbuild.tuning.curve import curve_of, draw_curve, text_curve
    from tvmbuild.tuning.runs import run_path

    console = Console(as_json, verbose, quiet)
    name = model.stem if model.suffix == ".onnx" else model.name
    entries = [entry for entry in chosen(records, target, board) if run_path(entry.folder, name).is_file()]
    if len(entries) != 1:
        there = ", ".join(entry.folder.name for entry in entries)
        raise RecordsError(
            f"{name} was tuned on {len(entries)} boards of {target} in {records}: {there}."
            if entries
            else f"There is no run of {name} on a board of {target} in {records}.",
            "Choose one with --board." if entries else f"Tune it: tvmbuild tune {name}.onnx -t {target}.",
        )
    curve = curve_of(entries[0], name)
    console.result(curve.to_json())
    word = "predicted " if curve.predicted else ""
    best = curve.points[-1][2]
    console.text(f"{name} on {curve.board}")
    for line in text_curve(curve):
        console.text(line)
    console.text(
        f"{word}time of the model: {best * 1e3:.3f} ms, with the default schedules {curve.default * 1e3:.3f} ms "
        f"({1 - best / curve.default:.1%} less)"
    )
    if curve.failures:
        console.text("failed: " + ", ".join(f"{count} {cause}" for cause, count in sorted(curve.failures.items())))
    console.text(f"stopped: {curve.stopped or 'interrupted'}")
    if output is not None:
        draw_curve(curve, output)
        console.text(f"wrote {output}")
