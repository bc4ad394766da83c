from __future__ import annotations

import errno
import json
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tvmbuild.commands.app import run
from tvmbuild.commands.console import size_text, stage_line, table_lines
from tvmbuild.support import errors, progress

HEAVY = ("tvm", "onnx", "onnxruntime", "numpy", "PIL", "rich.progress")


@pytest.mark.subprocess
@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import sys; from tvmbuild.commands.app import run; run(sys.argv[1:]); "
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    assert "tvmbuild" in done.stdout


@pytest.mark.subprocess
def test_an_uninstalled_checkout_runs() -> None:
    top = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(top / "cli.py"), "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout.startswith("tvmbuild 0.")


def test_every_command_has_help_with_an_example(capsys: pytest.CaptureFixture[str]) -> None:
    device = [f"device {name}" for name in ("list", "check", "serve", "emulate", "provision")]
    for command in (
        "build",
        "quantize",
        "verify",
        "inspect",
        "bench",
        "tune",
        "report",
        "tracker",
        *device,
        "targets",
        "doctor",
    ):
        assert run([*command.split(), "--help"]) == 0
        shown = capsys.readouterr().out
        assert f"tvmbuild {command}" in shown
        assert "Examples:" in shown
        assert "--json" in shown


def error_classes(base: type[errors.TvmbuildError] = errors.TvmbuildError) -> list[type[errors.TvmbuildError]]:
    own = [cls for cls in base.__subclasses__() if cls.__module__.startswith("tvmbuild.")]
    return [found for cls in own for found in (cls, *error_classes(cls))]


def test_each_class_of_error_has_a_code_of_its_own() -> None:
    classes = error_classes()
    codes = [cls.exit_code for cls in classes]
    assert len(set(codes)) == len(codes)
    assert set(codes).isdisjoint({0, 1, errors.INTERRUPTED})
    assert all(cls.meaning != errors.TvmbuildError.meaning for cls in classes)


def test_the_readme_lists_every_exit_code() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    for cls in error_classes():
        assert f"| {cls.exit_code} | {cls.meaning} |" in readme


def test_expected_errors_have_a_fix_and_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "model.onnx", "-t", "rpi44"]) == errors.TargetError.exit_code
    shown = capsys.readouterr()
    assert "Did you mean 'rpi4'?" in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


def test_expected_errors_are_one_json_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "model.onnx", "-t", "rpi44", "--json"]) == errors.TargetError.exit_code
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["class"], error["exit_code"]) == ("TargetError", 7)


def test_unknown_flags_and_commands_are_usage_errors(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "m.onnx", "--tagret", "rpi4"]) == 2
    assert "--target" in capsys.readouterr().err
    assert run(["biuld"]) == 2
    assert "build" in capsys.readouterr().err


def test_a_bug_leaves_a_log(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_name: str) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr("tvmbuild.target.target.load_target", broken)
    assert run(["targets"]) == 1
    shown = capsys.readouterr().err
    assert "this is a bug in tvmbuild: ZeroDivisionError: boom" in shown
    log = Path(shown.split("with the log ")[1].strip())
    assert "Traceback" in log.read_text()
    log.unlink()


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, errors.INTERRUPTED, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_an_interrupt_has_its_code(
    number: int, code: int, word: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_name: str) -> None:
        signal.raise_signal(number)

    monkeypatch.setattr("tvmbuild.target.target.load_target", interrupted)
    assert run(["targets"]) == code
    assert word in capsys.readouterr().err


#: A command that writes, and inside of that does not come back from a call for minutes.
STUCK = """
import hashlib, sys
from pathlib import Path
from tvmbuild.target import target
from tvmbuild.support.atomic.staging import staged
from tvmbuild.commands.app import run

def stuck(_name):
    with staged(Path("dist")) as aside:
        (aside / "half").write_text("")
        print("begun", flush=True)
        hashlib.pbkdf2_hmac("sha256", b"", b"", 2**31 - 1)

target.load_target = stuck
sys.exit(run(["targets"]))
"""


@pytest.mark.subprocess
@pytest.mark.parametrize(
    ("number", "code", "word"),
    [(signal.SIGINT, errors.INTERRUPTED, "Interrupted"), (signal.SIGTERM, 143, "Terminated")],
)
def test_a_call_that_does_not_return_ends_with_the_signal(number: int, code: int, word: str, tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STUCK], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "begun\n"
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == code
    assert word in said
    assert not list((tmp_path / "dist").iterdir())


