"""What tuning compiles, predicts and learns with, with other people's tools replaced: what they are asked and told."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tvm
from tuning_fakes import task

from tvmbuild.predict.costs import Counts
from tvmbuild.predict.predictor import ProfiledRun
from tvmbuild.records.trial import Failure, Measurement
from tvmbuild.support.errors import CompileError, DeviceError, OutputError, TargetError, ToolchainError
from tvmbuild.target.target import load_target
from tvmbuild.tuning import candidate, cost_model, worker
from tvmbuild.tuning.cost_model import WARMUP, XgboostModel, without_intrinsics
from tvmbuild.tuning.measure import predicted
from tvmbuild.tuning.measure.predicted import RUN_SECONDS, PredictedMeasurer
from tvmbuild.tuning.measure.protocol import Run
from tvmbuild.tuning.worker import BuildJob

RPI4 = load_target("rpi4")
INTRINSICS = "tvm.s_tir.tensor_intrin"


class Jobs:
    """The other end of a worker's connection."""

    def __init__(self, jobs: Sequence[BuildJob], *, hangs_up: bool = False) -> None:
        self._jobs, self._hangs_up = list(jobs), hangs_up
        self.answers: list[Failure | None] = []

    def recv(self) -> BuildJob:
        if not self._jobs:
            raise EOFError
        return self._jobs.pop(0)

    def send(self, answer: Failure | None) -> None:
        if self._hangs_up:
            raise BrokenPipeError
        self.answers.append(answer)


def worked(
    folder: Path, monkeypatch: pytest.MonkeyPatch, outcomes: Sequence[BaseException | None], **more: Any
) -> Jobs:
    """Have a worker do jobs whose compilation ends so; the kernel's text is of the first job alone."""
    left = iter(outcomes)
    sources: list[object] = []

    def compiled(source: object, *_: object) -> None:
        sources.append(source)
        outcome = next(left)
        if outcome is not None:
            raise outcome

    source = folder / "kernel.json"
    source.write_text(tvm.ir.save_json(tvm.tirx.const(7, "int32")))
    monkeypatch.setattr(worker, "leave_group", lambda: None)
    monkeypatch.setenv("TVM_NUM_THREADS", "9")
    monkeypatch.setattr(candidate, "compile_candidate", compiled)
    paths = [source, *[folder / "gone.json"] * (len(outcomes) - 1)]
    jobs = Jobs([BuildJob("same", path, {}, folder / "out.so") for path in paths], **more)
    worker.work(jobs, RPI4, None)  # type: ignore[arg-type]
    assert len({id(each) for each in sources}) == len(sources)
    return jobs


@pytest.mark.parametrize(
    ("outcome", "cause", "message"),
    [
        (OutputError("No room.", "Make some."), "lost", "No room."),
        (OSError(28, "No space"), "lost", "[Errno 28] No space"),
        (MemoryError("of 7 GB"), "lost", "of 7 GB"),
        (CompileError("It cannot be."), "compile", "It cannot be."),
        (ToolchainError("No linker.", "Get one."), "compile", "No linker."),
        (RuntimeError(f"{'x' * 700}end \n"), "compile", f"RuntimeError: {'x' * 597}end"),
        (KeyError("a"), "compile", "KeyError: 'a'"),
    ],
)
def test_an_error_of_the_machine_is_not_the_candidates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Exception, cause: str, message: str
) -> None:
    jobs = worked(tmp_path, monkeypatch, [outcome, None])
    assert jobs.answers == [Failure(cause, message), None]


