"""Time an artifact on a device, in turn with ONNX Runtime where that can run too."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvmbuild.artifact.open import Artifact
from tvmbuild.checking.onnxruntime_timing import time_onnxruntime
from tvmbuild.checking.samples import load_samples
from tvmbuild.checking.verify import frozen_values
from tvmbuild.device.protocol import Device, RunRequest
from tvmbuild.support import progress
from tvmbuild.support.errors import OptionError
from tvmbuild.support.options import BenchOptions

#: Times of runs are cut into this many rounds, so that two programs meet the same drift of the machine's speed.
ROUNDS = 5


@dataclass(frozen=True)
class Timing:
    """Seconds of single runs of one program.

    Attributes:
        name: the program.
        seconds: one a run, in order.
        peak_bytes: largest resident set; None where it was not measured.
    """

    name: str
    seconds: tuple[float, ...]
    peak_bytes: int | None

    def quantile(self, share: float) -> float:
        """Return the time that ``share`` of the runs stay below, in seconds."""
        return float(np.quantile(self.seconds, share))

    def to_json(self) -> dict[str, Any]:
        """Return what ``bench --json`` prints."""
        shares = {"min": 0.0, "p50": 0.5, "p90": 0.9, "p99": 0.99, "max": 1.0}
        return {
            "name": self.name,
            "runs": len(self.seconds),
            "seconds": {word: self.quantile(share) for word, share in shares.items()},
            "peak_bytes": self.peak_bytes,
        }


@dataclass(frozen=True)
class Benchmark:
    """Timings from one session; the first is the artifact's."""

    device: str
    timed: bool
    timings: tuple[Timing, ...]

    @property
    def ratio(self) -> float | None:
        """The other program's median time over the artifact's: above 1, the artifact is faster."""
        if len(self.timings) < 2:
            return None
        return self.timings[1].quantile(0.5) / self.timings[0].quantile(0.5)

    def to_json(self) -> dict[str, Any]:
        """Return what ``bench --json`` prints."""
        rows = [timing.to_json() for timing in self.timings]
        return {"device": self.device, "timed": self.timed, "timings": rows, "ratio": self.ratio}


def bench(artifact: Artifact, device: Device, options: BenchOptions, model: Path | None = None) -> Benchmark:
    """Time runs of the artifact, in rounds, in turn with ONNX Runtime if ``model`` is given.

    Each round of either is a process of its own, so that neither's waiting threads take cores from the other.

    Raises:
        OptionError: ONNX Runtime cannot run on that device.
        DeviceError: a run failed.
    """
    info = device.describe()
    if model is not None and info.kind != "local":
        raise OptionError("ONNX Runtime is timed on this machine only.", "Build for host and bench with --on local.")
    specs = artifact.manifest.inputs
    sample = load_samples(specs, options.inputs, seed=options.seed)[0]
    feeds = {**sample, **frozen_values(artifact)}
    inputs = [sample[spec.name] for spec in specs]
    runs = -(-options.runs // ROUNDS)
    own: list[float] = []
    theirs: list[float] = []
    peak = their_peak = 0
    with progress.stage(f"time {ROUNDS} rounds of {runs} runs on {device.name}", total=ROUNDS) as step:
        for _ in range(ROUNDS):
            result = device.run(
                RunRequest(
                    artifact.library,
                    inputs,
                    repeat=runs,
                    warmup=options.warmup,
                    threads=options.threads or None,
                    timeout=options.timeout,
                )
            )
            own += result.seconds
            peak = max(peak, result.peak_bytes)
            if model is not None:
                other = time_onnxruntime(
                    model,
                    feeds,
                    runs=runs,
                    warmup=options.warmup,
                    threads=options.threads,
                    timeout=options.timeout,
                )
                theirs += other.seconds
                their_peak = max(their_peak, other.peak_bytes)
            step.advance()
    timings = [Timing("tvmbuild", tuple(own), peak)]
    if theirs:
        timings.append(Timing("onnxruntime", tuple(theirs), their_peak))
    return Benchmark(info.description, info.timed, tuple(timings))
