#!/usr/bin/env python3
"""Measure the memory that a run of each model takes beside ONNX Runtime's, and write the table in docs/performance.md.

Memory hardly depends on what else the machine does, so a few runs are enough. Takes three minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page
from benchmarks.host import TARGET, THREADS
from benchmarks.models import all_names, model
from tvmbuild.artifact.open import Artifact, open_artifact
from tvmbuild.checking.bench import bench
from tvmbuild.device import open_device
from tvmbuild.pipeline import build
from tvmbuild.support.options import BenchOptions, BuildOptions
from tvmbuild.support.versions import package_versions
from tvmbuild.target.target import load_target

TOP = Path(__file__).resolve().parent.parent
MARKERS = (
    "<!-- memory: start; written by benchmarks/memory.py, do not edit -->",
    "<!-- memory: end -->",
)
NOTE = """## Memory of a run

Largest resident memory of a process on this machine, in MB, {threads} threads, batch 1, measured by
`benchmarks/memory.py` ({versions}). "tvmbuild" is all that the runner's process ever held; ONNX Runtime's is without
what Python and its library held before they had the model. "weights" and "arena" are parts of the former: pages of the
library's file, which processes share and the system can drop without a swap, and the planned memory of activations
(without outputs). "load" is the time of `load_module` and of starting the virtual machine, in milliseconds, with the
file in the system's cache."""


def main() -> int:
    """Measure every model and write the page."""
    target = load_target(TARGET)
    device, rows = open_device("local", target), []
    for name in all_names():
        subject = model(name, TOP / "build")
        with tempfile.TemporaryDirectory(prefix="tvmbuild-memory-") as folder:
            options = BuildOptions(shape=subject.shapes, value=subject.values, output=Path(folder), name=name)
            artifact = open_artifact(build(subject.path, target, options).folder / f"{name}.json")
            outcome = bench(artifact, device, BenchOptions(runs=5, threads=THREADS), subject.path)
            own, other = (timing.peak_bytes or 0 for timing in outcome.timings)
            memory = artifact.manifest.memory
            sizes = (own, other, memory["constants"], memory["arena"])
            row = [name, *(f"{size / 1e6:.1f}" for size in sizes), f"{load_seconds(artifact) * 1e3:.1f}"]
            rows.append([*row, "yes" if own <= other else "**no**"])
            print(*rows[-1], flush=True)
    versions = package_versions()
    listed = ", ".join(f"{name} {versions[name]}" for name in ("tvmbuild", "apache-tvm", "onnxruntime"))
    note = NOTE.format(threads=THREADS, versions=f"{listed}; {os.uname().machine}")
    head = ["model", "tvmbuild", "ONNX Runtime", "weights", "arena", "load", "at most ONNX Runtime's"]
    page.write(TOP / "docs" / "performance.md", f"{note}\n\n{page.table(head, rows)}", MARKERS)
    return 0


def load_seconds(artifact: Artifact) -> float:
    """Return the time until a library is ready for its first run."""
    import tvm
    from tvm import relax

    started = time.perf_counter()
    relax.VirtualMachine(tvm.runtime.load_module(str(artifact.library)), tvm.cpu())
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
