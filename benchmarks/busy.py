#!/usr/bin/env python3
"""Time models alone and beside busy processes and write a table of docs/performance.md: ``make bench-busy``.

tvmbuild with its own threads, with TVM's (``TVMBUILD_THREAD_POOL=tvm``) and ONNX Runtime take turns, each time in a
process of its own, first alone, then beside one process that keeps a core busy, then beside one for each core. Three
minutes on two cores; let nothing else run meanwhile: it would be one more busy process.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page, store
from benchmarks.kernels import machine
from benchmarks.models import BenchModel, all_names, model
from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.onnxruntime_timing import time_onnxruntime
from tvmbuild.checking.samples import load_samples
from tvmbuild.checking.verify import frozen_values
from tvmbuild.commands.console import Console
from tvmbuild.device.protocol import RunRequest
from tvmbuild.device.runner import run_with
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.pipeline import build
from tvmbuild.support.errors import TvmbuildError
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.versions import package_versions
from tvmbuild.target.target import Target, load_target

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
RESULTS = BUILD / "bench-busy"
PAGE = TOP / "docs" / "performance.md"
MARKERS = (
    "<!-- bench-busy: start; written by `make bench-busy`, do not edit -->",
    "<!-- bench-busy: end -->",
)
#: Two nets of a few milliseconds and two of tens.
MODELS = ("squeezenet", "mobilenet_v2", "densenet121", "resnet50")
OWN, TVMS, OTHER = "own", "tvm", "onnxruntime"
ROUNDS = 3
#: Seconds of runs that one program has in a round, and the bounds of their number.
SECONDS, LEAST, MOST = 0.4, 3, 200
WARMUP = 3
TIMEOUT = 120.0
#: How much slower than TVM's threads ours may be alone.
ALLOWED = 1.02
#: Ends with whoever started it, even if that is killed.
BUSY = "import os\nparent = os.getppid()\nwhile os.getppid() == parent:\n    for _ in range(100000): pass\n"


@dataclass(frozen=True)
class Contest:
    """A model that is ready to run.

    Attributes:
        name: the model.
        runs: by program, what times so many runs and returns their seconds.
    """

    name: str
    runs: Mapping[str, Callable[[int], Sequence[float]]]


def contest(source: BenchModel, target: Target, folder: Path, threads: int) -> Contest:
    """Build a model for this machine and say how each program runs it."""
    options = BuildOptions(
        shape=source.shapes, value=source.values, output=folder, name=f"{source.name}-{target.name}", compare=False
    )
    artifact = open_artifact(build(source.path, target, options).folder / f"{options.name}.json")
    sample = load_samples(artifact.manifest.inputs, None, seed=0)[0]
    inputs = tuple(sample[spec.name] for spec in artifact.manifest.inputs)
    feeds = {**sample, **frozen_values(artifact)}
    runner = str(runner_folder(target) / RUNNER_NAME)

    def ours(pool: str) -> Callable[[int], Sequence[float]]:
        def run(count: int) -> Sequence[float]:
            request = RunRequest(artifact.library, inputs, count, WARMUP, threads, TIMEOUT)
            return run_with([runner], request, target, {"TVMBUILD_THREAD_POOL": pool}).seconds

        return run

    def theirs(count: int) -> Sequence[float]:
        return time_onnxruntime(source.path, feeds, runs=count, warmup=WARMUP, threads=threads, timeout=TIMEOUT).seconds

    return Contest(source.name, {OWN: ours(OWN), TVMS: ours(TVMS), OTHER: theirs})


@contextlib.contextmanager
def busy(count: int) -> Iterator[None]:
    """Keep so many processes busy during the block."""
    processes = [subprocess.Popen([sys.executable, "-S", "-c", BUSY]) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def take_turns(contestants: Contest, rounds: int, seconds: float) -> dict[str, list[float]]:
    """Return the times of single runs by program, after rounds in which each ran for about so many seconds."""
    times: dict[str, list[float]] = {name: [] for name in contestants.runs}
    for _ in range(rounds):
        for name, run in contestants.runs.items():
            known = times[name]
            count = LEAST if not known else int(min(MOST, max(LEAST, seconds / statistics.median(known))))
            known += run(count)
    return times


def result_of(times: Mapping[str, Sequence[float]], load_before: float) -> store.Result:
    """Return milliseconds by program: the best run, the median, and what 95 of 100 stay below."""
    shares = {"best": 0.0, "p50": 0.5, "p95": 0.95}
    figures = {
        name: {word: float(np.quantile(seconds, share)) * 1e3 for word, share in shares.items()}
        for name, seconds in times.items()
    }
    return {**figures, "load_before": load_before}


def render(results: Mapping[str, store.Result]) -> str:
    """Return the text and the table of results by "model beside N"."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    loads = [result["load_before"] for result in results.values()]
    lines = [
        f"Made by `make bench-busy` on {machine()}, with {versions}. One thread a core, batch 1; the load average "
        f"before these runs was {min(loads):.1f} to {max(loads):.1f} on {os.cpu_count()} cores.",
        "",
        "Milliseconds: median (and what 95 of 100 runs stay below). Ratios are the other's median over ours: above 1, "
        "our threads are faster.",
        "",
        "| model | busy processes beside | our threads | TVM's threads | ONNX Runtime | TVM's / ours | "
        "ONNX Runtime's / ours |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    for name, result in results.items():
        title, _, beside = name.partition(" beside ")
        cells = [f"{result[who]['p50']:.2f} ({result[who]['p95']:.2f})" for who in (OWN, TVMS, OTHER)]
        lines.append(
            f"| {title} | {beside} | {' | '.join(cells)} | {ratio(result, TVMS):.2f} | **{ratio(result, OTHER):.2f}** |"
        )
    return "\n".join([*lines, "", verdict(results)])


def ratio(result: store.Result, who: str, word: str = "p50") -> float:
    """Return another program's time over ours."""
    return float(result[who][word] / result[OWN][word])


def verdict(results: Mapping[str, store.Result]) -> str:
    """Say whether what is wanted of the threads is met: of each run, and of those alone."""
    least = min(results, key=lambda name: ratio(results[name], OTHER))
    worst = ratio(results[least], OTHER)
    text = (
        f"No slower than ONNX Runtime by the median in any run: {'met' if worst >= 1 else '**not met**'} "
        f"(least {worst:.2f}, {least})."
    )
    # The best runs: what else the machine does disturbs them least.
    alone = [1 / ratio(result, TVMS, "best") for name, result in results.items() if name.endswith(" beside 0")]
    if not alone:
        return text
    cost = statistics.geometric_mean(alone)
    met = "met" if cost <= ALLOWED else "**not met**"
    return (
        f"{text} Cost when alone, best runs against TVM's threads, geometric mean: {100 * (cost - 1):+.1f} % "
        f"(at most {100 * (ALLOWED - 1):.0f} %: {met})."
    )


def measure(chosen: argparse.Namespace, console: Console) -> dict[str, store.Result]:
    """Measure and return the results by "model beside N"."""
    target = load_target("host")
    folder = RESULTS / "artifacts"
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, store.Result] = {}
    for name in chosen.models:
        with console.stages():
            ready = contest(model(name, BUILD), target, folder, chosen.threads)
        for count in chosen.beside:
            before = os.getloadavg()[0]
            with busy(count):
                result = result_of(take_turns(ready, chosen.rounds, chosen.seconds), before)
            key = f"{name} beside {count}"
            results[key] = result
            store.save(RESULTS, "results", key.replace(" ", "-"), result)
            console.text(
                f"{key}: ours {result[OWN]['p50']:.2f} ms, TVM's threads x {ratio(result, TVMS):.2f}, "
                f"ONNX Runtime x {ratio(result, OTHER):.2f}"
            )
    return results


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and write the page."""
    cores = len(os.sched_getaffinity(0))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", choices=all_names(), nargs="+", metavar="NAME", default=MODELS, help=" ".join(all_names())
    )
    parser.add_argument(
        "--beside", type=int, nargs="+", default=[0, 1, cores], help=f"numbers of busy processes [0 1 {cores}]"
    )
    parser.add_argument("--threads", type=int, default=cores, help=f"threads of each program [{cores}]")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each program [{ROUNDS}]")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of runs in a turn [{SECONDS}]")
    parser.add_argument("--print", action="store_true", dest="only_print", help="leave the page as it is")
    chosen = parser.parse_args(arguments)
    console = Console()
    try:
        body = render(measure(chosen, console))
    except TvmbuildError as error:
        Console.say(f"error: {error.message}\n  fix: {error.hint}", style="red")
        return error.exit_code
    if not chosen.only_print:
        page.write(PAGE, body, MARKERS)
    for line in body.splitlines():
        console.text(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
