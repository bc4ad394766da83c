"""Talking to the runner: what is handed over, and what each way to fail becomes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tvmbuild.device import runner
from tvmbuild.device.protocol import RunRequest
from tvmbuild.device.runner import _EXIT_CODES, explain_exit, run_with
from tvmbuild.support.errors import DeviceError, IncompatibleLibraryError, InputDataError, OutputError, TvmbuildError
from tvmbuild.support.place import NATIVE
from tvmbuild.target.target import load_target

RPI4 = load_target("rpi4")


def request(*inputs: np.ndarray[Any, Any], **options: Any) -> RunRequest:
    values = {"repeat": 3, "warmup": 1, "threads": None, "timeout": 60.0, **options}
    return RunRequest(Path("model.so"), inputs, **values)


class FakeRunner:
    """Doubles its inputs and reports as the real one does."""

    def __init__(self) -> None:
        self.command: list[str] = []
        self.environment: dict[str, str] = {}
        self.inputs: list[np.ndarray[Any, Any]] = []
        self.stdout: bytes | None = None
        self.folder = Path()

    def run(self, command: Sequence[str], *, env: dict[str, str], cwd: Path, **_options: Any) -> SimpleNamespace:
        self.command, self.environment, self.folder = list(command), env, cwd
        folder = Path(self.command[self.command.index("--output-dir") + 1])
        self.inputs = [np.load(self.command[at + 1]) for at, word in enumerate(self.command) if word == "--input"]
        for index, array in enumerate(self.inputs):
            np.save(folder / f"output_{index}.npy", array * 2)
        report = {"seconds": [0.25, 0.5, 0.125], "peak_bytes": 4096, "outputs": [{}] * len(self.inputs)}
        stdout = json.dumps(report).encode() if self.stdout is None else self.stdout
        return SimpleNamespace(returncode=0, stdout=stdout, stderr=b"")


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeRunner:
    found = FakeRunner()
    monkeypatch.setattr(subprocess, "run", found.run)
    monkeypatch.setattr(runner, "check_compatible", lambda *_: None)
    return found


def test_inputs_arrive_and_outputs_come_back_in_order(fake: FakeRunner) -> None:
    first, second = np.arange(6, dtype="float32").reshape(2, 3), np.array(7, dtype="int64")
    result = run_with(["qemu", "runner"], request(first, second), RPI4)
    assert fake.command[:2] == ["qemu", "runner"]
    assert [array.shape for array in fake.inputs] == [(2, 3), ()]
    np.testing.assert_array_equal(result.outputs[0], first * 2)
    np.testing.assert_array_equal(result.outputs[1], second * 2)
    assert result.outputs[1].dtype == np.int64
    assert result.seconds == (0.25, 0.5, 0.125)
    assert result.peak_bytes == 4096


def test_a_view_in_another_order_arrives_with_its_own_elements(fake: FakeRunner) -> None:
    transposed = np.arange(6, dtype="float32").reshape(2, 3).T
    run_with(["runner"], request(transposed), RPI4)
    np.testing.assert_array_equal(fake.inputs[0], transposed)
    assert fake.inputs[0].flags.c_contiguous


def test_options_are_passed_on(fake: FakeRunner) -> None:
    run_with(["runner"], request(np.zeros(1), threads=2, markers=True, cold=True), RPI4)
    words = " ".join(fake.command)
    assert all(
        option in words for option in ("--repeat 3", "--warmup 1", "--threads 2", "--markers", "--cold", "--json")
    )
    run_with(["runner"], request(np.zeros(1)), RPI4)
    assert not {"--threads", "--markers", "--cold"} & set(fake.command)


def test_what_a_crash_leaves_is_removed_with_the_other_temporary_files(fake: FakeRunner) -> None:
    """The library may still be named from the working folder of the caller."""
    run_with(["runner"], request(np.zeros(1)), RPI4)
    assert not fake.folder.exists()
    assert fake.command[1] == str(Path.cwd() / "model.so")


def test_preloaded_libraries_are_not_inherited(fake: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LD_PRELOAD", "/opt/libmine.so")
    run_with(["runner"], request(np.zeros(1)), RPI4, {"TVM_X": "1"})
    assert "LD_PRELOAD" not in fake.environment
    assert fake.environment["TVM_X"] == "1"


NO_REPORTS = (
    b"",
    b"a line of somebody's printf\n",
    b'{"seconds": [0.1',
    b"[" * 100_000,
    b"[]",
    b'{"seconds": [0.1], "outputs": []}',
    b'{"seconds": ["0.1"], "outputs": [], "peak_bytes": 1}',
    b'{"seconds": [0.1], "outputs": 3, "peak_bytes": 1}',
)


@pytest.mark.parametrize("stdout", NO_REPORTS)
def test_a_report_that_is_no_report_is_a_device_error(fake: FakeRunner, stdout: bytes) -> None:
    fake.stdout = stdout
    with pytest.raises(DeviceError, match="report"):
        run_with(["runner"], request(np.zeros(1)), RPI4)


@pytest.mark.parametrize(
    ("raised", "words"),
    [
        (subprocess.TimeoutExpired("runner", 60), "did not finish within 60 seconds"),
        (PermissionError(13, "Permission denied"), "cannot be started: Permission denied"),
    ],
)
def test_a_run_that_hangs_or_cannot_start_is_a_device_error(
    fake: FakeRunner, monkeypatch: pytest.MonkeyPatch, raised: Exception, words: str
) -> None:
    def run(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(DeviceError, match=words):
        run_with(["runner"], request(np.zeros(1)), RPI4)


@pytest.mark.parametrize(
    ("code", "kind", "words"),
    [
        (-signal.SIGILL, DeviceError, "uses an instruction that cortex-a72 does not have"),
        (128 + signal.SIGILL, DeviceError, "uses an instruction that cortex-a72 does not have"),
        (-signal.SIGSEGV, DeviceError, "crashed with SIGSEGV (the model reached outside its memory)"),
        (-signal.SIGKILL, DeviceError, "crashed with SIGKILL (it was killed, perhaps for lack of memory)"),
        (-signal.SIGTERM, DeviceError, "crashed with SIGTERM."),
        (-99, DeviceError, "crashed with signal 99"),
        (2, DeviceError, "The runner exited with 2"),
        (3, IncompatibleLibraryError, "The runner exited with 3"),
        (4, InputDataError, "The runner exited with 4"),
        (5, DeviceError, "The runner exited with 5"),
        (6, OutputError, "The runner exited with 6"),
        (77, DeviceError, "The runner exited with 77"),
    ],
)
def test_every_way_to_end_has_its_error(code: int, kind: type[TvmbuildError], words: str) -> None:
    error = explain_exit(code, "", RPI4)
    assert type(error) is kind
    assert words in error.message
    assert error.hint


def test_the_runners_own_words_are_repeated_as_a_sentence() -> None:
    stderr = "TVM warning: something\ntvmbuild-runner: cannot open the input a.npy: No such file or directory\nusage\n"
    assert explain_exit(4, stderr, RPI4).message == "Cannot open the input a.npy: No such file or directory."


def test_the_runtimes_last_words_go_with_a_crash() -> None:
    error = explain_exit(-signal.SIGABRT, "terminate called after throwing 'std::bad_alloc'\n", RPI4)
    assert (
        error.message
        == "The run crashed with SIGABRT (the runtime gave up: terminate called after throwing 'std::bad_alloc')."
    )


def test_what_the_emulator_says_of_the_signal_is_not_repeated() -> None:
    stderr = "qemu: uncaught target signal 11 (Segmentation fault) - core dumped\n"
    error = explain_exit(-signal.SIGSEGV, stderr, RPI4)
    assert error.message == "The run crashed with SIGSEGV (the model reached outside its memory)."


def test_full_temporary_space_is_an_output_error(fake: FakeRunner, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OutputError, match="No space left on device") as caught:
        run_with(["runner"], request(np.zeros(1)), RPI4)
    assert "TMPDIR" in caught.value.hint


def test_an_illegal_instruction_names_what_ran_it() -> None:
    assert "that cortex-a72 does not have" in explain_exit(-signal.SIGILL, "", RPI4).message
    assert "that this machine does not have" in explain_exit(-signal.SIGILL, "", RPI4, "this machine").message


def test_a_long_message_is_cut() -> None:
    assert len(explain_exit(5, f"tvmbuild-runner: {'x' * 10_000}\n", RPI4).message) < 1000


def test_an_old_emulator_that_lacks_the_core_is_told_apart() -> None:
    error = explain_exit(1, "qemu-aarch64: unable to find CPU model 'cortex-a76'\n", load_target("rpi5"))
    assert error.message == "This QEMU does not know the core cortex-a76."
    assert "7.2" in error.hint


def test_exit_codes_are_those_of_the_cpp_sources() -> None:
    header = (NATIVE / "common" / "failure.h").read_text(encoding="utf-8")
    assert {int(number) for number in re.findall(r"k\w+ = (\d+)", header)} == set(_EXIT_CODES)
