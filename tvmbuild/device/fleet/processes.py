"""Programs that run beside us: TVM's tracker, TVM's own server, and our native server."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tvmbuild.device.emulated import EmulatedDevice
from tvmbuild.device.fleet.address import Address
from tvmbuild.device.fleet.tracker import Summary, TrackerClient
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.support.errors import DeviceError, TrackerError
from tvmbuild.support.place import BESIDE
from tvmbuild.target.target import Target

_START_SECONDS = 60.0
_STOP_SECONDS = 5.0
_PAUSE_SECONDS = 0.1


def tracker_command(address: Address) -> list[str]:
    """Return the command that runs TVM's tracker in the foreground."""
    return [sys.executable, "-m", "tvmbuild.device.fleet.stock", "tracker", address.host, str(address.port)]


def python_server_command(tracker: Address, key: str, host: str, port: int) -> list[str]:
    """Return the command that runs TVM's own server, in Python; port 0 takes the first free one from 9091."""
    where = [host, str(port)]
    return [sys.executable, "-m", "tvmbuild.device.fleet.stock", "server", *where, tracker.host, str(tracker.port), key]


def native_server_command(target: Target, tracker: Address, key: str, *, emulated: bool, port: int = 0) -> list[str]:
    """Return the command that runs our server for a target, here or emulated, bound to the loopback interface.

    Raises:
        DeviceError, ToolchainError, CompileError: the runner or the emulator cannot be had.
    """
    launcher = EmulatedDevice(target).launcher() if emulated else [str(runner_folder(target) / RUNNER_NAME)]
    options = ["--tracker", str(tracker), "--key", key, "--end-with-parent", *(["--emulated"] if emulated else [])]
    return [*launcher, "serve", *options, *(["--port", str(port)] if port else [])]


def start(command: Sequence[str], log: Path | None = None) -> subprocess.Popen[bytes]:
    """Start a program in a process group of its own; its output goes to a file, or nowhere.

    Raises:
        DeviceError: it cannot be started.
    """
    environment = server_environment()
    try:
        with Path(log or os.devnull).open("ab") as output:
            return subprocess.Popen(
                command, stdout=output, stderr=output, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be started: {error.strerror}.", "Run tvmbuild doctor.") from error


def server_environment() -> Mapping[str, str]:
    """Return our environment without what concerns this machine's own loader and emulator."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LD_", "QEMU_"))}
    # The package may not be installed: it is found again where it was found first.
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, [str(BESIDE), kept.get("PYTHONPATH", "")]))}


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a program that ``start`` started, with all that it started."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def wait_for_tracker(
    address: Address, process: subprocess.Popen[bytes] | None = None, *, seconds: float = _START_SECONDS
) -> Summary:
    """Wait until a tracker answers, and return what it knows.

    It accepts connections before it answers questions: on a busy machine by seconds.

    Raises:
        TrackerError: it did not within ``seconds``, or its process ended.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            with TrackerClient(address) as client:
                return client.summary()
        except TrackerError:
            if process is not None and process.poll() is not None:
                raise TrackerError(
                    f"The tracker cannot listen on {address}.", "Take another port with --port, or end what has it."
                ) from None
            if time.monotonic() > deadline:
                raise
            time.sleep(_PAUSE_SECONDS)
