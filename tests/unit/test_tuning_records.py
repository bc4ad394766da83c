from __future__ import annotations

import dataclasses
import json
import math
import os
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuning_fakes import BOARD

from tvmbuild.records.apply import borrowed, distance
from tvmbuild.records.board_records import BOARD as BOARD_FILE
from tvmbuild.records.board_records import board_folder, read_board, read_target, usable, write_board
from tvmbuild.records.fingerprint import BoardIdentity
from tvmbuild.records.journal import JOURNAL, append_line, drop_torn_line, locked, parse_trial, read_journal, trial_line
from tvmbuild.records.maintenance import prune
from tvmbuild.records.selection import best_trial
from tvmbuild.records.trial import Trial
from tvmbuild.schedules.knob import Knob
from tvmbuild.schedules.library import SCHEDULES
from tvmbuild.support.atomic.moves import READY
from tvmbuild.support.errors import OutputError, RecordsError
from tvmbuild.target.target import load_target
from tvmbuild.tuning.runs import RunState, TaskEntry, read_run, run_path, write_run

RPI4 = load_target("rpi4")


def trial(rows: int = 1, seconds: tuple[float, ...] = (1.0,), **values: Any) -> Trial:
    made = Trial("a" * 16, "a" * 16, {"rows": rows}, "", seconds, kind="conv2d.direct", shape="conv", time=1.5)
    return dataclasses.replace(made, **values)


texts = st.text(max_size=20)
whole = st.integers(-(2**63), 2**63 - 1)
trials = st.builds(
    Trial,
    task=texts,
    workload=texts,
    choice=st.dictionaries(texts, whole, max_size=3),
    plan=texts,
    seconds=st.lists(st.floats(1e-9, 1e3), min_size=1, max_size=4).map(tuple),
    cause=texts,
    message=texts,
    readings=st.dictionaries(texts, st.floats(-1e9, 1e9), max_size=2),
    kind=texts,
    shape=texts,
    operator=st.lists(whole, max_size=4).map(tuple),
    dtype=texts,
    is_default=st.booleans(),
    time=st.floats(0, 2e9),
)


@given(st.lists(trials, max_size=4), st.integers(0, 200))
def test_a_journal_cut_anywhere_loses_the_torn_line_alone(
    tmp_path_factory: pytest.TempPathFactory, made: list[Trial], cut: int
) -> None:
    path = tmp_path_factory.mktemp("journal") / JOURNAL
    lines = [trial_line(one) for one in made]
    torn = trial_line(trial())[: cut % len(trial_line(trial()))]
    path.write_bytes(b"".join(lines) + torn)
    assert read_journal(path) == tuple(made)
    drop_torn_line(path)
    append_line(path, trial_line(trial(7)))
    assert read_journal(path) == (*made, trial(7))


def test_a_damaged_line_in_the_middle_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / JOURNAL
    path.write_bytes(trial_line(trial()) + b'{"task": 3}\n' + trial_line(trial(2)))
    with pytest.raises(RecordsError, match="line 2"):
        read_journal(path)


def test_a_failed_trial_needs_no_seconds(tmp_path: Path) -> None:
    failed = trial(1, (), cause="crash")
    (tmp_path / JOURNAL).write_bytes(trial_line(failed))
    assert read_journal(tmp_path / JOURNAL) == (failed,)


LINE = json.loads(trial_line(trial()))


@pytest.mark.parametrize(
    "line",
    [
        *("", "3", "null", "[]", '"text"', "[" * 100_000, "NaN", "\0"),
        *(
            json.dumps({name: value for name, value in LINE.items() if name != left_out})
            for left_out in ("task", "choice")
        ),
        *(
            json.dumps(LINE | {"seconds": seconds})
            for seconds in (
                *([], [math.nan], [-1.0], [0.0], [math.inf], [1.0, -1e-9], ["1.5"], [True], [None], [[1.0]]),
                *("123", 1.5, None, {"1": 2}, [10**400]),
            )
        ),
        *(
            json.dumps(LINE | {name: value})
            for name, value in (
                *(("task", 3), ("workload", None), ("kind", []), ("plan", 1), ("message", {}), ("shape", "\ud800")),
                *(("choice", []), ("choice", {"rows": 2.5}), ("choice", {"rows": True}), ("choice", {"rows": 2**64})),
                *(
                    ("operator", "12"),
                    ("operator", [1.5]),
                    ("operator", {}),
                    ("readings", [1]),
                    ("readings", {"a": "1"}),
                ),
                *(("is_default", 1), ("time", "now"), ("time", math.nan), ("cause", False)),
            )
        ),
    ],
)
def test_a_line_of_another_type_or_without_a_possible_time_is_an_error(tmp_path: Path, line: str) -> None:
    path = tmp_path / JOURNAL
    path.write_bytes(trial_line(trial()) + line.encode() + b"\n")
    with pytest.raises(RecordsError, match="line 2"):
        read_journal(path)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([item.name for item in dataclasses.fields(Trial)]), anything, max_size=3))
