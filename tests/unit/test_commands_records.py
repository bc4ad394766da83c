"""What ``records`` and ``report`` say where there is nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tvmbuild.commands.app import run
from tvmbuild.errors import RecordsError


@pytest.mark.parametrize("command", ["list", "prune"])
def test_what_is_there_instead_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str) -> None:
    arguments = ["records", command, "--records", str(tmp_path)]
    assert run(arguments) == 0
    assert capsys.readouterr().out == f"no records in {tmp_path}\n"
    (tmp_path / "rpi4/some-board").mkdir(parents=True)
    (tmp_path / "rpi4/some-board/board.json").write_text("{}")
    assert run([*arguments, "-t", "rpi5"]) == 0
    assert capsys.readouterr().out == f"no records of rpi5 in {tmp_path}; there are some of rpi4\n"


def test_a_report_of_nothing_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["report", "m.onnx", "-t", "rpi4", "--records", str(tmp_path)]) == RecordsError.exit_code
    told = capsys.readouterr().err
    assert "There is no run of m on a board of rpi4" in told
    assert "tvmbuild tune m.onnx -t rpi4" in told
