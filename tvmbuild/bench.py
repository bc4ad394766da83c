"""Time an artifact on a device, in turn with ONNX Runtime where that can run too."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvmbuild import progress
from tvmbuild.artifact.open import Artifact
from tvmbuild.device.protocol import Device
from tvmbuild.errors import OptionError
from tvmbuild.options import BenchOptions
from tvmbuild.samples import load_samples
from tvmbuild.verify import frozen_values

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

    Raises:
        OptionError: ONNX Runtime cannot run on that device.
        DeviceError: a run failed.
    """
    info = device.describe()
    if model is not None and info.kind != "local":
        raise OptionError("ONNX Runtime is timed on this machine only.", "Build for host and bench with --on local.")
    specs = artifact.manifest.inputs
    sample = load_samples(specs, options.inputs, seed=options.seed)[0]
    other = _onnxruntime(model, {**sample, **frozen_values(artifact)}, options.threads) if model is not None else None
    inputs = [sample[spec.name] for spec in specs]
    runs = -(-options.runs // ROUNDS)
    own: list[float] = []
    theirs: list[float] = []
    peak = 0
    with progress.stage(f"time {ROUNDS} rounds of {runs} runs on {device.name}", total=ROUNDS) as step:
        for _ in range(ROUNDS):
            result = device.run(
                artifact.library,
                inputs,
                repeat=runs,
                warmup=options.warmup,
                threads=options.threads or None,
                timeout=options.timeout,
            )
            own += result.seconds
            peak = max(peak, result.peak_bytes)
            if other is not None:
                for _ in range(options.warmup):
                    other()
                theirs += [other() for _ in range(runs)]
            step.advance()
    timings = [Timing("tvmbuild", tuple(own), peak)]
    if theirs:
        timings.append(Timing("onnxruntime", tuple(theirs), None))
    return Benchmark(info.description, info.timed, tuple(timings))


def _onnxruntime(model: Path, inputs: Mapping[str, np.ndarray], threads: int) -> Callable[[], float]:
    """Return a function that times one run in ONNX Runtime with all its optimizations on."""
    import onnxruntime

    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(model), settings, providers=["CPUExecutionProvider"])
    feeds = dict(inputs)

    def run() -> float:
        started = time.perf_counter()
        session.run(None, feeds)
        return time.perf_counter() - started

    return run
