"""Records of real kernels: as other tools read them, as they are merged, and as a build takes its choices from them."""

from __future__ import annotations

import dataclasses
import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from schedule_harness import build_module
from tuning_fakes import BOARD
from tvm import relax, s_tir

from tvmbuild import schedules
from tvmbuild.graph.pipeline import make_kernels
from tvmbuild.records import fingerprint, maintenance, values
from tvmbuild.records.apply import TunedSchedules, distance, tuned_schedules
from tvmbuild.records.board_records import BoardRecords, board_folder, read_board, write_board
from tvmbuild.records.database import DatabaseImage, scheduled
from tvmbuild.records.fingerprint import BoardIdentity
from tvmbuild.records.journal import JOURNAL, append_line, read_journal, trial_line
from tvmbuild.records.maintenance import merge, prune, pruned
from tvmbuild.records.trial import Trial
from tvmbuild.records.workload import workload_key
from tvmbuild.schedules.knob import defaults
from tvmbuild.support.errors import RecordsError
from tvmbuild.target.target import load_target, predicted_core
from tvmbuild.tuning.extract import tasks_of
from tvmbuild.tuning.task import Task

RPI4 = load_target("rpi4")


@cache
def module(size: int = 12, channels: int = 8) -> Any:
    """A convolution of images of a size, before scheduling."""

    def body(x: Any) -> Any:
        weights = relax.const(np.ones((16, channels, 1, 1), "float32"))
        return relax.op.nn.conv2d(x, weights, data_layout="NHWC", kernel_layout="OIHW")

    return make_kernels(build_module([(1, size, size, channels)], body), RPI4, schedules)


@cache
def conv(size: int = 12, channels: int = 8) -> Task:
    (task,) = (task for task in tasks_of(module(size, channels), RPI4) if task.operator)
    return task


def func(task: Task) -> Any:
    return task.variants[0].func


def trial(task: Task, seconds: float = 1.0, number: int = 0, **more: Any) -> Trial:
    """The outcome of one of a task's candidates; the first is the default."""
    candidate = list(task.candidates())[number]
    made = Trial(task.workload, task.workload, task.choice(candidate), "", (seconds,), kind=task.kind, shape=task.shape)
    told = {"operator": task.operator, "dtype": task.dtype, "is_default": number == 0, "time": 5.0}
    return dataclasses.replace(made, **{**told, **more})


def failed(task: Task, number: int, cause: str) -> Trial:
    return trial(task, 1.0, number, cause=cause, is_default=False)


def recorded(records: Path, *trials: Trial, board: BoardIdentity = BOARD, tasks: tuple[Task, ...] = ()) -> BoardRecords:
    """Write a board's folder as tuning does."""
    folder = board_folder(records, RPI4, board)
    folder.mkdir(parents=True, exist_ok=True)
    write_board(folder, board)
    image = DatabaseImage(folder, RPI4)
    for task in tasks:
        image.add_workload(func(task))
    for each in trials:
        append_line(folder / JOURNAL, trial_line(each))
        if each.ok and tasks:
            image.add_record(each)
    return read_board(folder)


def read_by_tvm(folder: Path) -> Any:
    from tvm.s_tir.meta_schedule.database import JSONDatabase

    return JSONDatabase(work_dir=str(folder))


def test_tvms_database_reads_the_image_and_replays_its_traces(tmp_path: Path) -> None:
    one, other = conv(), conv(13)
    trials = [trial(one, 3.0), trial(one, 1.0, 1), trial(other, 2.0), failed(one, 2, "crash")]
    entry = recorded(tmp_path, *trials, tasks=(one, other))
    database = read_by_tvm(entry.folder)
    found = database.get_all_tuning_records()
    assert sorted(float(record.run_secs[0]) for record in found) == [1.0, 2.0, 3.0]
    (best,) = database.get_top_k(database.commit_workload(found[0].workload.mod), 1)
    assert workload_key(best.workload.mod["main"]) == one.workload
    assert float(best.run_secs[0]) == 1.0
    schedule = s_tir.Schedule(best.workload.mod)
    best.trace.apply_to_schedule(schedule, remove_postproc=False)
    assert tvm_ffi.structural_hash(schedule.mod) == tvm_ffi.structural_hash(
        scheduled(func(one), RPI4, trials[1].choice).mod
    )


