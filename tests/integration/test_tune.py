"""Tuning of one small convolution: predicted for an emulated board, killed and resumed, and with a crash on purpose."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import pytest
from onnx import helper

from tvmbuild.artifact.open import open_artifact
from tvmbuild.codegen.toolchain import find_toolchain, run_compiler
from tvmbuild.pipeline import build
from tvmbuild.records.board_records import read_board
from tvmbuild.records.journal import JOURNAL, read_journal
from tvmbuild.records.maintenance import export, merge, prune, unpack
from tvmbuild.records.trial import Failure, Trial
from tvmbuild.support.options import BuildOptions, TuneOptions
from tvmbuild.target.target import load_target
from tvmbuild.tuning.builder import Builder
from tvmbuild.tuning.extract import extract_tasks
from tvmbuild.tuning.measure.local import LocalMeasurer
from tvmbuild.tuning.session import TuningSession
from tvmbuild.tuning.stopping import Limits
from tvmbuild.tuning.task import Variant
from tvmbuild.tuning.trials import TrialRunner
from tvmbuild.tuning.tune import tune

TOP = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a 1x1 convolution with a ReLU: 3 knobs."""
    weights = np.random.default_rng(0).normal(0, 0.1, (32, 32, 1, 1)).astype("float32")
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    proto = onnx_models.model(nodes, {"x": [1, 32, 12, 12]}, ["y"], {"w": weights})
    return onnx_models.saved(proto, tmp_path_factory.mktemp("model"))


def journal(records: Path) -> tuple[Trial, ...]:
    return tuple(trial for path in sorted(records.glob(f"*/*/{JOURNAL}")) for trial in read_journal(path))


def database_records(records: Path) -> int:
    """Return the number of records that TVM's own reader finds."""
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    return sum(len(JSONDatabase(work_dir=str(path.parent))) for path in records.glob("*/*/board.json"))


@pytest.mark.usefixtures("predictor")
def test_a_predicted_tuning_leaves_records_that_tvm_reads_and_build_uses(model: Path, tmp_path: Path) -> None:
    records, target = tmp_path / "logs", load_target("rpi4")
    options = TuneOptions(emulate=True, trials=4, task="*conv2d*", records=records, min_gain=0.0)
    result = tune(model, target, options)
    assert result.reason == "the 4 trials asked for are done"
    trials = journal(records)
    assert len(trials) == len({trial.key for trial in trials}) == 4
    assert all(trial.ok for trial in trials), [trial.message for trial in trials]
    assert trials[0].is_default
    assert database_records(records) == 4

    built = build(model, target, BuildOptions(output=tmp_path, name="m", records=records, compare=False))
    kernel = next(report for report in built.graph.schedules if report.kind == "conv2d.direct")
    assert kernel.origin.startswith("predicted record of predicted-cortex-a72-")
    best = result.session.best(result.session.states[0])
    assert best is not None
    assert kernel.schedule == best.choice
    manifest = open_artifact(tmp_path / "m.json").manifest
    assert kernel.origin in {entry["origin"] for entry in manifest.fusion["kernels"]}

    # The same records elsewhere, by way of a file, and only what is worth keeping of them.
    entry = read_board(result.folder)
    export([entry], records, tmp_path / "records.tar")
    unpack(tmp_path / "records.tar", tmp_path / "unpacked")
    arrived = tmp_path / "unpacked" / result.folder.relative_to(records)
    other = tmp_path / "other" / result.folder.relative_to(records)
    assert merge(read_board(arrived), other, target).added == 4
    assert merge(read_board(arrived), other, target).added == 0
    assert database_records(tmp_path / "other") == 4
    prune(read_board(other), target)
    kept = read_board(other)
    assert kept.winners() == entry.winners()
    assert database_records(tmp_path / "other") == len(kept.trials) < 4

    plain = build(model, target, BuildOptions(output=tmp_path, name="n", use_records=False, compare=False))
    assert {report.origin for report in plain.graph.schedules} == {"rule"}


