#!/usr/bin/env python3
"""Measure how many trials a minute tuning does and write a table of docs/tuning.md: ``make bench-tune-rate``.

Candidates of ResNet-50's kernels for rpi4: compiled and linked alone, then tried on emulated boards, which share this
machine's cores with the builder, then on boards that take a lease and the library and wait ``--wait`` seconds instead
of running it, as real boards do for all that this machine sees of them. All boards are behind a real tracker. About
four minutes on two cores; let nothing else run meanwhile.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page, store
from benchmarks.kernels import machine
from benchmarks.models import model
from benchmarks.waiting_boards import WaitingBoards
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.commands.console import Console
from tvmbuild.device.fleet.emulated_boards import EmulatedBoards
from tvmbuild.support.errors import TvmbuildError
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.versions import package_versions
from tvmbuild.target.target import Target, load_target
from tvmbuild.tuning.builder import Builder
from tvmbuild.tuning.cost_model import XgboostModel
from tvmbuild.tuning.extract import extract_tasks
from tvmbuild.tuning.measure.protocol import Measurer
from tvmbuild.tuning.measure.rpc import RpcMeasurer
from tvmbuild.tuning.search import Search
from tvmbuild.tuning.session import TuningSession
from tvmbuild.tuning.stopping import Limits
from tvmbuild.tuning.task import Candidate, Task
from tvmbuild.tuning.trials import TrialRunner
from tvmbuild.tuning.waits import limit_of

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
RESULTS = BUILD / "bench-tune-rate"
PAGE = TOP / "docs" / "tuning.md"
MARKERS = (
    "<!-- bench-tune-rate: start; written by `make bench-tune-rate`, do not edit -->",
    "<!-- bench-tune-rate: end -->",
)
#: Candidates that are compiled alone. They are of all convolutions with choices.
COMPILED = 60
#: Kernels that are tuned: as many of those with the fewest multiply-adds, which emulated boards take least long over.
TUNED = 6
EMULATED, WAITING = (1, 2, 4), (1, 2, 4, 8, 16)


def convolutions(name: str, target: Target) -> list[Task]:
    """Return a model's convolutions with choices, those with the fewest multiply-adds first."""
    tasks = extract_tasks(model(name, BUILD).path, target, BuildOptions())
    return sorted(
        (task for task in tasks if task.size > 1 and task.kind.startswith("conv2d")), key=lambda task: task.macs
    )


