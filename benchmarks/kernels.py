#!/usr/bin/env python3
"""Measure tvmbuild's kernels and write docs/performance.md: ``make bench-kernels``.

Results are kept as JSON in build/bench as they come, and the page is rendered from all that are there, so that parts
can be measured one by one: ``benchmarks/kernels.py --only host --models squeezenet nmp``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page, store
from benchmarks.building import measure_build
from benchmarks.host import time_model
from benchmarks.models import INTEGER, ON_BOARDS, PREDICTED, BenchModel, all_names, host_names, model, quantized
from benchmarks.predicted import predict_model
from tvmbuild.commands.console import Console
from tvmbuild.support.errors import TvmbuildError
from tvmbuild.support.precision import Precision
from tvmbuild.target.target import load_target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
RESULTS = BUILD / "bench"
PAGE = TOP / "docs" / "performance.md"
PARTS = ("predicted", "boards", "host", "build")
TARGETS = ("rpi4", "rpi5")
#: Those that need no quantized model.
PRECISIONS = tuple(each for each in Precision if not each.quantizes)
BUILD_TARGET = "rpi4"
#: Boards that all cores are predicted of, and in which precision: others published times of these.
BOARDS = (("rpi4", Precision.FP32), ("rpi5", Precision.FP16))
INTEGER_BOARD = "rpi4"

#: One measurement: its part, the name of its result, the model, and what measures it into a folder for artifacts.
Work = tuple[str, str, str, Callable[[BenchModel, Path], store.Result]]


def plan(parts: Sequence[str], models: Sequence[str] | None) -> Iterator[Work]:
    """Yield the measurements of some parts and models (all by default), the quickest to be useful first."""
    chosen = all_names() if models is None else models
    if "predicted" in parts:
        for target in TARGETS:
            for name in (name for name in PREDICTED if name in chosen):
                for precision in (each for each in PRECISIONS if load_target(target).has_arithmetic(each)):
                    yield "predicted", f"{name}-{target}-{precision}", name, _predict_for(target, precision)
    if "boards" in parts:
        yield from _on_boards(chosen)
    if "build" in parts:
        for name in (name for name in PREDICTED if name in chosen):
            yield "build", f"{name}-{BUILD_TARGET}", name, _build
    if "host" in parts:
        for name in (name for name in host_names() if name in chosen):
            yield "host", name, name, time_model


def _on_boards(chosen: Sequence[str]) -> Iterator[Work]:
    for name in (name for name in ON_BOARDS if name in chosen):
        for target, precision in BOARDS:
            yield "boards", f"{name}-{target}-{precision}", name, _predict_for(target, precision)
    for name in (name for name in INTEGER if name in chosen):
        yield "boards", f"{name}-{INTEGER_BOARD}-{Precision.INT8}", name, _predict_integer


def _predict_for(target: str, precision: Precision) -> Callable[[BenchModel, Path], store.Result]:
    return lambda subject, folder: predict_model(subject, target, folder, precision=precision)


def _predict_integer(subject: BenchModel, folder: Path) -> store.Result:
    return predict_model(quantized(subject, folder, INTEGER_BOARD)[0], INTEGER_BOARD, folder)


def _build(subject: BenchModel, folder: Path) -> store.Result:
    return measure_build(subject, BUILD_TARGET, folder)


def machine() -> str:
    """Describe this machine in a line."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name = names[0] if names else platform.processor() or platform.machine()
    system = f"{platform.system()} {platform.machine()}, Python {platform.python_version()}"
    return f"{os.cpu_count()} cores of {name}, {system}"


def render() -> None:
    """Write each section of the page that there are results for; the others stay as they are."""
    limits = tomllib.loads(Path(__file__).with_name("limits.toml").read_text(encoding="utf-8"))
    for section, part in page.SECTIONS.items():
        results = store.load(RESULTS, part)
        if results:
            page.write(PAGE, page.render(section, results, limits, machine()), page.markers_of(section))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure what was asked for and write the page; 1 when a measurement failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS, nargs="+", default=PARTS, help="parts to measure")
    parser.add_argument("--models", choices=all_names(), nargs="+", metavar="NAME", help=" ".join(all_names()))
    parser.add_argument("--render", action="store_true", help="measure nothing, write the page from earlier results")
    options = parser.parse_args(arguments)
    console, failed = Console(), False
    for part, name, model_name, measure in () if options.render else plan(options.only, options.models):
        console.text(f"{part}: {name}")
        try:
            with console.stages():
                result = measure(model(model_name, BUILD), RESULTS / "artifacts")
        except TvmbuildError as error:
            Console.say(f"error: {error.message}\n  fix: {error.hint}", style="red")
            result, failed = {"failed": error.message}, True
        except Exception as error:  # A bug in one part; the page says so, and the others are still measured.
            traceback.print_exc()
            result, failed = {"failed": f"{type(error).__name__}: {error}"}, True
        store.save(RESULTS, part, name, result)
        render()
    render()
    console.text(f"wrote {PAGE.relative_to(TOP)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
