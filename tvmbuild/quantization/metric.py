"""A user's own measure of a model's outputs: a Python function or a command.

Function, "module:function": called with the outputs of one sample (arrays by name) and the sample's name (the file that
it came from, to look up a label); returns a number, the higher the better. The mean counts.
Command: called with a folder of 0.npz, 1.npz, ... (outputs by name) and samples.json (their names) as last argument;
prints a number.
"""

from __future__ import annotations

import importlib
import json
import math
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from tvmbuild.quantization.calibration.activation_session import ActivationSession
from tvmbuild.quantization.calibration.sample_set import SampleRef
from tvmbuild.support.errors import OptionError

Outputs = dict[str, np.ndarray]
Metric = Callable[[Sequence[tuple[str, Outputs]]], float]
_TIMEOUT_S = 3600


def load_metric(text: str) -> Metric:
    """Return the metric that a text names.

    Raises:
        OptionError: the module or function does not exist.
    """
    if not re.fullmatch(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*", text):
        return lambda results: _run_command(text, results)
    module, _, name = text.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise OptionError(f"The metric {text} cannot be imported: {error}.", "Write module:function.") from error
    finally:
        sys.path.pop(0)
    return lambda results: _mean(text, [_number(text, function(outputs, where)) for where, outputs in results])


def measure(proto: onnx.ModelProto, samples: Sequence[SampleRef], metric: Metric) -> float:
    """Run a model on samples and return what the metric says of its outputs."""
    session = ActivationSession(proto, [value.name for value in proto.graph.output])
    return metric([(ref.name, session.run(ref.load())) for ref in samples])


def _mean(text: str, values: Sequence[float]) -> float:
    if not values:
        raise OptionError(f"The metric {text} had no sample.", "Give more samples.")
    return math.fsum(values) / len(values)


def _number(text: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise OptionError(f"The metric {text} gave {value!r}, not a number.", "Return one number a sample.") from error
    if not math.isfinite(number):
        raise OptionError(f"The metric {text} gave {number}.", "Return a finite number.")
    return number


def _run_command(text: str, results: Sequence[tuple[str, Outputs]]) -> float:
    with tempfile.TemporaryDirectory(prefix="tvmbuild-metric-") as folder:
        for index, (_, outputs) in enumerate(results):
            arrays: dict[str, Any] = dict(outputs)
            np.savez(Path(folder) / f"{index}.npz", **arrays)
        Path(folder, "samples.json").write_text(json.dumps([where for where, _ in results]), encoding="utf-8")
        try:
            command = [*shlex.split(text), folder]
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=True)
        except (OSError, ValueError, subprocess.SubprocessError) as error:
            said = (getattr(error, "stderr", "") or "").strip()[-300:]
            raise OptionError(f"The metric '{text}' failed: {error} {said}".strip(), "Run it by hand.") from error
    return _number(text, done.stdout.strip())