def builder_rate(builder: Builder, tasks: Sequence[Task], count: int) -> store.Result:
    """Compile and link candidates in all workers; the first of each worker, for which it imports TVM, is apart."""
    drawn = []
    for task in tasks:
        search = Search(task, 0, None)
        search.tell(task.default, 1.0)
        drawn.append([(task, candidate) for candidate in search.propose(1 + count // len(tasks))])
    mixed = [pair for turn in itertools.zip_longest(*drawn) for pair in turn if pair is not None]

    def compiled(pair: tuple[Task, Candidate]) -> bool:
        task, candidate = pair
        return isinstance(builder.build(task.variants[candidate.variant], task.choice(candidate)), Path)

    with ThreadPoolExecutor(builder.workers) as pool:
        start = time.monotonic()
        list(pool.map(compiled, mixed[: builder.workers]))
        begun = time.monotonic()
        done = list(pool.map(compiled, mixed[:count]))
        seconds = time.monotonic() - begun
    return {
        "workers": builder.workers,
        "start_seconds": begun - start,
        "candidates": len(done),
        "failed": done.count(False),
        "seconds": seconds,
        "a_second": done.count(True) / seconds,
    }


@dataclass(frozen=True)
class Run:
    """What all runs share."""

    target: Target
    builder: Builder
    tasks: Sequence[Task]
    seconds: float

    def trials(self, measurer: Measurer) -> store.Result:
        """Tune for some time and count."""
        runner = TrialRunner(self.builder, measurer, 0)
        try:
            session = TuningSession(
                self.tasks,
                runner,
                store=lambda _task, _trial: None,
                limits=Limits(seconds=self.seconds, min_gain=0.0),
                model=XgboostModel(self.target, 0),
                predicted=True,
            )
            session.run()
            waits, elapsed = runner.waits, session.elapsed
        finally:
            runner.close()
        assert waits is not None
        emulated = isinstance(measurer, RpcMeasurer)
        return {
            "boards": measurer.slots,
            "trials": session.done,
            "failed": sum(not trial.ok for state in session.states for trial in state.trials),
            "seconds": elapsed,
            "a_minute": 60 * session.done / elapsed,
            "waits": vars(waits),
            "limit": limit_of(waits, len(os.sched_getaffinity(0)) if emulated else 0),
        }


@contextmanager
def emulated(target: Target, count: int) -> Iterator[EmulatedBoards]:
    """Start boards and keep what they say."""
    with EmulatedBoards(target, count, log=RESULTS / "boards.log") as boards:
        yield boards


def render(built: store.Result, runs: dict[str, list[store.Result]], wait: float) -> str:
    """Return the text and the table."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    lines = [
        f"Machine: {machine()}, {len(os.sched_getaffinity(0))} of them used; {versions}.",
        "",
        f"The builder alone compiled and linked {built['candidates']} candidates of ResNet-50's convolutions for rpi4 "
        f"in {built['seconds']:.1f} s with {built['workers']} processes: **{built['a_second']:.1f} a second** (must: 3 "
        f"on two cores). Starting the processes, importing TVM in them and compiling one candidate each had taken "
        f"{built['start_seconds']:.1f} s, once a run.",
        "",
        "| boards | trials a minute | times one board's | boards measure | boards wait for the builder | "
        "builder compiles | builder waits for boards | limit |",
        "| --- | --: | --: | --: | --: | --: | --: | --- |",
    ]
    names = {"emulated": "emulated", "waiting": f"wait {wait:g} s a candidate"}
    for kind, results in runs.items():
        for result in results:
            waits = result["waits"]
            shares = ("boards_busy", "boards_waited", "builder_busy", "builder_waited")
            lines.append(
                f"| {result['boards']}, {names[kind]} | {result['a_minute']:.0f} | "
                f"{result['a_minute'] / results[0]['a_minute']:.1f} | "
                + " | ".join(f"{waits[share]:.0%}" for share in shares)
                + f" | {result['limit'] or '-'} |"
            )
    failed = sum(result["failed"] for results in runs.values() for result in results)
    return "\n".join([*lines, "", f"Failed trials: {failed}."])


def measure(chosen: argparse.Namespace, console: Console) -> str:
    """Measure everything and return the text."""
    target = load_target("rpi4")
    RESULTS.mkdir(parents=True, exist_ok=True)
    with console.stages():
        tasks = convolutions("resnet50", target)
        with Builder(target, find_toolchain(target), len(os.sched_getaffinity(0))) as builder:
            built = builder_rate(builder, tasks, chosen.compiled)
            console.text(f"builder alone: {built['a_second']:.1f} a second")
            run = Run(target, builder, tasks[:TUNED], chosen.seconds)
            kinds: dict[str, tuple[Sequence[int], Callable[[EmulatedBoards, int], Measurer]]] = {
                "emulated": (chosen.emulated, lambda boards, _: RpcMeasurer(target, boards.tracker, boards.key)),
                "waiting": (
                    chosen.waiting,
                    lambda boards, count: WaitingBoards(target, boards.tracker, boards.key, count, chosen.wait),
                ),
            }
            runs: dict[str, list[store.Result]] = {}
            for kind, (counts, opened) in kinds.items():
                runs[kind] = []
                for count in counts:
                    with emulated(target, count) as boards:
                        runs[kind].append(run.trials(opened(boards, count)))
                    console.text(f"{count} {kind}: {runs[kind][-1]['a_minute']:.0f} a minute")
    store.save(RESULTS, "results", "rate", {"builder": built, **runs, "versions": package_versions()})
    return render(built, runs, chosen.wait)


def main(arguments: list[str] | None = None) -> int:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=18.0, help="how long to tune with each number of boards [18]")
    parser.add_argument("--wait", type=float, default=2.0, help="seconds that a waiting board takes a candidate [2]")
    parser.add_argument("--emulated", type=int, nargs="*", default=EMULATED, help="numbers of emulated boards [1 2 4]")
    parser.add_argument(
        "--waiting", type=int, nargs="*", default=WAITING, help="numbers of waiting boards [1 2 4 8 16]"
    )
    parser.add_argument("--compiled", type=int, default=COMPILED, help="candidates to compile alone [60]")
    parser.add_argument("--print", action="store_true", dest="only_print", help="leave the page as it is")
    chosen = parser.parse_args(arguments)
    if chosen.wait <= 0:
        parser.error("--wait takes a number of seconds above 0")
    console = Console()
    try:
        body = measure(chosen, console)
    except TvmbuildError as error:
        Console.say(f"error: {error.message}\n  fix: {error.hint}", style="red")
        return error.exit_code
    if not chosen.only_print:
        page.write(PAGE, body, MARKERS)
    console.text(body)
    return 0


if __name__ == "__main__":
    sys.exit(main())