def test_whatever_a_line_says_it_is_a_trial_with_a_time_or_an_error(values: dict[str, object]) -> None:
    try:
        read = parse_trial(json.dumps(LINE | values).encode())
    except ValueError:
        return
    assert read.cause or 0 < read.best < math.inf
    assert parse_trial(trial_line(read)) == read
    distance((1, 2, 3), read.operator)


@pytest.mark.parametrize(
    "text",
    [
        *("", "[]", "{}", "[" * 100_000, '{"core": 1, "predicted": true, "about": "", "facts": {}}'),
        *('{"core": "c", "predicted": "false", "about": "", "facts": {}}', '{"core": "\\ud800"}'),
        '{"core": "c", "predicted": true, "about": "", "facts": {"a": 1}}',
    ],
)
def test_a_board_file_of_another_type_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / BOARD_FILE).write_text(text)
    with pytest.raises(RecordsError, match="no readable"):
        read_board(tmp_path)


def test_a_pipe_instead_of_a_file_is_not_waited_for(tmp_path: Path) -> None:
    for name in (BOARD_FILE, JOURNAL):
        os.mkfifo(tmp_path / name)
    with pytest.raises(RecordsError, match="no file"):
        read_board(tmp_path)
    with pytest.raises(RecordsError, match="no file"):
        read_journal(tmp_path / JOURNAL)


RUN = RunState(
    "m",
    "rpi4",
    {"trials": 1, "time": "", "task": "", "seed": 0, "min_gain": 0.01},
    0,
    1.5,
    "",
    (TaskEntry("a", "conv", "1x1", 1, 2),),
)


def test_a_run_comes_back_as_it_was_stored(tmp_path: Path) -> None:
    write_run(tmp_path, RUN)
    assert read_run(run_path(tmp_path, "m")) == RUN


@pytest.mark.parametrize(
    "values",
    [
        *({"options": {}}, {"options": 3}, {"options": {**RUN.options, "seed": 2.7}}, {"tasks": [{"task": "a"}]}),
        *({"tasks": 3}, {"tasks": ["a"]}, {"first_trial": -1}, {"first_trial": "0"}, {"started": None}, {"stopped": 0}),
    ],
)
def test_a_run_of_another_type_is_an_error(tmp_path: Path, values: dict[str, object]) -> None:
    write_run(tmp_path, RUN)
    path = run_path(tmp_path, "m")
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    with pytest.raises(RecordsError, match="cannot be used"):
        read_run(path)


def test_a_line_for_which_the_disk_has_no_room_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, write = tmp_path / JOURNAL, os.write
    append_line(path, trial_line(trial()))
    monkeypatch.setattr(os, "write", lambda handle, line: write(handle, line[:10]))
    with pytest.raises(OutputError, match="the disk is full"):
        append_line(path, trial_line(trial(2)))
    monkeypatch.undo()
    append_line(path, trial_line(trial(3)))
    assert read_journal(path) == (trial(), trial(3))


def test_who_writes_a_board_waits_for_another_one(tmp_path: Path) -> None:
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with locked(tmp_path):
            held.set()
            done.wait(30)

    other = threading.Thread(target=hold)
    other.start()
    assert held.wait(30)
    with pytest.raises(RecordsError, match="Another"), locked(tmp_path, 0.01):
        pass
    threading.Timer(0.05, done.set).start()
    with locked(tmp_path, 30.0):
        assert done.is_set()
    other.join()


def test_only_one_tuner_writes_a_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RecordsError, match="Another"), locked(tmp_path):
        pass


def test_a_predicted_winner_needs_to_be_faster_and_a_measured_one_by_more_than_the_noise() -> None:
    default = trial(1, (1.0,) * 5, is_default=True)
    faster = trial(2, (0.995,) * 5)
    assert best_trial([default, faster], predicted=True) == faster
    assert best_trial([default, faster], predicted=False) == default
    noisy = trial(2, (0.7, 0.8, 0.9, 1.0, 1.2))
    clear = trial(3, (0.9, 0.9, 0.9, 0.9, 0.9))
    assert best_trial([default, noisy], predicted=False) == default
    assert best_trial([default, clear], predicted=False) == clear
    failed = trial(4, (), cause="crash")
    assert best_trial([failed], predicted=True) is None
    assert math.isinf(failed.best)


def store(folder: Path, board: BoardIdentity, *made: Trial) -> Path:
    where = board_folder(folder, RPI4, board)
    write_board(where, board)
    for one in made:
        append_line(where / JOURNAL, trial_line(one))
    return where


def measured(revision: str, core: str = "cortex-a72") -> BoardIdentity:
    return BoardIdentity(core, False, "a board", {"revision": revision})


def test_records_come_back_as_they_were_stored(tmp_path: Path) -> None:
    where = store(tmp_path, BOARD, trial(is_default=True), trial(2, (0.5,)))
    found = read_board(where)
    assert found.board == BOARD
    assert found.winners() == {"a" * 16: trial(2, (0.5,))}


