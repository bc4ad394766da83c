"""Tuning where compiling and timing take turns: batches with their default in front, rounds, heat."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from test_records_of_kernels import RPI4, conv, module
from tuning_fakes import BOARD, FakeBuilder, FakeTrialRunner, task

from tvmbuild.device.protocol import RunRequest
from tvmbuild.records.trial import Failure, Measurement, Trial
from tvmbuild.records.workload import workload_key
from tvmbuild.schedules.library import revision
from tvmbuild.support.errors import DeviceError, ToolchainError
from tvmbuild.target.target import load_target
from tvmbuild.tuning import trials as trials_module
from tvmbuild.tuning.extract import tasks_of
from tvmbuild.tuning.measure import local
from tvmbuild.tuning.measure.local import LocalMeasurer
from tvmbuild.tuning.measure.protocol import Run
from tvmbuild.tuning.task import Candidate


class Batches:
    """Measures batch after batch; ``speed`` says how many times slower than at first the machine is in each."""

    batched = True
    slots = 1
    board = BOARD

    def __init__(self, speed: Sequence[float], outcome: Callable[[dict[str, int]], Any] = lambda choice: None) -> None:
        self._speed, self._outcome = list(speed), outcome
        self.batches: list[list[dict[str, int]]] = []
        self.seen: list[bool] = []

    def measure(self, runs: Sequence[Run]) -> list[Measurement | Failure]:
        speed = self._speed[min(len(self.batches), len(self._speed) - 1)]
        choices = [eval(run.library.read_text())[1] for run in runs]
        self.batches.append(choices)
        outputs: list[Measurement | Failure] = []
        for choice in choices:
            told = self._outcome(choice)
            seconds = (speed * choice["rows"],) * 3
            outputs.append(told if isinstance(told, Failure) else Measurement(seconds, np.zeros(3, "float32")))
        return outputs

    def close(self) -> None: ...


def tried(folder: Path, measurer: Batches, rows: Sequence[int] = (2, 3)) -> tuple[list[Trial], list[Trial]]:
    """Return the trials of a batch, and those that were kept."""
    one = task()
    trier = FakeTrialRunner(FakeBuilder(folder), measurer, seed=0)
    kept: list[Trial] = []
    made = [trial for _, trial in trier.try_defaults([one], lambda _, trial: kept.append(trial))]
    some = [Candidate(0, (row, 0)) for row in rows]
    made += [trial for _, trial in trier.start(one, some, lambda _, trial: kept.append(trial))]
    trier.close()
    return made, kept


def test_a_batch_is_timed_with_its_default_in_front_and_put_on_its_scale(tmp_path: Path) -> None:
    measurer = Batches([1.0, 1.25])
    made, kept = tried(tmp_path, measurer)
    assert made == kept
    assert [[choice["rows"] for choice in batch] for batch in measurer.batches] == [[1], [1, 2, 3]]
    assert [trial.best for trial in made] == pytest.approx([1.0, 2.0, 3.0])
    assert [trial.is_default for trial in made] == [True, False, False]
    assert [trial.readings for trial in made] == [{}, {"drift": 1.25}, {"drift": 1.25}]
    assert {(trial.task, trial.shape, trial.kind, trial.revision) for trial in made} == {
        (task().workload, "conv shape", "conv2d.direct", revision("conv2d.direct"))
    }
    # The libraries of candidates go, the default's stays for the next batch.
    assert len(list(tmp_path.glob("*.so"))) == 1


@pytest.mark.parametrize(
    ("speeds", "cause", "waits"), [([1.0, 2.0, 1.0], "", [0.0]), ([1.0, 2.0], "throttled", [0.0, 9.0, 9.0])]
)
def test_a_batch_on_a_machine_that_got_hot_is_timed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speeds: list[float], cause: str, waits: list[float]
) -> None:
    slept: list[float] = []
    monkeypatch.setattr(trials_module, "_COOLING_SECONDS", 9.0)
    monkeypatch.setattr(trials_module.time, "sleep", slept.append)
    made, _ = tried(tmp_path, Batches(speeds))
    assert {trial.cause for trial in made[1:]} == {cause}
    assert slept == waits
    if cause:
        assert {trial.message for trial in made[1:]} == {"the default takes 2.00 times what it took at the start"}


def test_a_default_that_fails_within_a_batch_fails_the_batch_alone(tmp_path: Path) -> None:
    count = [0]

    def outcome(choice: dict[str, int]) -> Failure | None:
        count[0] += choice["rows"] == 1
        return Failure("compile", "no") if choice["rows"] == 1 and count[0] > 1 else None

    made, _ = tried(tmp_path, Batches([1.0], outcome))
    assert [(trial.cause, trial.message) for trial in made] == [
        ("", ""),
        *[("lost", "the default failed: no")] * 2,
    ]
    assert [trial.seconds == () for trial in made] == [False, True, True]


def test_candidates_without_a_default_have_its_failure(tmp_path: Path) -> None:
    made, kept = tried(tmp_path, Batches([1.0], lambda _: Failure("compile", "x" * 500)))
    assert made == kept
    assert {(trial.cause, len(trial.message), trial.is_default) for trial in made} == {("compile", 400, False)}


def test_only_a_measurer_of_batches_lets_compiling_wait(tmp_path: Path) -> None:
    builder = FakeBuilder(tmp_path)
    trier = FakeTrialRunner(builder, Batches([1.0]), seed=0)
    assert (trier.depth, trier.batch, trier.waits) == (1, 8, None)
    boards: Any = SimpleNamespace(batched=False, slots=3, board=BOARD)
    trier = FakeTrialRunner(builder, boards, seed=0)
    assert (trier.depth, trier.batch) == (2, 12)
    assert trier.waits is not None


class Machine:
    """A device whose runs take so many seconds each, or raise."""

    def __init__(self, seconds: float, errors: Sequence[Exception | None] = ()) -> None:
        self.seconds, self.errors = seconds, list(errors)
        self.asked: list[tuple[int, int, int]] = []

    def run(self, request: RunRequest) -> Any:
        assert request.threads is not None
        self.asked.append((request.repeat, request.warmup, request.threads))
        error = self.errors.pop(0) if self.errors else None
        if error is not None:
            raise error
        return SimpleNamespace(seconds=[self.seconds] * request.repeat, outputs=[np.array([7.0])])


def measurer(monkeypatch: pytest.MonkeyPatch, machine: Machine, slowed: Sequence[bool] = ()) -> LocalMeasurer:
    left = list(slowed)
    monkeypatch.setattr(local, "LocalDevice", lambda _: machine)
    monkeypatch.setattr(local, "is_slowed", lambda before, after: left.pop(0) if left else False)
    monkeypatch.setattr(local, "readings_of", lambda before, after: {"mhz": 5.0})
    return LocalMeasurer(load_target("host"), 3, health=dict, cooling=4.0)


RUN = Run(Path("a.so"), ())


@pytest.mark.parametrize("seconds", [1e-9, local._ROUND_SECONDS / 10.2, 9.0])
def test_a_candidate_runs_in_rounds_for_as_long_as_a_round_takes(
    monkeypatch: pytest.MonkeyPatch, seconds: float
) -> None:
    machine = Machine(seconds)
    found = measurer(monkeypatch, machine).measure([RUN, RUN])
    expected = max(3, min(local._MOST_RUNS, round(local._ROUND_SECONDS / max(seconds, 1e-7))))
    assert [each.seconds for each in found if isinstance(each, Measurement)] == [(seconds,) * local.ROUNDS] * 2
    assert [each.readings for each in found if isinstance(each, Measurement)] == [{"mhz": 5.0}] * 2
    # In turns: the first of each to learn how long it takes, then a round of each.
    assert machine.asked[:4] == [(3, 2, 3), (expected, 2, 3)] * 2
    assert len(machine.asked) == 2 * (local.ROUNDS + 1)
    assert set(machine.asked[4:]) == {(expected, 2, 3)}


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (DeviceError("It did not finish in time."), "time-out"),
        (DeviceError("It died."), "crash"),
        (ToolchainError("Gone.", "Get it."), "crash"),
    ],
)
def test_what_failed_once_is_not_run_again_in_the_other_rounds(
    monkeypatch: pytest.MonkeyPatch, error: Exception, cause: str
) -> None:
    machine = Machine(1.0, [None, None, error])
    first, second = measurer(monkeypatch, machine).measure([RUN, RUN])
    assert isinstance(first, Measurement)
    assert second == Failure(cause, error.message)  # type: ignore[attr-defined]
    assert len(machine.asked) == 2 + 1 + (local.ROUNDS - 1)


def test_a_throttled_machine_cools_and_a_failure_stays_one(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(local.time, "sleep", slept.append)
    (found,) = measurer(monkeypatch, Machine(1.0), [True]).measure([RUN])
    assert isinstance(found, Measurement)
    assert slept == [4.0]
    slept.clear()
    # Each time the first of the two fails at once, and the other runs in all rounds.
    machine = Machine(1.0, [DeviceError("It died."), *[None] * (local.ROUNDS + 1)] * local.ATTEMPTS)
    failed, slow = measurer(monkeypatch, machine, [True] * local.ATTEMPTS).measure([RUN, RUN])
    assert (failed, slow.cause) == (Failure("crash", "It died."), "throttled")  # type: ignore[union-attr]
    assert slept == [4.0] * (local.ATTEMPTS - 1)


def test_the_tasks_of_a_module_are_its_kernels_each_once_with_their_constants() -> None:
    one = conv()
    (variant,) = one.variants
    assert one.calls == 1
    assert one.macs == 12 * 12 * 8 * 16
    assert one.dtype == "float32"
    assert one.operator[:4] == (1, 12, 12, 8)
    assert variant.workload == workload_key(variant.func)
    assert variant.kind == one.kind == "conv2d.direct"
    assert set(variant.constants) == {1}
    assert [task.name for task in tasks_of(module(), RPI4)].count(one.name) == 1