def test_a_worker_reads_a_kernel_once_and_ends_with_its_owner(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert worked(tmp_path, monkeypatch, [None, None, None]).answers == [None] * 3
    assert worked(tmp_path, monkeypatch, [None, None], hangs_up=True).answers == []


def test_a_source_that_cannot_be_read_is_the_machines_fault(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker, "leave_group", lambda: None)
    jobs = Jobs([BuildJob("a", tmp_path / "gone.json", {}, tmp_path / "out.so")])
    worker.work(jobs, RPI4, None)  # type: ignore[arg-type]
    (answer,) = jobs.answers
    assert answer is not None
    assert (answer.cause, "gone.json" in answer.message) == ("lost", True)


RUN = Run(Path("kernel.so"), (np.zeros(1, "float32"),))


def block(executed: int, compute: float, lines: int) -> Any:
    """Return a priced block that takes lines from the second level cache."""
    return SimpleNamespace(block=SimpleNamespace(executed=executed), counts=Counts(compute, l1_misses=lines))


def predictor(monkeypatch: pytest.MonkeyPatch, blocks: Any, asked: list[Any]) -> PredictedMeasurer:
    monkeypatch.setattr(predicted, "find_llvm", lambda: SimpleNamespace(version="22.1"))

    def profiled(run: Any) -> Any:
        asked.append(run)
        if isinstance(blocks, Exception):
            raise blocks
        return SimpleNamespace(instructions=3000), SimpleNamespace(outputs=[np.array([5.0])])

    monkeypatch.setattr(predicted, "run_profiled", profiled)
    monkeypatch.setattr(predicted, "price_profile", lambda *_: blocks)
    return PredictedMeasurer(RPI4)


def test_a_prediction_is_the_priced_cycles_for_all_instructions_over_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 3000 instructions 2000 are priced; the others are taken to cost as much."""
    asked: list[Any] = []
    measurer = predictor(monkeypatch, [block(1500, 400.0, 60), block(500, 300.0, 0)], asked)
    found, again = measurer.measure([RUN, RUN])
    assert isinstance(found, Measurement)
    costs = RPI4.core.costs
    cycles = 1.5 * (costs.compute_factor * 700 + 60 * costs.l2_line)
    assert found.seconds == pytest.approx((cycles / (RPI4.max_mhz * 1e6),))
    assert found.readings == {"instructions": 3000.0, "comp": 1050, "est": round(cycles)}
    assert found.output.tolist() == [5.0]
    assert found == again
    assert asked[0] == ProfiledRun(RUN.library, RPI4, RUN.inputs, 1, True, RUN_SECONDS, cold=True)
    assert measurer.board.predicted
    assert measurer.slots >= 1
    measurer.close()


def test_a_profile_of_which_nothing_is_priced_takes_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = predictor(monkeypatch, [], []).measure([RUN])
    assert isinstance(found, Measurement)
    assert found.seconds == (0.0,)


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (DeviceError("It did not finish within 1 s."), "time-out"),
        (DeviceError("It died of SIGSEGV."), "crash"),
        (DeviceError("What?", details={"cause": "load"}), "load"),
        (ToolchainError("llvm-mca is gone.", "Get it."), "lost"),
    ],
)
def test_what_fails_while_predicting_has_its_cause(
    monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str
) -> None:
    assert predictor(monkeypatch, error, []).measure([RUN]) == [Failure(cause, error.message)]  # type: ignore[attr-defined]


def test_a_board_without_a_clock_is_not_predicted() -> None:
    with pytest.raises(TargetError, match="max_mhz"):
        PredictedMeasurer(dataclasses.replace(RPI4, max_mhz=0))


class Stub:
    """In place of MetaSchedule's model; a candidate's score is the first of its knobs."""

    def __init__(self, **options: Any) -> None:
        self.options, self.updates = options, list[Any]()

    def update(self, context: Any, candidates: list[Any], results: list[Any]) -> None:
        self.updates.append((context, candidates, [float(result.run_secs[0]) for result in results]))

    def predict(self, context: Any, candidates: list[Any]) -> Any:
        return np.array([float(number) for _, number in candidates])


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    from tvm.s_tir.meta_schedule import arg_info, search_strategy
    from tvm.s_tir.meta_schedule.cost_model import xgb_model

    monkeypatch.setattr(xgb_model, "XGBModel", Stub)
    monkeypatch.setattr(xgb_model, "XGBConfig", lambda **options: options)
    monkeypatch.setattr(cost_model, "scheduled", lambda _func, _target, choice: choice["rows"])
    monkeypatch.setattr(arg_info.ArgInfo, "from_prim_func", lambda _func: ())
    monkeypatch.setattr(search_strategy, "MeasureCandidate", lambda schedule, _info: (object(), schedule))
    monkeypatch.setattr(XgboostModel, "_context", lambda _self, task: f"context of {task.name}")
    return XgboostModel(RPI4, 5)


def test_nothing_is_ranked_before_the_model_knows_enough(model: Any) -> None:
    """MetaSchedule's own model would draw numbers until then, which no seed repeats."""
    one = task(rows=4)
    some = list(one.candidates())[:4]
    assert model._model.options == {
        "config": {"seed": 5, "nthread": 1},
        "num_warmup_samples": WARMUP,
        "verbose_eval": 0,
    }
    model.learn(one, [], [])
    model.learn(one, some[:3], [3.0, 1.0, 2.0])
    assert model.score(one, some) == [0.0] * 4
    for _ in range(WARMUP - 4):
        model.learn(one, some[:1], [1.0])
    assert model.score(one, some) == [0.0] * 4
    model.learn(one, some[:1], [1.0])
    assert model.score(one, some) == [float(one.choice(each)["rows"]) for each in some]
    context, _, seconds = model._model.updates[0]
    assert (context, seconds) == ("context of conv", [3.0, 1.0, 2.0])
    assert len(model._model.updates) == WARMUP - 2


def test_a_candidate_is_scheduled_once_for_the_model(model: Any) -> None:
    one, other = task(number=1), task(number=2)
    first, again = model._measured(one, [one.default]), model._measured(one, [one.default])
    assert first[0] is again[0]
    assert model._measured(other, [other.default])[0] is not first[0]


@pytest.mark.parametrize("there", [True, False])
def test_the_intrinsics_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch, there: bool) -> None:
    mine = ModuleType("mine")
    if there:
        monkeypatch.setitem(sys.modules, INTRINSICS, mine)
    else:
        monkeypatch.delitem(sys.modules, INTRINSICS, raising=False)
    with without_intrinsics():
        assert (sys.modules[INTRINSICS] is mine) == there
    assert sys.modules.get(INTRINSICS) is (mine if there else None)
    with pytest.raises(ZeroDivisionError), without_intrinsics():
        raise ZeroDivisionError
    assert sys.modules.get(INTRINSICS) is (mine if there else None)
