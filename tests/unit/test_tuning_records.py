from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tuning_fakes import BOARD

from tvmbuild.errors import RecordsError
from tvmbuild.schedules.knob import Knob
from tvmbuild.target import load_target
from tvmbuild.tuning.apply import borrowed, distance
from tvmbuild.tuning.fingerprint import Board
from tvmbuild.tuning.journal import JOURNAL, append_line, drop_torn_line, locked, read_journal, trial_line
from tvmbuild.tuning.selection import best_trial
from tvmbuild.tuning.store import board_folder, read_board, read_target, usable, write_board
from tvmbuild.tuning.trial import Trial

RPI4 = load_target("rpi4")


def trial(rows: int = 1, seconds: tuple[float, ...] = (1.0,), **values: object) -> Trial:
    made = Trial("a" * 16, "a" * 16, {"rows": rows}, "", seconds, kind="conv2d.direct", shape="conv", time=1.5)
    return dataclasses.replace(made, **values)


texts = st.text(max_size=20)
trials = st.builds(
    Trial,
    task=texts,
    workload=texts,
    choice=st.dictionaries(texts, st.integers(), max_size=3),
    plan=texts,
    seconds=st.lists(st.floats(1e-9, 1e3), max_size=4).map(tuple),
    cause=texts,
    message=texts,
    readings=st.dictionaries(texts, st.floats(-1e9, 1e9), max_size=2),
    kind=texts,
    shape=texts,
    operator=st.lists(st.integers(), max_size=4).map(tuple),
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


def store(folder: Path, board: Board, *made: Trial) -> Path:
    where = board_folder(folder, RPI4, board)
    write_board(where, board)
    for one in made:
        append_line(where / JOURNAL, trial_line(one))
    return where


def measured(revision: str, core: str = "cortex-a72") -> Board:
    return Board(core, False, "a board", {"revision": revision})


def test_records_come_back_as_they_were_stored(tmp_path: Path) -> None:
    where = store(tmp_path, BOARD, trial(is_default=True), trial(2, (0.5,)))
    found = read_board(where)
    assert found.board == BOARD
    assert found.winners() == {"a" * 16: trial(2, (0.5,))}


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


def test_the_fingerprint_names_the_folder() -> None:
    assert measured("1.4").name != measured("1.5").name
    assert measured("1.4").name.startswith("measured-cortex-a72-")
    assert Board.from_json(measured("1.4").to_json()) == measured("1.4")


def test_near_operators_differ_in_the_images_size_alone() -> None:
    base = (1, 56, 56, 64, 64, 3, 3)
    assert distance(base, base) == 0.0
    assert distance(base, (1, 28, 28, 64, 64, 3, 3)) < distance(base, (1, 14, 14, 64, 64, 3, 3))
    assert math.isinf(distance(base, (1, 56, 56, 64, 128, 3, 3)))
    assert math.isinf(distance((), ()))


def test_a_borrowed_choice_takes_the_nearest_candidates() -> None:
    knobs = (Knob("rows", 1, (1, 7, 14)), Knob("stay", 0, (0, 1)))
    assert borrowed({"rows": 10, "stay": 1}, knobs) == {"rows": 7, "stay": 1}
