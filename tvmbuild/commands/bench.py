"""``tvmbuild bench``: time an artifact, or predict its cycles on a board that is not there."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tvmbuild.commands.console import Board, Console, Json, Key, Quiet, Tracker, Verbose, size_text

if TYPE_CHECKING:
    from tvmbuild.artifact.open import Artifact
    from tvmbuild.support.options import BenchOptions

#: Kernels listed without -v.
LISTED = 15
#: Of a number of threads.
DIGITS = 4


def bench(
    artifact: Annotated[
        Path, typer.Argument(help="The .so, .tar or .json of an artifact, or a bundle.", metavar="ARTIFACT")
    ],
    target: Board = "",
    on: Annotated[str | None, typer.Option(help="Device: auto, local, emulated or rpc. [auto]")] = None,
    tracker: Tracker = None,
    key: Key = None,
    predict: Annotated[
        bool,
        typer.Option("--predict", help="Predict cycles and memory traffic on the target's core, kernel by kernel."),
    ] = False,
    against: Annotated[str | None, typer.Option(help="'onnxruntime': time it in turn; needs --model.")] = None,
    model: Annotated[Path | None, typer.Option("--model", help="The ONNX file, for --against.")] = None,
    runs: Annotated[int | None, typer.Option(help="Timed runs in all. [50]")] = None,
    warmup: Annotated[int | None, typer.Option(help="Runs before each round that are not timed. [2]")] = None,
    inputs: Annotated[Path | None, typer.Option(help="Sample inputs: .npz, .npy or an image. [random]")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of the random inputs. [0]")] = None,
    threads: Annotated[
        str | None, typer.Option(help="Threads; with --predict several numbers. [one a core; --predict: 1 and that]")
    ] = None,
    timeout: Annotated[float | None, typer.Option(help="Seconds that a round may take. [600]")] = None,
    as_json: Json = False,
    verbose: Verbose = False,
    quiet: Quiet = False,
) -> None:
    """Time an artifact, or predict its cycles on its target's core.

    An emulated board's time says nothing about a board: there, use --predict.

    \b
    Examples:
      tvmbuild bench dist/det-rpi4.so --predict
      tvmbuild bench dist/det-rpi4.so --predict --threads 1,2,4
      tvmbuild bench dist/det-host.so --against onnxruntime --model det.onnx
    """
    from tvmbuild.support.options import BenchOptions
    from tvmbuild.support.resolve import read_project_file, resolve

    console = Console(as_json, verbose, quiet)
    counts = _counts(threads)
    flags = {
        "on": on,
        "tracker": tracker,
        "key": key,
        "runs": runs,
        "warmup": warmup,
        "inputs": inputs,
        "seed": seed,
        "threads": None if predict else _count(counts),
        "timeout": timeout,
    }
    options = resolve(BenchOptions, flags, project=read_project_file("bench")).options
    other = _reference(against, model)
    opened = _open(artifact, target)
    if predict:
        _predict(console, opened, options, counts)
    else:
        _time(console, opened, options, other)


def _open(path: Path, target: str) -> Artifact:
    from tvmbuild.artifact.open import open_artifact
    from tvmbuild.artifact.relink import with_library
    from tvmbuild.checking.verify import target_of

    opened = open_artifact(path, target)
    return with_library(opened, target_of(opened))


def _reference(against: str | None, model: Path | None) -> Path | None:
    from tvmbuild.support.errors import OptionError
    from tvmbuild.support.suggest import did_you_mean

    if against is None:
        return None
    if against != "onnxruntime":
        raise OptionError(f"'{against}' cannot be timed.", did_you_mean(against, ["onnxruntime"]))
    if model is None or not model.is_file():
        raise OptionError(
            f"--against needs the model; {model or 'none'} is no file.", "Give the ONNX file with --model."
        )
    return model


def _count(counts: tuple[int, ...]) -> int | None:
    """Return the number of threads to time with; None without --threads."""
    from tvmbuild.support.errors import OptionError

    if len(counts) > 1:
        raise OptionError(f"--threads names {len(counts)} numbers.", "Only --predict takes several.")
    return counts[0] if counts else None


def _counts(text: str | None) -> tuple[int, ...]:
    """Return the numbers of threads that --threads names, 0 for one a core; none without it."""
    from tvmbuild.support.errors import OptionError

    if text is None:
        return ()
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdigit() and len(part) <= DIGITS for part in parts):
        raise OptionError(f"--threads takes whole numbers, not '{text}'.", "For example --threads 1,4.")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _predict(console: Console, opened: Artifact, options: BenchOptions, threads: tuple[int, ...]) -> None:
    from tvmbuild.checking.samples import load_samples
    from tvmbuild.checking.verify import target_of
    from tvmbuild.predict.predictor import check_threads, predict
    from tvmbuild.predict.report import prediction_json, prediction_table

    target = target_of(opened)
    threads = tuple(dict.fromkeys(count or target.cores for count in threads or (1, 0)))
    check_threads(threads)
    specs = opened.manifest.inputs
    sample = load_samples(specs, options.inputs, seed=options.seed)[0]
    arrays = [sample[spec.name] for spec in specs]
    with console.stages():
        predictions = [predict(opened.library, target, arrays, threads=count) for count in threads]
    console.result(prediction_json(predictions))
    for prediction in predictions:
        table = prediction_table(prediction, None if console.verbose else LISTED)
        console.text(table.title)
        console.table(table.columns, table.rows)


def _time(console: Console, opened: Artifact, options: BenchOptions, model: Path | None) -> None:
    from tvmbuild.checking.bench import bench as run_bench
    from tvmbuild.checking.verify import target_of
    from tvmbuild.device import open_device

    with console.stages():
        outcome = run_bench(
            opened, open_device(options.on, target_of(opened), tracker=options.tracker, key=options.key), options, model
        )
    console.result(outcome.to_json())
    if not outcome.timed:
        console.text("These are the emulator's times: they say nothing about a board. Use --predict.")
    rows = [
        (t.name, *(f"{t.quantile(share) * 1e3:.2f}" for share in (0.0, 0.5, 0.9, 1.0)), _memory(t.peak_bytes))
        for t in outcome.timings
    ]
    console.table(("program", "min ms", "median", "p90", "max", "peak memory"), rows)
    if outcome.ratio is not None:
        console.text(f"onnxruntime's median time / tvmbuild's: {outcome.ratio:.2f}")
    console.text(f"on {outcome.device}")


def _memory(count: int | None) -> str:
    return "" if count is None else size_text(count)
