"""Time and peak memory of ``tvmbuild build``, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.models import BenchModel
from benchmarks.store import Result
from tvmbuild.support.errors import CompileError
from tvmbuild.support.versions import package_versions

#: Longest that a build may take, in seconds: far above the limits, so that a miss of theirs is still measured.
TIMEOUT = 900
_MEASURE = Path(__file__).with_name("measured_child.py")


def measure_build(model: BenchModel, target_name: str, folder: Path) -> Result:
    """Build a model in a process of its own.

    Args:
        model: what to build.
        target_name: the board.
        folder: receives the artifact.

    Raises:
        CompileError: the build failed or took longer than ``TIMEOUT``.
    """
    command = [sys.executable, "-S", str(_MEASURE), sys.executable, "-m", "tvmbuild", "build", str(model.path)]
    command += ["-t", target_name, "-o", str(folder), "--quiet"]
    for flag, values in (("--shape", model.shapes), ("--value", model.values)):
        for value in values:
            command += [flag, value]
    busy = os.getloadavg()[0]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    except subprocess.TimeoutExpired as error:
        raise CompileError(f"Building {model.name} took over {TIMEOUT} s.", "Is the machine busy?") from error
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise CompileError(f"Building {model.name} failed: {said}", f"tvmbuild build {model.path} -t {target_name}")
    figures = json.loads(done.stdout)
    return {
        "seconds": figures["seconds"],
        "cpu_seconds": figures["cpu_seconds"],
        "peak_mb": figures["peak_bytes"] / 1e6,
        "load_before": busy,
        "versions": package_versions(),
    }
