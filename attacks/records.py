"""Tuning records: folders with a board and a journal, read by list, merge, prune and export."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from random import Random
from typing import Any

from attacks.attempt import Attempt, command
from attacks.mutate import DEEP, bytes_of, json_of
from attacks.tally import Place, Tally, until

NAME, JOURNALS = "records", "journals"
_BOARD, _JOURNAL = "board.json", "trials.jsonl"


def attack(place: Place, seconds: float) -> Tally:
    """Change what a folder of records says of its board."""
    return _attack(place, seconds, NAME, _BOARD)


def attack_journals(place: Place, seconds: float) -> Tally:
    """Change the lines of a journal."""
    return _attack(place, seconds, JOURNALS, _JOURNAL)


def _attack(place: Place, seconds: float, name: str, damaged: str) -> Tally:
    tally, folder, random = Tally(name), place.scratch(name), Random(place.seed)
    valid = _valid(folder / "valid")
    lines = (
        [json.loads(line) for line in (valid / damaged).read_text(encoding="utf-8").splitlines()]
        if damaged == _JOURNAL
        else []
    )
    whole = (valid / damaged).read_bytes()
    fixed = [
        b"",
        b"\n",
        b"null\n",
        b"[]\n",
        b"1\n",
        b"[" * DEEP,
        b'{"a":' * DEEP,
        b"\xff\xfe",
        b"\0" * 100,
        b"1" * 100_000 + b"\n",
    ]
    board = folder / "logs" / "rpi4" / valid.name
    for number in until(seconds):
        shutil.rmtree(folder / "logs", ignore_errors=True)
        shutil.copytree(valid, board)
        if number < len(fixed):
            content = fixed[number]
        elif number % 5 == 0:
            content = bytes_of(random, whole)
        elif damaged == _JOURNAL:
            texts = [json.dumps(line) for line in lines]
            texts[random.randrange(len(texts))] = json_of(random, random.choice(lines))
            content = "\n".join([*texts, ""]).encode(errors="replace")
        else:
            content = json_of(random, json.loads(whole)).encode(errors="replace")
        (board / damaged).write_bytes(content)
        arguments = random.choice(
            (["list", "-v"], ["list", "--json"], ["prune"], ["export", "out.tar"], ["merge", "logs/rpi4/board"])
        )
        if arguments[0] == "merge":
            arguments = ["merge", str(board)]
        done = command(["records", *arguments], folder)
        tally.take(f"{damaged} {number} in {' '.join(arguments[:1])}", done, may_pass=True)
        if arguments == ["list", "--json"] and done.code == 0:
            _judge(tally, f"{damaged} {number}", done)
    return tally


def _judge(tally: Tally, what: str, done: Attempt) -> None:
    """A time that is none must never win."""
    try:
        listed: list[dict[str, Any]] = json.loads(done.said[done.said.index("[") : done.said.rindex("]") + 1])
        times = [task["seconds"] for entry in listed for task in entry["tasks"]]
    except (ValueError, KeyError, TypeError) as error:
        tally.fail(f"{what}: what 'records list --json' says cannot be read ({error})")
        return
    wrong = [time for time in times if not isinstance(time, int | float) or not math.isfinite(time) or time <= 0]
    if wrong:
        tally.wrongly += 1
        tally.fail(f"{what}: a time of {wrong[0]!r} seconds was believed")


def _valid(folder: Path) -> Path:
    """Write a folder of records as tune does, and return it."""
    from tvmbuild.records.board_records import write_board
    from tvmbuild.records.fingerprint import BoardIdentity
    from tvmbuild.records.journal import append_line, trial_line
    from tvmbuild.records.trial import Trial

    board = BoardIdentity("cortex-a72", True, "a board", {"revision": "1"})
    folder = folder / board.name
    write_board(folder, board)
    for number in range(6):
        made = Trial(
            "a" * 16,
            f"{number % 2:016x}",
            {"rows": number},
            "",
            (1.0 + number,),
            kind="conv2d.direct",
            shape="conv",
            time=1.5,
        )
        append_line(folder / _JOURNAL, trial_line(made))
    return folder