def test_an_image_has_each_kernel_once_and_is_mended_after_a_kill(tmp_path: Path) -> None:
    one = conv()
    trials = [trial(one, float(number + 1), number) for number in range(4)]
    entry = recorded(tmp_path, trials[0], tasks=(one,))
    image = DatabaseImage(entry.folder, RPI4)
    image.add_workload(func(one))
    assert set(image.functions()) == {one.workload}
    lines = sorted(path.name for path in entry.folder.glob("database_*.json"))
    assert lines == ["database_tuning_record.json", "database_workload.json"]
    assert (entry.folder / "database_workload.json").read_text().count("\n") == 1
    records = entry.folder / "database_tuning_record.json"
    stranger = dataclasses.replace(trials[1], workload="f" * 16)
    image.mend([*trials[:3], stranger, dataclasses.replace(trials[3], cause="crash")])
    whole = records.read_bytes()
    assert whole.count(b"\n") == 3
    image.mend(trials[:3])
    assert records.read_bytes() == whole
    # More records than trials: another's journal was cut; the image is written anew.
    image.mend(trials[:2])
    assert records.read_bytes() == b"".join(whole.splitlines(keepends=True)[:2])
    with records.open("ab") as file:
        file.write(b"[0, torn")
    DatabaseImage(entry.folder, RPI4).mend(trials[:3])
    assert records.read_bytes() == whole


@pytest.mark.parametrize("damage", [b"no JSON\n", b"[1, 2]\n", b"\xff\xfe\n", b'["a", "b"]\n'])
def test_a_damaged_image_is_named(tmp_path: Path, damage: bytes) -> None:
    entry = recorded(tmp_path, trial(conv()), tasks=(conv(),))
    (entry.folder / "database_workload.json").write_bytes(damage)
    with pytest.raises(RecordsError, match=r"database_workload\.json (is damaged|cannot be read)"):
        DatabaseImage(entry.folder, RPI4)


def test_a_merge_adds_what_is_not_there_and_the_image_with_it(tmp_path: Path) -> None:
    one, other = conv(), conv(13)
    first, second, third = trial(one, 3.0), trial(one, 1.0, 1), trial(other, 2.0)
    lost = failed(other, 1, "crash")
    source = recorded(tmp_path / "from", first, second, third, lost, tasks=(one, other))
    entry = recorded(tmp_path / "to", first, tasks=(one,))
    done = merge(source, entry.folder, RPI4)
    assert (done.folder, done.added, done.known) == (entry.folder, 3, 1)
    assert read_board(entry.folder).trials == (first, second, third, lost)
    assert len(read_by_tvm(entry.folder).get_all_tuning_records()) == 3
    assert merge(source, entry.folder, RPI4).added == 0
    empty = board_folder(tmp_path / "new", RPI4, BOARD)
    assert merge(source, empty, RPI4).added == 4
    alien = dataclasses.replace(source, board=dataclasses.replace(BOARD, about="else"))
    with pytest.raises(RecordsError, match="another board"):
        merge(alien, entry.folder, RPI4)


def test_a_prune_keeps_the_default_the_winner_and_what_is_quarantined(tmp_path: Path) -> None:
    one, other = conv(), conv(13)
    trials = [trial(one, 3.0), trial(one, 2.0, 1), trial(one, 1.0, 2), trial(one, 2.5, 3)]
    trials += [
        failed(one, 4, "quarantined"),
        failed(one, 5, "crash"),
        trial(other, 1.0),
    ]
    entry = recorded(tmp_path, *trials, tasks=(one, other))
    (entry.folder / "run-net.json").write_text("{}")
    assert pruned(entry) == [trials[at] for at in (0, 2, 4, 6)]
    assert prune(entry, RPI4) == 3
    assert list(read_journal(entry.folder / JOURNAL)) == [trials[at] for at in (0, 2, 4, 6)]
    assert len(read_by_tvm(entry.folder).get_all_tuning_records()) == 3
    assert not (entry.folder / "run-net.json").exists()


def test_a_build_takes_the_record_of_its_kernel_before_that_of_a_near_one(tmp_path: Path) -> None:
    one, near, far = conv(), conv(14), conv(29)
    entry = recorded(tmp_path, trial(one, 1.0, 3), trial(far, 1.0, 2))
    tuned, notes = tuned_schedules(tmp_path, RPI4)
    assert notes == ()
    found = tuned.find(func(one), RPI4)
    assert found is not None
    assert found.choice == trial(one, 1.0, 3).choice
    assert found.text == f"predicted record of {entry.folder.name}"
    borrowed = tuned.find(func(near), RPI4)
    assert borrowed is not None
    assert borrowed.text == f"from the near {one.shape} of {entry.folder.name}"
    assert set(borrowed.choice) == set(found.choice)
    assert TunedSchedules([]).find(func(one), RPI4) is None
    assert tuned.find(func(conv(12, 4)), RPI4) is None
    _, reports = tuned.schedule_module(module(), RPI4)
    assert [report.origin for report in reports if report.macs] == [found.text]
    measured = dataclasses.replace(entry, board=dataclasses.replace(BOARD, predicted=False))
    again = TunedSchedules([measured]).find(func(one), RPI4)
    assert again is not None
    assert again.text == f"measured record of {entry.folder.name}"


