#!/usr/bin/env python3
"""Tune models for this machine and write the tables of docs/tuning.md: ``make bench-tune``.

Each model is built with the default schedules, tuned for ``--time`` (20 minutes), built again with the records, and
both libraries are timed in turn with ONNX Runtime. Then the trials a minute of TVM's stock LocalBuilder and LocalRunner
are taken on the same candidates. Let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import numpy as np

from benchmarks import page, store
from benchmarks.kernels import machine
from benchmarks.models import BenchModel, model
from tvmbuild.artifact.open import Artifact, open_artifact
from tvmbuild.checking.bench import ROUNDS
from tvmbuild.checking.onnxruntime_timing import time_onnxruntime
from tvmbuild.checking.samples import load_samples
from tvmbuild.checking.verify import frozen_values
from tvmbuild.commands.console import Console
from tvmbuild.commands.tune_view import watching
from tvmbuild.device.local import LocalDevice
from tvmbuild.device.protocol import RunRequest
from tvmbuild.pipeline import build
from tvmbuild.records.database import scheduled
from tvmbuild.records.workload import workload_module
from tvmbuild.support.errors import TvmbuildError
from tvmbuild.support.options import BuildOptions, TuneOptions
from tvmbuild.support.versions import package_versions
from tvmbuild.target.target import Target, load_target
from tvmbuild.tuning.extract import extract_tasks
from tvmbuild.tuning.tune import tune

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
RESULTS = BUILD / "bench-tune"
PAGE = TOP / "docs" / "tuning.md"
MARKERS = ("<!-- bench-tune: start; written by `make bench-tune`, do not edit -->", "<!-- bench-tune: end -->")
MODELS = ("squeezenet", "ch_PP-OCRv4_det_infer")
#: Timed runs of each program, in all.
RUNS = 100
#: Candidates that the stock builder and runner get in one round, and rounds.
STOCK_BATCH, STOCK_ROUNDS = 16, 2


def measure(subject: BenchModel, target: Target, duration: str, console: Console, *, resume: bool) -> store.Result:
    """Build, tune, build again and time."""
    records = RESULTS / "records"
    default = _built(subject, target, None)
    options = TuneOptions(
        target.name,
        shape=subject.shapes,
        value=subject.values,
        time=duration,
        # The time asked for is used up.
        min_gain=0.0,
        records=records,
        resume=resume,
    )
    with watching(console, target) as listener:
        run = tune(subject.path, target, options, listener=listener)
    tuned = _built(subject, target, records)
    session = run.session
    return {
        **_timed(subject, target, {"default": default, "tuned": tuned}),
        "trials": session.done,
        "minutes": session.elapsed / 60,
        "stopped": run.reason,
        "versions": package_versions(),
    }


def _built(subject: BenchModel, target: Target, records: Path | None) -> Artifact:
    name = f"{subject.name}-{'tuned' if records else 'default'}"
    options = BuildOptions(
        shape=subject.shapes,
        value=subject.values,
        output=RESULTS,
        name=name,
        records=records or RESULTS,
        use_records=records is not None,
    )
    return open_artifact(build(subject.path, target, options).folder / f"{name}.json")


def _timed(subject: BenchModel, target: Target, artifacts: dict[str, Artifact]) -> store.Result:
    """Time the artifacts and ONNX Runtime in turn; medians in ms."""
    device = LocalDevice(target)
    manifest = artifacts["default"].manifest
    sample = load_samples(manifest.inputs, None)[0]
    feeds = {**sample, **frozen_values(artifacts["default"])}
    inputs = [sample[spec.name] for spec in manifest.inputs]
    seconds: dict[str, list[float]] = {name: [] for name in (*artifacts, "onnxruntime")}
    for _ in range(ROUNDS):
        for name, artifact in artifacts.items():
            result = device.run(
                RunRequest(artifact.library, inputs, repeat=RUNS // ROUNDS, warmup=3, threads=target.cores, timeout=600)
            )
            seconds[name] += result.seconds
        other = time_onnxruntime(subject.path, feeds, runs=RUNS // ROUNDS, warmup=3, threads=target.cores, timeout=600)
        seconds["onnxruntime"] += other.seconds
    return {f"{name}_ms": float(np.median(values)) * 1e3 for name, values in seconds.items()}


def stock_rate(subject: BenchModel, target: Target) -> store.Result:
    """Return trials a minute of TVM's LocalBuilder and LocalRunner on the model's largest convolution with choices."""
    from tvm.s_tir.meta_schedule.arg_info import ArgInfo
    from tvm.s_tir.meta_schedule.builder import BuilderInput, LocalBuilder
    from tvm.s_tir.meta_schedule.runner import EvaluatorConfig, LocalRunner, RunnerInput

    options = BuildOptions(shape=subject.shapes, value=subject.values)
    task = next(task for task in extract_tasks(subject.path, target, options) if task.size >= STOCK_BATCH)
    candidates = list(task.candidates())[: STOCK_BATCH * STOCK_ROUNDS]
    builder = LocalBuilder(max_workers=target.cores)
    runner = LocalRunner(evaluator_config=EvaluatorConfig(number=10, repeat=5, min_repeat_ms=20))
    start = time.monotonic()
    for at in range(0, len(candidates), STOCK_BATCH):
        batch = candidates[at : at + STOCK_BATCH]
        functions = [task.variants[candidate.variant].func for candidate in batch]
        modules = [
            scheduled(func, target, task.choice(candidate)).mod
            for func, candidate in zip(functions, batch, strict=True)
        ]
        built = builder.build([BuilderInput(module, target.to_tvm()) for module in modules])
        jobs = [
            RunnerInput(result.artifact_path, "llvm", ArgInfo.from_prim_func(workload_module(func)["main"]))
            for result, func in zip(built, functions, strict=True)
            if result.artifact_path is not None
        ]
        for future in runner.run(jobs):
            future.result()
    seconds = time.monotonic() - start
    return {"shape": task.shape, "trials": len(candidates), "seconds": seconds}


def render(results: dict[str, store.Result], stock: store.Result | None) -> str:
    """Return the tables."""
    lines = [
        f"Machine: {machine()}.",
        "",
        "| model | default ms | tuned ms | ONNX Runtime ms | ONNX Runtime / tuned | trials | minutes | a minute |",
        "| --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for name, result in results.items():
        ratio = result["onnxruntime_ms"] / result["tuned_ms"]
        rate = result["trials"] / result["minutes"]
        lines.append(
            f"| {name} | {result['default_ms']:.2f} | {result['tuned_ms']:.2f} | {result['onnxruntime_ms']:.2f} | "
            f"{ratio:.2f} | {result['trials']} | {result['minutes']:.1f} | {rate:.0f} |"
        )
    if stock is not None:
        lines += [
            "",
            f"TVM's stock LocalBuilder and LocalRunner did {stock['trials']} trials of {stock['shape']} in "
            f"{stock['seconds']:.0f} s: {60 * stock['trials'] / stock['seconds']:.1f} a minute.",
        ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--time", default="20m", help="how long to tune each model [20m]")
    parser.add_argument("--models", nargs="*", default=list(MODELS), help=f"models [{' '.join(MODELS)}]")
    parser.add_argument("--resume", action="store_true", help="go on with interrupted runs of the same --time")
    parser.add_argument("--no-stock", action="store_true", help="leave TVM's stock builder and runner out")
    chosen = parser.parse_args(arguments)
    console = Console()
    target = load_target("host")
    RESULTS.mkdir(parents=True, exist_ok=True)
    try:
        results = {
            name: measure(model(name, BUILD), target, chosen.time, console, resume=chosen.resume)
            for name in chosen.models
        }
        page.write(PAGE, render(results, None), MARKERS)
        stock = None if chosen.no_stock else stock_rate(model("squeezenet", BUILD), target)
    except TvmbuildError as error:
        Console.say(f"error: {error.message}\n  fix: {error.hint}", style="red")
        return error.exit_code
    body = render(results, stock)
    page.write(PAGE, body, MARKERS)
    console.text(body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
