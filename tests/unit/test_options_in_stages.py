"""Behind the command, each option arrives at every stage that depends on it: one that is dropped has no effect."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import numpy as np
import pytest
from stages import Reached, Stages

from tvmbuild import pipeline
from tvmbuild.artifact.manifest import Manifest
from tvmbuild.artifact.open import Artifact
from tvmbuild.checking import bench as benching
from tvmbuild.checking import verify as verifying
from tvmbuild.checking.difference import difference
from tvmbuild.support.options import BenchOptions, BuildOptions, QuantizeOptions, TuneOptions, VerifyOptions
from tvmbuild.support.precision import Precision
from tvmbuild.support.tensor import TensorSpec
from tvmbuild.support.weights import Prefer, Weights
from tvmbuild.target.target import load_target
from tvmbuild.tuning import tune as tuning

BOARD = load_target("rpi4")
#: A value of each option that is not its default.
OTHER: Mapping[str, Any] = {
    "shape": ("x=1,3",),
    "value": ("y=2",),
    "output": Path("other"),
    "name": "other",
    "toolchain": "zig",
    "compare": False,
    "seed": 7,
    "precision": Precision.FP16,
    "weights": Weights.FP16,
    "prefer": Prefer.SIZE,
    "calibrate": Path("samples"),
    "dump_ir": Path("ir"),
    "records": Path("records"),
    "use_records": False,
    "strips": False,
    "board": "desk",
    "limit": ("seconds=99",),
    "emulate": True,
    "tracker": "127.0.0.1:9999",
    "trials": 7,
    "time": "7s",
    "task": "conv*",
    "min_gain": 0.5,
    "workers": 7,
    "resume": True,
    "inputs": Path("inputs"),
    "samples": 7,
    "tolerance": 0.5,
    "threads": 7,
    "timeout": 7.0,
    "runs": 700,
    "warmup": 7,
}


@dataclass(frozen=True)
class Work:
    """What runs behind a command.

    Attributes:
        options: its options.
        start: runs it with options, on stages, up to the last one that reads any.
        readers: for each option the stages that receive something else when it has another value.
        elsewhere: options that the command reads; test_options_arrive.py sees them arrive.
    """

    options: type[Any]
    start: Callable[[Any, Stages], object]
    readers: Mapping[str, set[str]]
    elsewhere: frozenset[str] = frozenset()


def start_build(options: BuildOptions, stages: Stages, quantization: QuantizeOptions | None = None) -> None:
    for name in ("require_precision", "check_writable", "find_toolchain", "quantize_model", "prepare", "to_relax"):
        stages.replace(pipeline, name)
    stages.replace(pipeline, "tuned_schedules", (None, ()))
    stages.replace(pipeline, "optimize", last=True)
    with pytest.raises(Reached):
        build(options, quantization)


def build(options: BuildOptions, quantization: QuantizeOptions | None) -> None:
    if quantization is not None:
        pipeline.build_int8(Path("net.onnx"), BOARD, options, quantization)
    else:
        pipeline.build(Path("net.onnx"), BOARD, options)


def start_tune(options: TuneOptions, stages: Stages) -> None:
    for name in (
        *("require_precision", "find_toolchain", "locked", "extract_tasks", "chosen_tasks", "nearest"),
        *("Builder", "TrialRunner", "TrialWriter", "XgboostModel"),
    ):
        stages.replace(tuning, name)
    measurer = MagicMock(name="measurer")
    for name in ("PredictedMeasurer", "RpcMeasurer", "LocalMeasurer"):
        stages.replace(tuning, name, measurer)
    stages.replace(tuning, "board_folder", Path("board"))
    before = SimpleNamespace(options={name: getattr(options, name) for name in tuning.KEPT})
    stages.replace(tuning, "read_run", before)
    stages.replace(tuning, "TuningSession", last=True)
    with pytest.raises(Reached):
        tuning.tune(Path("net.onnx"), load_target("host"), options)


def start_bench(options: BenchOptions, stages: Stages) -> None:
    device = MagicMock(name="device")
    device.describe.return_value = SimpleNamespace(kind="local", description="", timed=True)
    ran = SimpleNamespace(seconds=(1.0,), peak_bytes=1)
    stages.replace(device, "run", ran)
    for name, result in (("load_samples", [{}]), ("frozen_values", {}), ("time_onnxruntime", ran)):
        stages.replace(benching, name, result)
    benching.bench(MagicMock(name="artifact"), device, options, Path("net.onnx"))


def start_verify(options: VerifyOptions, stages: Stages) -> None:
    spec = TensorSpec("y", "float32", (1,))
    manifest = Manifest("m", {"rounding": {"code_bits": 8, "half": False}}, (), (spec,), {}, {}, {})
    zeros = np.zeros(1, np.float32)
    for name, result in (
        ("check_same_model", None),
        ("load_samples", [{}]),
        ("run_reference", {"y": zeros}),
        ("_nudged_reference", {"y": zeros}),
        ("difference", difference(spec, zeros, zeros, 0.1)),
    ):
        stages.replace(verifying, name, result)
    device = MagicMock(name="device")
    stages.replace(device, "run", SimpleNamespace(outputs=(zeros,), seconds=(1.0,), peak_bytes=1))
    verifying.verify(Artifact(Path("a"), manifest), Path("net.onnx"), device, options)


_OF_BOTH: Mapping[str, set[str]] = {
    "output": {"check_writable"},
    "name": {"check_writable"},
    "toolchain": {"find_toolchain"},
    "precision": {"require_precision", "optimize"},
    "weights": {"tuned_schedules", "optimize"},
    "prefer": {"tuned_schedules", "optimize"},
    "dump_ir": {"check_writable", "optimize"},
    "records": {"tuned_schedules"},
    "use_records": {"tuned_schedules", "optimize"},
    "board": {"tuned_schedules"},
    "strips": {"optimize"},
}
_MODEL = ("shape", "value", "limit")
WORK: Mapping[str, Work] = {
    "build": Work(
        BuildOptions,
        start_build,
        {**_OF_BOTH, **{key: {"prepare"} for key in (*_MODEL, "compare", "seed")}},
        # A build that does not quantize has no samples; test_strict.py sees what "strict" does with the report.
        frozenset({"target", "calibrate", "strict"}),
    ),
    "build --int8": Work(
        BuildOptions,
        lambda options, stages: start_build(options, stages, QuantizeOptions()),
        {
            **_OF_BOTH,
            **{key: {"quantize_model", "prepare"} for key in ("limit", "compare", "seed")},
            # The quantized model has the shapes and the frozen inputs.
            **{key: {"quantize_model"} for key in ("shape", "value", "calibrate")},
        },
        frozenset({"target", "strict"}),
    ),
    "tune": Work(
        TuneOptions,
        start_tune,
        {
            **{key: {"extract_tasks"} for key in _MODEL},
            "precision": {"require_precision", "extract_tasks"},
            "toolchain": {"find_toolchain"},
            "emulate": {"PredictedMeasurer", "LocalMeasurer"},
            "tracker": {"RpcMeasurer", "LocalMeasurer"},
            **{key: {"TuningSession"} for key in ("trials", "time", "min_gain")},
            "task": {"chosen_tasks"},
            "seed": {"TrialRunner", "XgboostModel", "TuningSession"},
            "records": {"board_folder"},
            "workers": {"Builder"},
            "resume": {"read_run"},
        },
        # The key is asked for at a tracker alone.
        frozenset({"target", "key"}),
    ),
    "bench": Work(
        BenchOptions,
        start_bench,
        {
            **{key: {"load_samples"} for key in ("inputs", "seed")},
            **{key: {"run", "time_onnxruntime"} for key in ("runs", "warmup", "threads", "timeout")},
        },
        frozenset({"on", "tracker", "key"}),
    ),
    "verify": Work(
        VerifyOptions,
        start_verify,
        {
            **{key: {"load_samples"} for key in ("inputs", "samples")},
            "seed": {"load_samples", "_nudged_reference"},
            # With a tolerance of the user's, no second run of the reference says what to allow.
            "tolerance": {"difference", "_nudged_reference"},
            **{key: {"run"} for key in ("threads", "timeout")},
        },
        # Only --bisect prepares models.
        frozenset({"on", "tracker", "key", "limit"}),
    ),
}


@pytest.mark.parametrize(
    ("work", "name"),
    [
        (work, item.name)
        for work, told in WORK.items()
        for item in dataclasses.fields(told.options)
        if item.name not in told.elsewhere
    ],
)
def test_an_option_arrives_at_each_stage_behind_the_command(
    work: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = WORK[work]
    assert name in told.readers, f"say in WORK which stages of {work} read {name}"
    plain, changed = Stages(monkeypatch), Stages(monkeypatch)
    told.start(told.options(), plain)
    told.start(told.options(**{name: OTHER[name]}), changed)
    stages = {*plain.names, *changed.names}
    assert {stage for stage in stages if plain.calls(stage) != changed.calls(stage)} == told.readers[name]