def of_plans(task: str, operator: tuple[int, ...], **seconds: float) -> list[Trial]:
    """A default and the times of other plans; "rule" is another candidate of the rule's plan."""
    trials = []
    for number, (plan, time) in enumerate(seconds.items()):
        name = "" if plan in ("default", "rule") else plan
        workload = f"{task}{name}"
        told: dict[str, Any] = {"operator": operator, "dtype": "float32", "is_default": plan == "default"}
        trials.append(Trial(task, workload, {"rows": number}, name, (time,), **told))
    return trials


ONE, TWO = (1, 8, 8, 4), (1, 9, 9, 4)


@pytest.mark.parametrize(
    ("trials", "plans"),
    [
        (of_plans("a", ONE, default=4.0, tall=2.0, wide=3.0), {ONE: "tall"}),
        (of_plans("a", ONE, default=4.0, rule=1.0, tall=2.0), {}),
        (of_plans("a", ONE, default=4.0, tall=5.0), {}),
        (of_plans("a", (), default=4.0, tall=2.0), {}),
        (of_plans("a", ONE, tall=2.0, wide=1.0), {}),
        # Kernels with the same convolution share its plan: the one with the least sum of times over the defaults'.
        (
            [
                *of_plans("a", ONE, default=4.0, tall=2.0, wide=2.4),
                *of_plans("b", ONE, default=10.0, tall=9.0, wide=1.0),
            ],
            {ONE: "wide"},
        ),
        ([*of_plans("a", ONE, default=4.0, tall=2.0), *of_plans("b", ONE, default=4.0, wide=1.0)], {ONE: "wide"}),
        (
            [*of_plans("a", ONE, default=4.0, tall=1.0), *of_plans("b", TWO, default=4.0, wide=1.0)],
            {ONE: "tall", TWO: "wide"},
        ),
        # A plan that lost in one kernel counts as no gain there.
        ([*of_plans("a", ONE, default=4.0, tall=3.0), *of_plans("b", ONE, default=4.0, rule=1.0, tall=2.0)], {}),
    ],
)
def test_a_convolution_gets_the_plan_that_was_best_in_all_its_kernels(
    trials: list[Trial], plans: dict[Any, str]
) -> None:
    entry = BoardRecords(Path("there"), BOARD, tuple(trials))
    assert entry.plans() == {(operator, "float32"): plan for operator, plan in plans.items()}


@pytest.mark.parametrize("change", [{"kind": "matmul"}, {"choice": {"other": 1}}, {"operator": ()}])
def test_nothing_is_borrowed_from_another_kind_of_kernel(tmp_path: Path, change: dict[str, Any]) -> None:
    recorded(tmp_path, trial(conv(29), 1.0, 2, **change))
    tuned, _ = tuned_schedules(tmp_path, RPI4)
    assert tuned.find(func(conv()), RPI4) is None


def test_a_choice_that_this_version_does_not_offer_is_not_applied(tmp_path: Path) -> None:
    one = conv()
    odd = dict.fromkeys(trial(one).choice, 10**6)
    recorded(tmp_path, trial(one, choice=odd))
    tuned, _ = tuned_schedules(tmp_path, RPI4)
    found = tuned.find(func(one), RPI4)
    # It is near itself: the nearest candidates are taken, and said to be.
    assert found is not None
    assert found.text.startswith("from the near")
    knobs = one.variants[0].knobs
    assert found.choice == {knob.name: max(knob.candidates) for knob in knobs}
    assert set(defaults(knobs)) == set(found.choice)


def test_the_first_board_comes_before_the_others(tmp_path: Path) -> None:
    one = conv()
    boards = [dataclasses.replace(BOARD, facts={"revision": name}) for name in "ab"]
    entries = [
        recorded(tmp_path / name, trial(one, 1.0, number), board=board)
        for name, number, board in zip("ab", (1, 2), boards, strict=True)
    ]
    found = [TunedSchedules(order).find(func(one), RPI4) for order in (entries, entries[::-1])]
    assert [each.choice for each in found if each] == [trial(one, 1.0, number).choice for number in (1, 2)]


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((1, 8, 8, 5), (1, 8, 8, 5), 0.0),
        ((1, 8, 8, 5), (2, 4, 8, 5), 2 * np.log(2)),
        ((1, 1, 1, 5), (1, 1, 3, 5), np.log(3)),
        ((1, 8, 8, 5), (1, 8, 8, 6), np.inf),
        ((1, 8, 8), (1, 8, 8, 5), np.inf),
        ((), (), np.inf),
        ((1, 0, 8, 5), (1, 8, 8, 5), np.inf),
        ((1, 8, 8, 5), (1, 8, -1, 5), np.inf),
        ((1, 8, 8, 0), (1, 8, 8, 0), 0.0),
    ],
)
def test_kernels_are_apart_by_the_sizes_of_their_images(one: Any, other: Any, expected: float) -> None:
    assert distance(one, other) == pytest.approx(expected)


