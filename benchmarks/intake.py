#!/usr/bin/env python3
"""Measure what models of many nodes cost to prepare and what the check of indices costs; write both to docs/models.md.

Seconds of the processor hardly depend on what else the machine does. Takes some three minutes.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page
from benchmarks.host import TARGET
from tvmbuild.artifact.open import open_artifact
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.pipeline import build
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.versions import package_versions
from tvmbuild.target.target import load_target

TOP = Path(__file__).resolve().parent.parent
PAGE = TOP / "docs" / "models.md"
PREPARING = ("<!-- preparing: start; written by `make bench-intake`, do not edit -->", "<!-- preparing: end -->")
INDICES = ("<!-- indices: start; written by `make bench-intake`, do not edit -->", "<!-- indices: end -->")
#: Runs of each library, in turns, of which the median counts.
RUNS = 200

Graph = tuple[list[onnx.NodeProto], list[onnx.TensorProto]]


def chain(count: int) -> Graph:
    """Return so many operators one after the other."""
    kinds = ("Relu", "Neg")
    nodes = [helper.make_node(kinds[at % 2], [f"t{at}" if at else "x"], [f"t{at + 1}"]) for at in range(count - 1)]
    return [*nodes, helper.make_node("Abs", [f"t{count - 1}"], ["y"])], []


def wide_sum(count: int) -> Graph:
    """Return one Sum of so many tensors, all of them the input."""
    return [helper.make_node("Sum", ["x"] * count, ["y"])], []


def unread_weights(count: int) -> Graph:
    """Return one operator beside so many weights that nothing reads."""
    one = np.ones(1, np.float32)
    return [helper.make_node("Relu", ["x"], ["y"])], [numpy_helper.from_array(one, f"w{at}") for at in range(count)]


SERIES: dict[str, tuple[Callable[[int], Graph], tuple[int, ...]]] = {
    "a chain of so many nodes": (chain, (2500, 5000, 10_000)),
    "a Sum of so many inputs": (wide_sum, (2500, 5000, 10_000)),
    "a Relu with so many weights that nothing reads": (unread_weights, (25_000, 50_000, 100_000)),
}


def saved(graph: Graph, path: Path, **inputs: tuple[int, list[int]]) -> Path:
    """Write a model with the output "y" and return its path; inputs are element types and shapes."""
    nodes, weights = graph
    values = [helper.make_tensor_value_info(name, *kind) for name, kind in inputs.items()]
    output = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    made = helper.make_graph(nodes, "net", values, output, weights)
    onnx.save(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def preparing_seconds(graph: Graph, folder: Path) -> float:
    """Return the seconds of the processor from starting Python to a prepared model, the child's included."""
    path = saved(graph, folder / "net.onnx", x=(TensorProto.FLOAT, [1, 4]))
    code = f"from pathlib import Path\nfrom tvmbuild.onnx_model.prepare import prepare\nprepare(Path({str(path)!r}))"
    command = [sys.executable, "-S", str(TOP / "benchmarks" / "measured_child.py"), sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=TOP)
    return float(json.loads(done.stdout)["cpu_seconds"])


@contextmanager
def unchecked() -> Iterator[None]:
    """Import models without the check."""
    with mock.patch("tvmbuild.onnx_model.importer.check_indices", lambda _b, _o, inputs, _a: inputs):
        yield


def lookups() -> dict[str, tuple[onnx.NodeProto, list[int], list[int]]]:
    """Return operators that look up, with the shapes of their data and their indices."""
    return {
        "Gather of 128 rows of 768 numbers": (helper.make_node("Gather", ["x", "i"], ["y"]), [30_000, 768], [128]),
        "GatherElements of a million": (
            helper.make_node("GatherElements", ["x", "i"], ["y"], axis=1),
            *([1000, 1000], [1000, 1000]),
        ),
    }


def running_seconds(node: onnx.NodeProto, data: list[int], indices: list[int], folder: Path) -> dict[str, float]:
    """Return the median time of a run on this machine, with the check and without."""
    kinds: dict[str, Any] = {"x": (TensorProto.FLOAT, data), "i": (TensorProto.INT64, indices)}
    path = saved(([node], []), folder / "net.onnx", **kinds)
    target = load_target(TARGET)

    def built(name: str) -> Path:
        options = BuildOptions(output=folder / name, name=name, compare=False)
        return open_artifact(build(path, target, options).folder / f"{name}.json").library

    libraries = {"checked": built("checked")}
    with unchecked():
        libraries["unchecked"] = built("unchecked")
    rng = np.random.default_rng(0)
    inputs = (rng.standard_normal(data, np.float32), rng.integers(0, data[-1], indices))
    device = open_device("local", target)
    times: dict[str, list[float]] = {name: [] for name in libraries}
    for _ in range(4):
        for name, library in libraries.items():
            times[name] += device.run(RunRequest(library, inputs, RUNS // 4, 5, 1)).seconds
    return {name: statistics.median(seconds) for name, seconds in times.items()}


def main() -> int:
    """Measure and write both tables."""
    rows, checks = [], []
    with tempfile.TemporaryDirectory(prefix="tvmbuild-intake-") as scratch:
        folder = Path(scratch)
        for what, (made, counts) in SERIES.items():
            for count in counts:
                rows.append([what, f"{count:,}", f"{preparing_seconds(made(count), folder):.1f}"])
                print(*rows[-1], flush=True)
        for what, (node, data, indices) in lookups().items():
            took = running_seconds(node, data, indices, folder)
            more = (took["checked"] - took["unchecked"]) / np.prod(indices)
            figures = [f"{took[name] * 1e6:,.1f}" for name in ("unchecked", "checked")]
            checks.append([what, *figures, f"{more * 1e9:.1f}"])
            print(*checks[-1], flush=True)
    versions = package_versions()
    listed = ", ".join(f"{name} {versions[name]}" for name in ("tvmbuild", "apache-tvm", "onnx", "onnxruntime"))
    made_with = f"Measured by `benchmarks/intake.py` with {listed} on {os.uname().machine}"
    note = f"{made_with}; seconds of the processor from the start of Python on, some 1.7 of which are imports."
    page.write(PAGE, f"{note}\n\n{page.table(['a model that is', 'count', 'seconds'], rows)}", PREPARING)
    note = f"{made_with}; the median of {RUNS} runs in turns with one thread, in microseconds."
    head = ["operator", "without the check", "with it", "nanoseconds an index"]
    page.write(PAGE, f"{note}\n\n{page.table(head, checks)}", INDICES)
    return 0


if __name__ == "__main__":
    sys.exit(main())