#: A command whose forked child gets a signal.
FORKED = """
import os, signal, sys, time
from tvmbuild.target import target
from tvmbuild.commands import interrupt
from tvmbuild.commands.app import run

load, asked = target.load_target, []

def forks(name):
    if not asked:
        asked.append(name)
        child = os.fork()
        if not child:
            signal.raise_signal(signal.SIGTERM)
        os.waitpid(child, 0)
        time.sleep(2 * interrupt.PATIENCE)
    return load(name)

target.load_target = forks
sys.exit(run(["targets", "-q"]))
"""


@pytest.mark.subprocess
def test_a_signal_to_a_forked_child_is_not_the_parents() -> None:
    assert subprocess.run([sys.executable, "-c", FORKED], check=False).returncode == 0


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (OSError(errno.ENOSPC, "No space left on device", f"{tempfile.gettempdir()}/a/b"), 11, "TMPDIR"),
        (OSError(errno.ENOSPC, "No space left", "/cache/a", None, f"{tempfile.gettempdir()}/b"), 11, "TMPDIR"),
        (OSError("1024 requested and 0 written"), 11, "the disk is full"),
        (OSError(errno.ENOSPC, "No space left on device", "/mnt/usb/a"), 11, "/mnt/usb/a cannot be read or written"),
        (OSError(errno.EACCES, "Permission denied", "/root/a"), 11, "permission denied"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "a" * 300), 2, "too long"),
    ],
)
def test_a_full_disk_and_its_like_are_no_bugs(
    error: OSError, code: int, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(_name: str) -> None:
        raise error

    monkeypatch.setattr("tvmbuild.target.target.load_target", failing)
    assert run(["targets"]) == code
    shown = capsys.readouterr().err
    assert said in shown
    assert "bug" not in shown


def test_without_a_folder_for_temporary_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr("tvmbuild.target.target.load_target", lambda _name: tempfile.mkdtemp())
    assert run(["targets"]) == errors.OutputError.exit_code
    assert "TMPDIR" in capsys.readouterr().err


def test_a_bug_is_told_where_no_log_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_name: str) -> None:
        raise ZeroDivisionError("boom")

    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    monkeypatch.setattr("tvmbuild.target.target.load_target", broken)
    assert run(["targets"]) == 1
    assert "boom" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["-o", "out/net.so"], "-o out/net.so is a folder's name that ends like a file's"),
        (["--name", "out/net"], "--name out/net is no file's name"),
        (["--name", ".."], "--name .. is no file's name"),
    ],
)
def test_names_that_are_none_are_refused_before_the_build(
    flags: list[str], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["build", "absent.onnx", "-t", "rpi4", *flags]) == errors.OptionError.exit_code
    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_targets_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["targets", "--json"]) == 0
    shown = capsys.readouterr()
    assert {target["name"] for target in json.loads(shown.out)} >= {"rpi4", "host"}
    assert "rpi4" in shown.err


def test_tables_put_numbers_to_the_right() -> None:
    assert table_lines(("name", "MACs"), [("conv", "100"), ("dense", "7")]) == [
        "name   MACs",
        "-----  ----",
        "conv    100",
        "dense     7",
    ]


def test_sizes_and_stages_for_people() -> None:
    assert [size_text(n) for n in (12, 1500, 2_340_000, 5e9)] == ["12 B", "1.5 kB", "2.3 MB", "5.0 GB"]
    stage = progress.Stage("fold", detail="27 of 27", seconds=0.25)
    assert stage_line(stage) == "  * fold: 27 of 27  0.2 s"


def test_stages_report_to_listeners_and_mark_failures() -> None:
    seen: list[tuple[str, int, bool, bool]] = []

    def listen(stage: progress.Stage) -> None:
        seen.append((stage.name, stage.done, stage.seconds is not None, stage.failed))

    def work() -> None:
        with progress.listening(listen), progress.stage("tune", total=2) as step:
            step.advance()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        work()
    assert seen == [("tune", 0, False, False), ("tune", 1, False, False), ("tune", 1, True, True)]