_BIG = 1 << 63


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (values.as_whole, [0, -_BIG, _BIG - 1], [True, 1.0, "1", -_BIG - 1, _BIG, None]),
        (values.as_number, [0, 1.5, _BIG - 1024], [True, "1", float(_BIG), -float(_BIG), float("nan"), None]),
        (values.as_duration, [1e-9, 3], [0, -1.0, float("inf"), True]),
        (values.as_text, ["", "x" * (1 << 16)], ["x" * ((1 << 16) + 1), "\ud800", 3, None]),
        (values.as_flag, [True, False], [0, 1, "true", None]),
        (values.as_list, [[], [1]], [(), {}, "a", None]),
        (values.as_object, [{}, {"a": 1}], [[], {"\ud800": 1}, {3: 1}, None]),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_value_is_what_its_field_has_to_be_up_to_the_last_one(read: Any, good: list[Any], bad: list[Any]) -> None:
    assert [read(value, "it") for value in good] == good
    for value in bad:
        with pytest.raises(ValueError):  # noqa: PT011
            read(value, "it")


def test_a_file_as_large_as_allowed_is_read_and_a_larger_one_is_not(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 8)
    assert values.read_small(path, 8) == b"x" * 8
    with pytest.raises(ValueError, match="larger"):
        values.read_small(path, 7)
    path.write_bytes(b"x" * ((1 << 20) + 1))
    with pytest.raises(ValueError, match="larger"):
        values.read_small(path)
    with pytest.raises(ValueError, match="no file"):
        values.read_small(tmp_path)
    with pytest.raises(ValueError, match="too deeply"):
        values.parse_object("[" * 10**6)


def test_boards_of_which_anything_differs_have_folders_of_their_own() -> None:
    boards = [
        BOARD,
        dataclasses.replace(BOARD, predicted=False),
        dataclasses.replace(BOARD, core="cortex-a76"),
        dataclasses.replace(BOARD, facts={"revision": "2"}),
        dataclasses.replace(BOARD, facts={"revision": "1", "clock": "1"}),
    ]
    assert len({board.name for board in boards}) == len(boards)
    assert dataclasses.replace(BOARD, about="else").name == BOARD.name
    assert BOARD.name.rpartition("-")[0] == "predicted-cortex-a72"
    assert len(BOARD.name.rpartition("-")[2]) == 8
    assert BoardIdentity.from_json(json.loads(json.dumps(BOARD.to_json()))) == BOARD


def test_a_predicted_board_is_the_core_its_clock_and_the_tools() -> None:
    one = fingerprint.predicted_board(RPI4, predicted_core(RPI4), "22.1")
    assert (one.core, one.predicted) == (RPI4.cpu, True)
    assert {"llvm-mca", "model", "mhz", "threads", "costs", "tvm", "llvm"} == set(one.facts)
    assert one.facts["mhz"] == str(RPI4.max_mhz)
    assert one.name != fingerprint.predicted_board(RPI4, predicted_core(RPI4), "22.2").name


def test_this_machine_is_known_by_its_processor_kernel_and_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    host = load_target("host")
    here = fingerprint.local_board(host)
    assert (here.core, here.predicted) == (host.cpu, False)
    assert set(here.facts) == {"revision", "cores", "kernel", "clock", "tvm", "llvm"}
    assert here.facts["revision"]
    texts = {"/proc/cpuinfo": "processor : 0\nmodel name\t: Some CPU: 3 GHz\n", "governor": "performance\n"}

    def read(path: Path, **_: object) -> str:
        return next(text for name, text in texts.items() if str(path).endswith(name))

    monkeypatch.setattr(Path, "read_text", read)
    assert (fingerprint._cpu_name(), fingerprint._governor()) == ("Some CPU: 3 GHz", "performance")

    def refused(*_: object, **__: object) -> str:
        raise PermissionError

    monkeypatch.setattr(Path, "read_text", refused)
    assert (fingerprint._cpu_name(), fingerprint._governor()) == ("", "unknown")


def test_an_archive_of_records_has_the_same_bytes_whatever_the_order(tmp_path: Path) -> None:
    boards = [dataclasses.replace(BOARD, facts={"revision": name}) for name in "ab"]
    entries = [recorded(tmp_path / "logs", trial(conv()), board=board) for board in boards]
    for name, order in (("one", entries), ("two", entries[::-1])):
        maintenance.export(order, tmp_path / "logs", tmp_path / f"{name}.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()
    maintenance.unpack(tmp_path / "one.tar", tmp_path / "back")
    for entry in entries:
        there = tmp_path / "back" / entry.folder.relative_to(tmp_path / "logs")
        assert read_board(there).trials == entry.trials
