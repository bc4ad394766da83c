"""Timing ONNX Runtime: the process's report, its inputs by any name, and models of other shapes than declared."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_models import model, saved

from tvmbuild.checking.onnxruntime_timing import main, time_onnxruntime
from tvmbuild.support.errors import DeviceError


def _two_inputs() -> onnx.ModelProto:
    return model([helper.make_node("Add", ["a/b:0", "names"], ["y"])], {"a/b:0": [1, 4], "names": [1, 4]}, ["y"])


@pytest.mark.subprocess
def test_every_run_is_reported_whatever_the_inputs_names(tmp_path: Path) -> None:
    ones = np.ones((1, 4), np.float32)
    feeds = {"a/b:0": ones, "names": ones}
    found = time_onnxruntime(saved(_two_inputs(), tmp_path), feeds, runs=3, warmup=1, threads=1, timeout=60)
    assert len(found.seconds) == 3
    assert min(found.seconds) > 0
    assert found.peak_bytes >= 0


@pytest.mark.subprocess
def test_inputs_of_other_shapes_than_the_model_declares(tmp_path: Path) -> None:
    wide = np.ones((1, 9), np.float32)
    feeds = {"a/b:0": wide, "names": wide}
    assert time_onnxruntime(saved(_two_inputs(), tmp_path), feeds, runs=1, warmup=0, threads=1, timeout=60).seconds


@pytest.mark.subprocess
def test_a_refusal_is_an_error_without_traceback(tmp_path: Path) -> None:
    feeds = {"a/b:0": np.ones((1, 4), np.float32)}
    with pytest.raises(DeviceError, match="ONNX Runtime cannot run"):
        time_onnxruntime(saved(_two_inputs(), tmp_path), feeds, runs=1, warmup=0, threads=1, timeout=60)


def test_the_process_prints_one_json_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [2]}, ["y"]), tmp_path)
    np.savez(tmp_path / "inputs.npz", input_0=np.zeros(2, np.float32), names=np.array(["x"]))
    main([str(path), str(tmp_path / "inputs.npz"), "--runs", "2", "--warmup", "0", "--threads", "1"])
    assert len(json.loads(capsys.readouterr().out)["seconds"]) == 2
