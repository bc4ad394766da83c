"""``tvmbuild tune``: search faster schedules for a model's kernels on a board."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvmbuild.commands.console import Console, Json, Limit, Quiet, Verbose

if TYPE_CHECKING:
    from tvmbuild.tuning.session import TuningSession


def tune(
    model: Annotated[Path, typer.Argument(help="The ONNX file.", metavar="MODEL.onnx")],
    target: Annotated[str | None, typer.Option("-t", "--target", help="Board: a name or a TOML file. [rpi4]")] = None,
    emulate: Annotated[
        bool | None, typer.Option("--emulate/--no-emulate", help="Predict cycles; no board is needed.")
    ] = None,
    tracker: Annotated[str | None, typer.Option(help="TVM tracker of the boards, HOST:PORT.")] = None,
    key: Annotated[str | None, typer.Option(help="Key of the boards at the tracker. [the target's name]")] = None,
    trials: Annotated[int | None, typer.Option(help="Stop after so many trials. [no limit]")] = None,
    time: Annotated[str | None, typer.Option("--time", help="Stop after 90s, 30m, 2h. [no limit]")] = None,
    task: Annotated[
        str | None, typer.Option(help="Only kernels whose name, kind or shape matches, '*winograd*'.")
    ] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the search and of the kernels' inputs. [0]")] = None,
    min_gain: Annotated[
        float | None, typer.Option(help="Stop when the gain still expected is below this share. [0.01]")
    ] = None,
    resume: Annotated[bool | None, typer.Option("--resume", help="Go on with the interrupted run.")] = None,
    records: Annotated[Path | None, typer.Option(help="Folder of tuning records. [tuning_logs]")] = None,
    workers: Annotated[int | None, typer.Option(help="Compiling processes. [one a core]")] = None,
    shape: Annotated[list[str] | None, typer.Option("--shape", help="Input shape, NAME=1,3,224,224.")] = None,
    value: Annotated[list[str] | None, typer.Option("--value", help="Freeze an input, NAME=16000.")] = None,
    fp16: Annotated[bool | None, typer.Option("--fp16/--fp32", help="Tune half precision (rpi5). [fp32]")] = None,
    toolchain: Annotated[str | None, typer.Option(help="'gnu' or 'zig'.")] = None,
    limit: Limit = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Find faster schedules for a model's kernels and keep them as records, which ``build`` then uses.

    The default schedule is measured first and kept unless beaten. Every trial is on the disk the moment that it
    has ended: after Ctrl-C or a kill, --resume goes on and repeats none.

    \b
    Examples:
      tvmbuild tune squeezenet.onnx -t rpi4 --emulate
      tvmbuild tune det.onnx -t host --shape x=1,3,640,640 --time 20m
      tvmbuild tune det.onnx -t rpi4 --tracker 127.0.0.1:9190 --key rpi4 --trials 2000
      tvmbuild tune squeezenet.onnx -t rpi4 --emulate --resume
    """
    from tvmbuild.commands.tune_view import show_result, watching
    from tvmbuild.support.options import TuneOptions
    from tvmbuild.support.resolve import read_project_options, resolve
    from tvmbuild.target.target import load_target

    console = Console(as_json, verbose, quiet)
    flags = {
        "target": target,
        "emulate": emulate,
        "tracker": tracker,
        "key": key,
        "trials": trials,
        "time": time,
        "task": task,
        "seed": seed,
        "min_gain": min_gain,
        "resume": resume,
        "records": records,
        "workers": workers,
        "shape": shape,
        "value": value,
        "fp16": fp16,
        "toolchain": toolchain,
        "limit": limit,
    }
    resolved = resolve(TuneOptions, flags, project=read_project_options(TuneOptions, "tune"))
    board = load_target(resolved.options.target)
    console.text(f"tuning {model} for {board.name}: {board.description}")
    for line in resolved.lines():
        console.text(f"  {line}")
    began = False
    try:
        with watching(console, board) as listener:
            from tvmbuild.tuning.tune import tune as run_tune

            def noting(session: TuningSession) -> None:
                nonlocal began
                began = True
                listener(session)

            result = run_tune(model, board, resolved.options, listener=noting)
    except KeyboardInterrupt:
        if began:
            console.say("every trial so far is kept; the same command with --resume goes on")
        raise
    show_result(console, result, board, model)
