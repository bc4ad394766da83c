"""The device commands against real trackers and servers; a board over SSH is a folder behind a fake ssh."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tvmbuild.commands.app import run
from tvmbuild.device.fleet.address import parse_address
from tvmbuild.device.fleet.boards import BoardQueue
from tvmbuild.device.fleet.emulated_boards import EmulatedBoards
from tvmbuild.device.fleet.tracker import TrackerClient
from tvmbuild.support.errors import CheckFailedError, OptionError, ProvisionError, TrackerError
from tvmbuild.target.target import load_target

HOST = load_target("host")
RPI4 = load_target("rpi4")
FAKE_SSH = Path(__file__).parents[1] / "fake_ssh"


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmulatedBoards]:
    """A tracker and one board that is this machine."""
    with EmulatedBoards(HOST, native=True, log=tmp_path_factory.mktemp("here") / "log") as boards:
        yield boards


@pytest.fixture
def board_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "board"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{FAKE_SSH}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_BOARD", str(folder))
    yield folder
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(folder.with_suffix(".pid").read_text()), signal.SIGKILL)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)


def known_keys(boards: EmulatedBoards) -> set[str]:
    with TrackerClient(parse_address(boards.tracker)) as client:
        return {entry.key for entry in client.summary().keys if entry.boards}


def shown(capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0) -> Any:
    assert run([*arguments, "--json"]) == code
    return json.loads(capsys.readouterr().out)


def test_list_shows_boards_with_what_they_tell(here: EmulatedBoards, capsys: pytest.CaptureFixture[str]) -> None:
    (key,) = shown(capsys, "device", "list", "--tracker", here.tracker)["keys"]
    assert (key["key"], key["free"], key["busy"], key["waiting"]) == ("host", 1, 0, 0)
    (board,) = key["boards"]
    assert board["state"] == "free"
    assert board["fingerprint"]["tvm"] == "0.27.0.post1"
    assert board["fingerprint"]["machine"] == HOST.arch
    assert run(["device", "list", "--tracker", here.tracker]) == 0
    assert "host: 1 free, 0 busy, 0 waiting" in capsys.readouterr().out


def test_check_runs_a_library_and_says_what_it_found(here: EmulatedBoards, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("device", "check", "-t", "host", "--tracker", here.tracker)
    code = run([*arguments, "--json"])
    report = json.loads(capsys.readouterr().out)
    # The machine that tests may be busy: its noise is then a problem, and rightly so.
    assert code in (0, CheckFailedError.exit_code)
    report = report if code == 0 else report["error"]
    texts = " ".join(finding["text"] for finding in report["findings"])
    assert "computes a matrix product right" in texts
    assert "open to this machine alone" in texts
    assert len(report["seconds"]) == 15


def test_check_refuses_a_board_that_is_another(here: EmulatedBoards, capsys: pytest.CaptureFixture[str]) -> None:
    if HOST.arch == RPI4.arch:
        pytest.skip("this machine may be such a board")
    code = CheckFailedError.exit_code
    arguments = ("device", "check", "-t", "rpi4", "--tracker", here.tracker, "--key", "host")
    error = shown(capsys, *arguments, code=code)["error"]
    assert "but rpi4 is cortex-a72" in error["message"]


def test_what_a_board_reads_below_sys_is_told(tmp_path: Path, here: EmulatedBoards) -> None:
    """A made-up Pi that is hot, throttled and on the wrong governor."""
    from tvmbuild.device.fleet.check import check_board
    from tvmbuild.device.fleet.processes import native_server_command, start, stop

    files = {
        "proc/cpuinfo": "processor\t: 0\nCPU implementer\t: 0x41\nCPU part\t: 0xd08\nCPU revision\t: 3\n",
        "sys/class/thermal/thermal_zone0/temp": "81500\n",
        "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "600000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1500000\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/devices/platform/soc/soc:firmware/get_throttled": "50005\n",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    command = native_server_command(HOST, parse_address(here.tracker), "pi", emulated=False)
    server = start([*command, "--root", str(tmp_path)])
    try:
        outcome = check_board(here.tracker, "pi", HOST, patience=20)
    finally:
        stop(server)
    assert outcome.fingerprint["core"] == "cortex-a72"
    assert outcome.fingerprint["max_mhz"] == 1500
    assert (outcome.health["temperature_c"], outcome.health["mhz"]) == (81.5, 600)
    words = "; ".join(finding.text for finding in outcome.findings if finding.level == "problem")
    for word in ("governor ondemand", "under-voltage", "throttled", "82 degrees"):
        assert word in words
    assert not outcome.passed


def test_tracker_runs_in_the_foreground_and_ends_on_a_signal() -> None:
    port = free_port()
    command = [sys.executable, "-m", "tvmbuild", "tracker", "--port", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline().startswith(f"TVM's tracker listens on 127.0.0.1:{port}")
    assert run(["tracker", "--port", str(port)]) == OptionError.exit_code
    process.terminate()
    process.communicate(timeout=30)
    assert process.returncode == 128 + signal.SIGTERM
    with pytest.raises(TrackerError):
        TrackerClient(parse_address(f"127.0.0.1:{port}"))


def test_emulate_and_serve_offer_boards_until_they_are_told_to_stop(here: EmulatedBoards) -> None:
    commands = (
        ["emulate", "-t", "rpi4", "--key", "made-up", "--tracker", here.tracker, "--json", "-q"],
        ["serve", "--key", "served", "--tracker", here.tracker, "--json", "-q"],
    )
    programs = [
        subprocess.Popen([sys.executable, "-m", "tvmbuild", "device", *arguments], stdout=subprocess.PIPE, text=True)
        for arguments in commands
    ]
    keys = {"made-up", "served"}
    wait_until(lambda: keys <= known_keys(here))
    for program in programs:
        program.terminate()
        said, _ = program.communicate(timeout=30)
        assert json.loads(said)["tracker"] == here.tracker
        assert program.returncode == 128 + signal.SIGTERM
    wait_until(lambda: not keys & known_keys(here))


def test_a_provisioned_board_serves(
    here: EmulatedBoards, board_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    port = free_port()
    arguments = ("device", "provision", "pi@board", "-t", "host", "--tracker", here.tracker, "--key", "desk")
    report = shown(capsys, *arguments, "--port", str(port), "--once")
    tracker_port = here.tracker.rpartition(":")[2]
    tunnel = " ".join(report["tunnel"])
    assert f"-R 127.0.0.1:{tracker_port}:{here.tracker} -L 127.0.0.1:{port}:127.0.0.1:{port} pi@board" in tunnel
    wait_until(lambda: "desk" in known_keys(here))
    (board,) = BoardQueue(parse_address(here.tracker), "desk", HOST).check().boards
    assert board.address == f"127.0.0.1:{port}"
    unit = (board_folder / ".config/systemd/user/tvmbuild-board.service").read_text()
    assert "--host 127.0.0.1" in unit
    installed = {path.name for path in (board_folder / ".local/share/tvmbuild-board").iterdir()}
    assert installed == {"tvmbuild-runner", "libtvm_runtime.so", "libtvm_ffi.so"}


def test_provisioning_says_what_is_wrong(
    board_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("device", "provision", "pi@board", "--once")
    if HOST.arch != RPI4.arch:
        error = shown(capsys, *arguments, "-t", "rpi4", code=ProvisionError.exit_code)["error"]
        assert f"is {HOST.arch}, but rpi4 is aarch64" in error["message"]
    monkeypatch.setenv("FAKE_REFUSES", "pi@board: Permission denied (publickey).")
    error = shown(capsys, *arguments, "-t", "host", code=ProvisionError.exit_code)["error"]
    assert "Permission denied" in error["message"]
    assert "ssh-copy-id pi@board" in error["hint"]
    assert not (board_folder / ".local").exists()