@pytest.mark.usefixtures("predictor")
def test_a_killed_run_resumes_with_no_trial_lost_or_doubled(model: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tvmbuild", "tune", str(model), "-t", "rpi4", "--emulate", "--min-gain", "0"]
    command += ["--records", str(tmp_path / "logs"), "--json"]
    environment = {**os.environ, "PYTHONPATH": str(TOP)}
    first = subprocess.Popen(
        [*command, "--trials", "7", "--task", "*conv2d*"], env=environment, stdout=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while len(journal(tmp_path / "logs")) < 3 and time.monotonic() < deadline:
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed = journal(tmp_path / "logs")
    assert 3 <= len(killed) < 7
    path = next((tmp_path / "logs").glob(f"*/*/{JOURNAL}"))
    path.write_bytes(path.read_bytes() + b'{"task": "cut off by the ki')

    done = subprocess.run([*command, "--resume"], env=environment, capture_output=True, text=True, check=True)
    trials = journal(tmp_path / "logs")
    assert trials[: len(killed)] == killed
    assert len(trials) == len({trial.key for trial in trials}) == 7
    assert database_records(tmp_path / "logs") == sum(trial.ok for trial in trials)
    assert json.loads(done.stdout)["trials"] == 7


class CrashingBuilder(Builder):
    """Gives a library that crashes whoever loads it for the second candidate; the first is the default."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.seen: list[tuple[Any, ...]] = []

    def build(self, variant: Variant, choice: Mapping[str, int]) -> Path | Failure:
        library = super().build(variant, choice)
        candidate = (variant.plan, *sorted(choice.items()))
        if candidate not in self.seen:
            self.seen.append(candidate)
        if isinstance(library, Path) and self.seen.index(candidate) == 1:
            source = library.with_suffix(".c")
            source.write_text("__attribute__((constructor)) static void crash(void) { *(volatile int *)8 = 1; }\n")
            toolchain = find_toolchain(load_target("host"))
            run_compiler([*toolchain.linker, "-shared", "-fPIC", "-o", str(library), "-xc", str(source)], "a crash")
        return library


def test_a_candidate_that_crashes_the_runner_is_quarantined_and_the_others_are_measured(
    model: Path, tmp_path: Path
) -> None:
    target = load_target("host")
    tasks = [task for task in extract_tasks(model, target, BuildOptions()) if task.kind == "conv2d.direct"]
    trials: list[Trial] = []
    measurer = LocalMeasurer(target, threads=1)
    with CrashingBuilder(target, find_toolchain(target), 1) as builder:
        runner = TrialRunner(builder, measurer, 0)
        session = TuningSession(
            tasks, runner, store=lambda _, trial: trials.append(trial), limits=Limits(trials=8, min_gain=0.0)
        )
        session.run()
        runner.close()
    crashed = [trial for trial in trials if trial.cause == "quarantined"]
    assert len(crashed) == 1
    assert "SIGSEGV" in crashed[0].message
    assert all(trial.ok or trial.cause == "throttled" for trial in trials if trial not in crashed)
    assert all(len(trial.seconds) == 5 for trial in trials if trial.ok)


def test_a_worker_that_dies_costs_its_candidate_alone(model: Path) -> None:
    target = load_target("host")
    task = next(task for task in extract_tasks(model, target, BuildOptions()) if task.size > 1)
    with Builder(target, find_toolchain(target), 1, entry=dies_once) as builder:
        choice = task.choice(task.default)
        first = builder.build(task.variants[0], choice)
        assert isinstance(first, Failure)
        assert "crashed" in first.message
        assert isinstance(builder.build(task.variants[0], choice), Failure)


def dies_once(connection: object, *_arguments: object) -> None:
    """A worker that ends upon its first job."""
    connection.recv()  # type: ignore[attr-defined]
    os._exit(11)
