"""Predicted cycles of a model on a board's core, kernel by kernel, beside what its multiply-adds need at least."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from benchmarks.models import BenchModel
from benchmarks.store import Result
from tvmbuild import schedules
from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.samples import load_samples
from tvmbuild.device.emulator import find_emulator
from tvmbuild.graph.pipeline import optimize
from tvmbuild.graph.report import GraphReport
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.shapes import parse_shapes, parse_values
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.pipeline import build
from tvmbuild.predict.kernels import KernelPrediction
from tvmbuild.predict.predictor import Prediction, predict
from tvmbuild.schedules.registry import KernelReport
from tvmbuild.support.options import BuildOptions
from tvmbuild.support.precision import Precision
from tvmbuild.support.versions import llvm_version, package_versions
from tvmbuild.target.target import Target, load_target, predicted_core

#: Beginnings of the kinds of schedules that multiply; what others count as multiply-accumulates are sums or maxima.
_MULTIPLYING = ("conv2d", "depthwise", "matmul")
#: End of the kinds of those that multiply int8.
_INTEGER = ".int8"


def predict_model(
    model: BenchModel, target_name: str, folder: Path, *, precision: Precision = Precision.FP32
) -> Result:
    """Build a model for a board and predict it.

    Args:
        model: what to build.
        target_name: the board.
        folder: receives the artifact.
        precision: what to build it in.

    Raises:
        TvmbuildError: any stage failed.
    """
    target = load_target(target_name)
    name = f"{model.name}-{target_name}{precision.ending}"
    options = BuildOptions(shape=model.shapes, value=model.values, output=folder, name=name, precision=precision)
    artifact = open_artifact(build(model.path, target, options).folder / f"{options.name}.json")
    sample = load_samples(artifact.manifest.inputs, None)[0]
    arrays = [sample[spec.name] for spec in artifact.manifest.inputs]
    prediction, shared = (predict(artifact.library, target, arrays, threads=count) for count in (1, target.cores))
    scheduled, graph = schedule_reports(model, target, precision=precision)
    calls = {kernel.name: kernel.count for kernel in graph.kernels}
    core = predicted_core(target)
    rate = core.macs(precision)
    rates = {name: core.int8_macs if report.kind.endswith(_INTEGER) else rate for name, report in scheduled.items()}
    return {
        "model": model.name,
        "target": target_name,
        "core": prediction.core,
        "instructions": prediction.instructions / 1e6,
        "comp": prediction.compute_cycles / 1e6,
        "est": prediction.estimated_cycles / 1e6,
        "l1_misses": prediction.l1_misses,
        "l2_misses": prediction.l2_misses,
        "by_threads": {str(one.threads): totals(one) for one in (prediction, shared)},
        "kernels": [
            kernel_row(kernel, scheduled.get(kernel.name), calls.get(kernel.name, 1), rates.get(kernel.name, rate))
            for kernel in prediction.kernels
        ],
        "memory": artifact.manifest.memory,
        "library_bytes": artifact.library.stat().st_size,
        "versions": {
            **package_versions(),
            "LLVM in TVM": llvm_version(),
            "llvm-mca": prediction.llvm_version,
            "QEMU": find_emulator().version,
        },
    }


def totals(prediction: Prediction) -> Result:
    """Return what a prediction says in sum: milliseconds, their band, and megabytes read from memory and written."""
    return {
        "ms": prediction.milliseconds,
        "band": prediction.band,
        "read_mb": (prediction.read_bytes or 0) / 1e6,
        "written_mb": (prediction.written_bytes or 0) / 1e6,
    }


def schedule_reports(
    model: BenchModel, target: Target, *, precision: Precision = Precision.FP32
) -> tuple[dict[str, KernelReport], GraphReport]:
    """Return how each kernel is scheduled, by name, and the graph's report; nothing is compiled."""
    prepared = prepare(model.path, parse_shapes(model.shapes), parse_values(model.values), compare=False)
    _, graph = optimize(to_relax(prepared), target, kernels=schedules, precision=precision)
    return {report.name: report for report in graph.schedules}, graph


def kernel_row(kernel: KernelPrediction, report: KernelReport | None, calls: int, rate: float) -> Result:
    """Join what is predicted of a kernel with what is known of it; all figures are of all its calls together.

    Args:
        kernel: the prediction.
        report: the schedule's report; None for code outside the library.
        calls: calls an inference.
        rate: multiply-adds a cycle of the core, at best.
    """
    macs = report.macs * calls if report and report.kind.startswith(_MULTIPLYING) else 0
    loop = asdict(kernel.hot_loop) if kernel.hot_loop else {}
    loop.pop("assembly", None)
    return {
        "name": kernel.name,
        "kind": report.kind if report else "",
        "workload": report.workload if report else "",
        "schedule": dict(report.schedule) if report else {},
        "calls": calls,
        "macs": macs / 1e6,
        "bound": macs / rate / 1e6,
        "instructions": kernel.instructions / 1e6,
        "comp": kernel.compute_cycles / 1e6,
        "est": kernel.estimated_cycles / 1e6,
        "hot_loop": loop,
    }
