"""How far a quantized model is from the float one, tensor by tensor and at its outputs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from tvmbuild.quantization.calibration.activation_session import ActivationSession
from tvmbuild.quantization.calibration.collect import RUN_BYTES, divide, run_parallel
from tvmbuild.quantization.calibration.sample_set import Sample, SampleRef
from tvmbuild.support import progress

#: Signal to noise of equal tensors: more than any quantization leaves.
_EQUAL_DB = 200.0


@dataclass(frozen=True)
class Similarity:
    """How alike a tensor is in two models, over all samples.

    Attributes:
        name: of the tensor in the float model.
        sqnr: signal to quantization noise, 10 log10(sum x**2 / sum (x - y)**2), in dB.
        cosine: of the angle between both.
        top1: share of vectors along the last axis with the same largest element; None where that means nothing.
    """

    name: str
    sqnr: float
    cosine: float
    top1: float | None = None


@dataclass(frozen=True)
class _Sums:
    signal: float
    noise: float
    dot: float
    other: float
    agreed: int
    vectors: int


def compare(
    reference: onnx.ModelProto,
    quantized: onnx.ModelProto,
    tensors: Mapping[str, str],
    sizes: Mapping[str, int],
    samples: Sequence[SampleRef],
    *,
    workers: int = 2,
    quiet: bool = False,
) -> list[Similarity]:
    """Run both models on the samples and compare tensors.

    Args:
        reference: the float model.
        quantized: the same with Q and DQ.
        tensors: names in ``reference`` and, for each, in ``quantized``.
        sizes: number of elements by name in ``reference``.
        samples: what to run.
        workers: samples at a time.
        quiet: announce no step.

    Returns:
        One entry a tensor, in the order of ``tensors``; sums do not depend on the order of the samples.
    """
    parts: dict[str, list[_Sums]] = {name: [] for name in tensors}
    outputs = {value.name for value in reference.graph.output}
    groups = divide(list(tensors), dict(sizes), RUN_BYTES)
    pairs = [
        (g, ActivationSession(reference, g), ActivationSession(quantized, [tensors[name] for name in g]))
        for g in groups
    ]

    def work(ref: SampleRef) -> None:
        sample = ref.load()
        for names, first, second in pairs:
            _compare_sample(names, first, second, sample, parts, outputs, tensors)

    if quiet:
        run_parallel(work, samples, lambda: None, workers)
    else:
        with progress.stage("compare with float", total=len(samples)) as step:
            run_parallel(work, samples, step.advance, workers)
    return [_similarity(name, sums) for name, sums in parts.items()]


def _compare_sample(
    names: Sequence[str],
    first: ActivationSession,
    second: ActivationSession,
    sample: Sample,
    parts: Mapping[str, list[_Sums]],
    outputs: set[str],
    tensors: Mapping[str, str],
) -> None:
    expected, found = first.run(sample), second.run(sample)
    for name in names:
        parts[name].append(_sums(expected.pop(name), found.pop(tensors[name]), is_output=name in outputs))


def _sums(x: np.ndarray, y: np.ndarray, *, is_output: bool) -> _Sums:
    agreed = vectors = 0
    if is_output and x.ndim in (2, 3) and x.shape[-1] > 1:
        same = np.argmax(x, axis=-1) == np.argmax(y, axis=-1)
        agreed, vectors = int(np.count_nonzero(same)), same.size
    x, y = x.reshape(-1).astype(np.float64), y.reshape(-1).astype(np.float64)
    noise = x - y
    return _Sums(float(x @ x), float(noise @ noise), float(x @ y), float(y @ y), agreed, vectors)


def _similarity(name: str, sums: Sequence[_Sums]) -> Similarity:
    # fsum is exact, hence the same in any order.
    signal, noise, dot, other = (
        math.fsum(getattr(each, key) for each in sums) for key in ("signal", "noise", "dot", "other")
    )
    vectors = sum(each.vectors for each in sums)
    cosine = dot / math.sqrt(signal * other) if signal > 0 and other > 0 else float(signal == other)
    top1 = sum(each.agreed for each in sums) / vectors if vectors else None
    return Similarity(name, sqnr(signal, noise), min(cosine, 1.0), top1)


def sqnr(signal: float, noise: float) -> float:
    """Return a signal to noise ratio in dB, bounded so that it is a number for equal and for zero tensors too."""
    if noise <= 0.0:
        return _EQUAL_DB
    return max(min(10.0 * math.log10(signal / noise), _EQUAL_DB), -_EQUAL_DB) if signal > 0.0 else -_EQUAL_DB
