"""Timing in turn with ONNX Runtime, on a device that only pretends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvmbuild.artifact.manifest import Manifest
from tvmbuild.artifact.open import Artifact
from tvmbuild.checking import bench as module
from tvmbuild.checking.bench import ROUNDS, bench
from tvmbuild.checking.onnxruntime_timing import Round
from tvmbuild.device.protocol import DeviceInfo, RunRequest, RunResult
from tvmbuild.support.errors import OptionError
from tvmbuild.support.options import BenchOptions
from tvmbuild.support.tensor import TensorSpec

FROZEN = {"frozen": {"sr": {"dtype": "int64", "value": 16000}}}


class Pretended:
    """A device whose runs take 2 ms, and that notes in ``order`` who ran."""

    name = "local"

    def __init__(self, kind: str, order: list[str]) -> None:
        self.kind, self.order = kind, order

    def describe(self) -> DeviceInfo:
        return DeviceInfo(self.kind, "pretended", "none", timed=True)

    def run(self, request: RunRequest) -> RunResult:
        self.order.append("tvmbuild")
        return RunResult((), (0.002,) * request.repeat, 100)


def _artifact() -> Artifact:
    spec = TensorSpec("x", "float32", (1, 3))
    manifest = Manifest("m", FROZEN, (spec,), (spec,), {}, {}, {})
    return Artifact(manifest=manifest, folder=Path())


def test_the_two_programs_take_turns_and_get_the_same_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []

    def other(_model: Path, inputs: dict[str, np.ndarray], *, runs: int, **_options: Any) -> Round:
        order.append("onnxruntime")
        assert inputs["sr"] == 16000
        assert inputs["x"].shape == (1, 3)
        return Round((0.003,) * runs, len(order))

    monkeypatch.setattr(module, "time_onnxruntime", other)
    outcome = bench(_artifact(), Pretended("local", order), BenchOptions(runs=11), Path("m.onnx"))
    assert order == ["tvmbuild", "onnxruntime"] * ROUNDS
    own, theirs = outcome.timings
    assert len(own.seconds) == len(theirs.seconds) == 15
    assert outcome.ratio == pytest.approx(1.5)
    assert (own.peak_bytes, theirs.peak_bytes) == (100, 2 * ROUNDS)


def test_onnxruntime_is_not_timed_beside_an_emulated_board() -> None:
    with pytest.raises(OptionError, match="this machine only"):
        bench(_artifact(), Pretended("emulated", []), BenchOptions(), Path("m.onnx"))


def test_alone_there_is_no_ratio() -> None:
    outcome = bench(_artifact(), Pretended("emulated", []), BenchOptions(runs=5))
    assert outcome.ratio is None
    assert [timing.name for timing in outcome.timings] == ["tvmbuild"]
