"""Run the model on every sample and count its activations.

ONNX Runtime computes the tensors, so many at a time as fit into a fixed amount of memory; a sample's arrays are counted
and dropped before the next one is read. Samples run in parallel, each on one thread: the counts do not depend on it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
import onnx

from tvmbuild.quantization.calibration.activation_session import ActivationSession
from tvmbuild.quantization.calibration.histogram import Histogram
from tvmbuild.quantization.calibration.sample_set import Sample, SampleRef
from tvmbuild.support import progress
from tvmbuild.support.errors import CalibrationError

#: Bytes of activations that one run may return.
RUN_BYTES = 192 << 20
#: Samples at work at a time; each holds its own activations.
MOST_WORKERS = 4


@dataclass(frozen=True)
class Activations:
    """Histograms by tensor's name, and the number of samples behind them."""

    histograms: dict[str, Histogram]
    samples: int


def collect(
    proto: onnx.ModelProto,
    tensors: Sequence[str],
    sizes: dict[str, int],
    samples: Sequence[SampleRef],
    *,
    workers: int = 0,
    run_bytes: int = RUN_BYTES,
) -> Activations:
    """Count the values that ``tensors`` take over all samples.

    Args:
        proto: the float model.
        tensors: names of float tensors of the model, inputs among them.
        sizes: number of elements by tensor's name, to divide the work; 0 or absent when unknown.
        samples: what to run.
        workers: samples at a time; 0 for one a core, at most ``MOST_WORKERS``.
        run_bytes: bytes of activations that one run may return.

    Raises:
        CalibrationError: a sample that does not fit, or a NaN or infinity, with the names of tensor and sample.
    """
    histograms = {name: Histogram() for name in tensors}
    inputs = {value.name for value in proto.graph.input}
    inside = [name for name in tensors if name not in inputs]
    groups = divide(inside, sizes, run_bytes)
    sessions = [ActivationSession(proto, group) for group in groups]

    def work(ref: SampleRef) -> None:
        sample = ref.load()
        for name in tensors:
            if name in inputs:
                _add(histograms[name], name, sample[name], ref)
        for session in sessions:
            _count(session, sample, histograms, ref)

    with progress.stage("calibrate", total=len(samples)) as step:
        run_parallel(work, samples, step.advance, workers or min(os.cpu_count() or 1, MOST_WORKERS))
        step.detail = f"{len(samples)} samples, {len(tensors)} tensors"
    return Activations(histograms, len(samples))


def _count(session: ActivationSession, sample: Sample, histograms: dict[str, Histogram], ref: SampleRef) -> None:
    for name, array in session.run(sample).items():
        _add(histograms[name], name, array, ref)


def _add(histogram: Histogram, name: str, array: np.ndarray, ref: SampleRef) -> None:
    if not histogram.add(array):
        raise CalibrationError(
            f"The activation '{name}' has NaN or infinity for {ref.name}.",
            "Run the float model on this sample; remove the sample, or mend the model.",
        )


def divide(names: Sequence[str], sizes: dict[str, int], run_bytes: int) -> list[list[str]]:
    """Divide tensors into groups of at most ``run_bytes`` bytes (or of one tensor), in order."""
    groups: list[list[str]] = []
    filled = 0
    for name in names:
        size = 4 * sizes.get(name, 0)
        if not groups or filled + size > run_bytes:
            groups.append([])
            filled = 0
        groups[-1].append(name)
        filled += size
    return groups


def run_parallel(
    work: Callable[[SampleRef], None], samples: Sequence[SampleRef], advance: Callable[[], None], workers: int
) -> None:
    """Do ``work`` for every sample, and ``advance`` after each; the first error stops it."""
    with ThreadPoolExecutor(workers) as pool:
        left = list(reversed(samples))
        running: set[Future[None]] = set()
        try:
            while left or running:
                while left and len(running) < workers:
                    running.add(pool.submit(work, left.pop()))
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()
                    advance()
        except BaseException:
            for future in running:
                future.cancel()
            raise
