"""What ``records`` and ``report`` say where there is nothing, and what ``import`` refuses."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from tvmbuild.commands.app import run
from tvmbuild.support.errors import RecordsError


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


BOARD = b'{"core": "cortex-a72", "predicted": true, "about": "a fake", "facts": {}}'


def archive_of(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("{outside}/board.json", "leaves its folder"),
        ("rpi4/../board.json", "leaves its folder"),
        ("rpi4/b/notes.txt", "is no tuning record"),
        ("rpi4/.git/board.json", "is no tuning record"),
        ("board.json", "is no tuning record"),
        ("rpi4/b/c/board.json", "is no tuning record"),
    ],
)
def test_an_import_writes_nothing_outside(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str, words: str
) -> None:
    outside = tmp_path / "o"
    archive = archive_of(tmp_path / "r.tar", {name.format(outside=outside): BOARD})
    code = run(["records", "import", str(archive), "--records", str(tmp_path / "logs")])
    assert code == RecordsError.exit_code
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [archive]


def test_an_import_of_what_was_cut_off_or_is_none_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = archive_of(tmp_path / "r.tar", {"rpi4/b/board.json": BOARD, "rpi4/b/trials.jsonl": b"x" * 3000})
    content = archive.read_bytes()
    for size in (0, 100, 512, 700, 1024, 2000, 1024 + 512 + 3072):
        archive.write_bytes(content[:size])
        assert run(["records", "import", str(archive), "--records", str(tmp_path / "logs")]) == RecordsError.exit_code
        told = capsys.readouterr().err
        assert "is refused" in told
        assert "tvmbuild records export" in told
    assert run(["records", "import", str(tmp_path), "--records", str(tmp_path / "logs")]) == RecordsError.exit_code
    assert "it is no file" in capsys.readouterr().err
    assert not (tmp_path / "logs").exists()


def test_an_import_that_promises_too_much_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    header = tarfile.TarInfo("rpi4/b/trials.jsonl")
    header.size = 2 << 30
    (tmp_path / "r.tar").write_bytes(header.tobuf(tarfile.USTAR_FORMAT) + bytes(1024))
    code = run(["records", "import", str(tmp_path / "r.tar"), "--records", str(tmp_path / "logs")])
    assert (code, "unpacks to more" in capsys.readouterr().err) == (RecordsError.exit_code, True)


def test_what_export_writes_is_what_import_reads(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "rpi4" / "some-board"
    folder.mkdir(parents=True)
    (folder / "board.json").write_bytes(BOARD)
    packed = str(tmp_path / "r.tar")
    assert run(["records", "export", "--records", str(tmp_path / "a"), "-o", packed]) == 0
    assert run(["records", "import", packed, "--records", str(tmp_path / "b")]) == 0
    assert (tmp_path / "b" / "rpi4" / "some-board" / "board.json").is_file()