def test_prune_keeps_what_came_in_after_it_was_asked(tmp_path: Path) -> None:
    where = store(tmp_path, BOARD, trial(is_default=True), trial(2, (0.5,)), trial(3, (0.7,)))
    (where / "run-m.json").write_text("{}")
    (asked,) = read_target(tmp_path, "rpi4")
    # Meanwhile a merge or a short run adds a winner.
    append_line(where / JOURNAL, trial_line(trial(4, (0.1,))))
    assert prune(asked, RPI4) == 2
    assert read_journal(where / JOURNAL) == (trial(is_default=True), trial(4, (0.1,)))
    assert sorted(path.name for path in where.iterdir()) == [".lock", BOARD_FILE, JOURNAL]


def test_a_prune_that_a_kill_broke_off_is_ended_before_a_trial_is_added(tmp_path: Path) -> None:
    where = store(tmp_path, BOARD, trial(is_default=True), trial(2, (0.5,)))
    (where / READY).mkdir()
    (where / READY / JOURNAL).write_bytes(trial_line(trial(is_default=True)))
    with locked(where):
        append_line(where / JOURNAL, trial_line(trial(3)))
    assert read_journal(where / JOURNAL) == (trial(is_default=True), trial(3))


def test_measured_records_outrank_predicted_ones(tmp_path: Path) -> None:
    store(tmp_path, BOARD, trial(2, (0.1,)))
    store(tmp_path, measured("1.4"), trial(3, (9.0,)))
    entries, _ = usable(read_target(tmp_path, "rpi4"), RPI4)
    assert [entry.board.predicted for entry in entries] == [False, True]


def test_two_boards_are_not_mixed_unless_one_is_chosen(tmp_path: Path) -> None:
    first = store(tmp_path, measured("1.4"), trial())
    store(tmp_path, measured("1.5"), trial())
    with pytest.raises(RecordsError, match="not to be mixed"):
        usable(read_target(tmp_path, "rpi4"), RPI4)
    entries, _ = usable(read_target(tmp_path, "rpi4"), RPI4, first.name)
    assert [entry.folder for entry in entries] == [first]
    with pytest.raises(RecordsError, match="no records of a board"):
        usable(read_target(tmp_path, "rpi4"), RPI4, "nonsense")


def test_records_of_another_core_are_left_out_with_a_note(tmp_path: Path) -> None:
    store(tmp_path, measured("1.0", "cortex-a76"), trial())
    entries, notes = usable(read_target(tmp_path, "rpi4"), RPI4)
    assert entries == []
    assert "another core" in notes[0]


def test_records_of_another_revision_of_their_schedule_are_named_as_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = tuple(
        dataclasses.replace(each, revision=2) if each.kind == "conv2d.direct" else each for each in SCHEDULES
    )
    monkeypatch.setattr("tvmbuild.schedules.library.SCHEDULES", changed)
    store(tmp_path, BOARD, trial(), trial(2, revision=2), trial(3, kind="pool"))
    (entry,), notes = usable(read_target(tmp_path, "rpi4"), RPI4)
    assert [kept.choice["rows"] for kept in entry.trials] == [2, 3]
    assert "1 of 3 records" in notes[0]
    assert "conv2d.direct (revision 1)" in notes[0]


def test_a_board_of_stale_records_alone_is_not_used(tmp_path: Path) -> None:
    store(tmp_path, BOARD, trial(revision=7))
    entries, notes = usable(read_target(tmp_path, "rpi4"), RPI4)
    assert entries == []
    assert "stale" in notes[0]


def test_records_from_before_revisions_are_of_the_first(tmp_path: Path) -> None:
    line = trial_line(trial())
    assert read_journal_line(tmp_path, line.replace(b', "revision": 1', b"")) == trial()


def read_journal_line(folder: Path, line: bytes) -> Trial:
    (folder / JOURNAL).write_bytes(line)
    (read,) = read_journal(folder / JOURNAL)
    return read


def test_the_fingerprint_names_the_folder() -> None:
    assert measured("1.4").name != measured("1.5").name
    assert measured("1.4").name.startswith("measured-cortex-a72-")
    assert BoardIdentity.from_json(measured("1.4").to_json()) == measured("1.4")


def test_near_operators_differ_in_the_images_size_alone() -> None:
    base = (1, 56, 56, 64, 64, 3, 3)
    assert distance(base, base) == 0.0
    assert distance(base, (1, 28, 28, 64, 64, 3, 3)) < distance(base, (1, 14, 14, 64, 64, 3, 3))
    assert math.isinf(distance(base, (1, 56, 56, 64, 128, 3, 3)))
    assert math.isinf(distance((), ()))


def test_a_borrowed_choice_takes_the_nearest_candidates() -> None:
    knobs = (Knob("rows", 1, (1, 7, 14)), Knob("stay", 0, (0, 1)))
    assert borrowed({"rows": 10, "stay": 1}, knobs) == {"rows": 7, "stay": 1}
