"""Times ONNX Runtime in a process of its own: ``python -m tvmbuild.checking.onnxruntime_timing MODEL INPUTS.npz ...``.

tvmbuild's artifact is timed in such a process too (the runner). Neither program's threads are then alive while the
other runs: after a run ONNX Runtime's threads by default wait in a busy loop for a while, and so would take the cores
of whoever is timed next. Turning that default off would time another ONNX Runtime than people run.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tvmbuild.onnx_model.reference import onnx_runtime, with_shapes
from tvmbuild.support.border import Border
from tvmbuild.support.errors import DeviceError
from tvmbuild.support.place import BESIDE

#: What the file of inputs calls the model's inputs; their own names need not be valid names of files.
_PREFIX = "input_"


@dataclass(frozen=True)
class Round:
    """What one process measured.

    Attributes:
        seconds: of each timed run, in order.
        peak_bytes: largest resident set, less what Python and ONNX Runtime held before they had the model.
    """

    seconds: tuple[float, ...]
    peak_bytes: int


def time_onnxruntime(
    model: Path, inputs: Mapping[str, np.ndarray], *, runs: int, warmup: int, threads: int, timeout: float
) -> Round:
    """Start a process that times a model with all of ONNX Runtime's optimizations and defaults.

    Args:
        model: the ONNX file; a copy is timed where it declares other shapes than the inputs have.
        inputs: an array by input's name.
        runs: timed runs, at least 1.
        warmup: runs before them.
        threads: threads of one operator; 0 leaves it to ONNX Runtime.
        timeout: of the process, in seconds.

    Raises:
        DeviceError: ONNX Runtime refuses the model or its inputs, or took too long.
    """
    with tempfile.TemporaryDirectory(prefix="tvmbuild-onnxruntime-") as folder:
        path = Path(folder) / "inputs.npz"
        arrays = {f"{_PREFIX}{index}": array for index, array in enumerate(inputs.values())}
        np.savez(path, **arrays, names=np.array(list(inputs)))  # type: ignore[arg-type]
        command = [sys.executable, "-m", __name__, str(_shaped_file(model, inputs, Path(folder))), str(path)]
        command += ["--runs", str(runs), "--warmup", str(warmup), "--threads", str(threads)]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=timeout, check=False, env=_environment()
            )
        except subprocess.TimeoutExpired as error:
            raise DeviceError(
                f"ONNX Runtime did not finish within {timeout:.0f} seconds.", "Allow more with --timeout."
            ) from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or [f"it exited with {done.returncode}"])[-1]
        raise DeviceError(f"ONNX Runtime cannot run {model.name}: {said}", "Does it run with onnxruntime alone?")
    # Libraries may print before.
    report = _BORDER.parse_json((done.stdout.splitlines() or [""])[-1], "ONNX Runtime")
    return _BORDER.checked(report, Round, "ONNX Runtime")


_BORDER = Border("The times of", DeviceError, "Does it run with onnxruntime alone?")


def _shaped_file(path: Path, inputs: Mapping[str, np.ndarray], folder: Path) -> Path:
    """Return the model's file, or a copy in ``folder`` that declares the shapes of the inputs."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    shaped = with_shapes(model, inputs)
    if shaped is model:
        return path
    onnx.external_data_helper.load_external_data_for_model(shaped, str(path.parent.resolve()))
    copy = folder / "model.onnx"
    # Weights beside the message: a message ends at 2 GiB.
    onnx.save(shaped, copy, save_as_external_data=True)
    return copy


def _environment() -> dict[str, str]:
    """Return this process's environment, with this package found also where it is not installed."""
    paths = [str(BESIDE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}


def peak_resident_bytes() -> int:
    """Return the largest resident set of this process since it started; 0 where there is no /proc."""
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.is_file() else []
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def main(arguments: Sequence[str] | None = None) -> None:
    """Time a model and print ``{"seconds": [...], "peak_bytes": n}``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("inputs")
    for name in ("--runs", "--warmup", "--threads"):
        parser.add_argument(name, type=int, required=True)
    options = parser.parse_args(arguments)
    onnxruntime = onnx_runtime()

    with np.load(options.inputs, allow_pickle=False) as archive:
        feeds = {str(name): archive[f"{_PREFIX}{index}"] for index, name in enumerate(archive["names"])}
    before = peak_resident_bytes()
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 4
    settings.intra_op_num_threads = options.threads
    session = onnxruntime.InferenceSession(options.model, settings, providers=["CPUExecutionProvider"])
    for _ in range(options.warmup):
        session.run(None, feeds)
    seconds = []
    for _ in range(options.runs):
        started = time.perf_counter()
        session.run(None, feeds)
        seconds.append(time.perf_counter() - started)
    json.dump({"seconds": seconds, "peak_bytes": peak_resident_bytes() - before}, sys.stdout)


if __name__ == "__main__":
    main()
