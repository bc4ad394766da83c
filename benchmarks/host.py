"""Times models on this machine in turn with ONNX Runtime."""

from __future__ import annotations

import os
from pathlib import Path

from benchmarks.models import BenchModel
from benchmarks.store import Result
from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.bench import ROUNDS, bench
from tvmbuild.device import open_device
from tvmbuild.pipeline import build
from tvmbuild.support.options import BenchOptions, BuildOptions
from tvmbuild.support.versions import package_versions
from tvmbuild.target.target import load_target

TARGET = "host"
THREADS = 2
#: Timed runs of each program: enough for a steady median of models that take a millisecond.
RUNS = 100


def time_model(model: BenchModel, folder: Path) -> Result:
    """Build a model for this machine and time it.

    Args:
        model: what to build.
        folder: receives the artifact.

    Raises:
        TvmbuildError: any stage failed.
    """
    target = load_target(TARGET)
    options = BuildOptions(shape=model.shapes, value=model.values, output=folder, name=f"{model.name}-{TARGET}")
    artifact = open_artifact(build(model.path, target, options).folder / f"{options.name}.json")
    busy = os.getloadavg()[0]
    outcome = bench(artifact, open_device("local", target), BenchOptions(runs=RUNS, threads=THREADS), model.path)
    own, other = outcome.timings
    return {
        "threads": THREADS,
        "rounds": ROUNDS,
        "runs": len(own.seconds),
        "cores": os.cpu_count(),
        "load_before": busy,
        "own_ms": own.quantile(0.5) * 1e3,
        "other_ms": other.quantile(0.5) * 1e3,
        "own_best_ms": own.quantile(0.0) * 1e3,
        "other_best_ms": other.quantile(0.0) * 1e3,
        "ratio": outcome.ratio,
        "best_ratio": other.quantile(0.0) / own.quantile(0.0),
        "own_peak_mb": (own.peak_bytes or 0) / 1e6,
        "other_peak_mb": (other.peak_bytes or 0) / 1e6,
        "versions": package_versions(),
    }
