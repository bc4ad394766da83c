"""Emulated boards behind a real tracker, for tuning and testing with no board attached."""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from pathlib import Path
from types import TracebackType

from tvmbuild.device.fleet.address import Address, parse_address
from tvmbuild.device.fleet.processes import native_server_command, start, stop, tracker_command, wait_for_tracker
from tvmbuild.device.fleet.tracker import Summary, TrackerClient
from tvmbuild.support import progress
from tvmbuild.support.errors import DeviceError, TrackerError
from tvmbuild.target.target import Target

_POLL_SECONDS = 0.2
_REGISTER_SECONDS = 60.0
#: How long a tracker that somebody else started may take to answer.
_FOREIGN_SECONDS = 20.0
#: A server that ends sooner than this after its start will not do better the next time at once.
_HASTY_SECONDS = 2.0


class EmulatedBoards:
    """A tracker and some emulated boards, kept up for as long as the block runs.

    The boards are our native server under QEMU's user mode; for this machine's own target it can run without. Whatever
    dies, tracker or server, is started again. All of it ends with the thread that entered the block, killed or not.
    """

    def __init__(
        self,
        target: Target,
        count: int = 1,
        *,
        tracker: str = "",
        key: str = "",
        native: bool = False,
        log: Path | None = None,
    ) -> None:
        """Say what to start; ``with`` starts it.

        Args:
            target: the board to emulate.
            count: number of boards.
            tracker: "HOST:PORT" of a tracker that runs already; "" starts one on a free port of this machine.
            key: key of the boards; "" for the target's name.
            native: run the servers without the emulator, on this machine's own core.
            log: file for what the servers and the tracker print.

        Raises:
            OptionError: the tracker's address is none.
        """
        self._target = target
        self._count = count
        self._own_tracker = not tracker
        self._address = parse_address(tracker) if tracker else Address("127.0.0.1", _free_port())
        self.key = key or target.name
        self._native = native
        self._log = log
        self._commands: list[list[str]] = []
        self._processes: list[subprocess.Popen[bytes]] = []
        self._started: list[float] = []
        self._ending = threading.Event()
        self._watcher = threading.Thread(target=self._watch, name="emulated boards", daemon=True)

    @property
    def tracker(self) -> str:
        """The tracker's "HOST:PORT"."""
        return str(self._address)

    @property
    def pids(self) -> list[int]:
        """Process ids of the servers, one a board; another one after a restart."""
        return [process.pid for process in self._processes[int(self._own_tracker) :]]

    @property
    def tracker_pid(self) -> int:
        """Process id of the tracker; only when it was started here."""
        return self._processes[0].pid

    def __enter__(self) -> EmulatedBoards:
        """Start everything and wait until the boards are registered.

        Raises:
            DeviceError, ToolchainError, CompileError: no runner or emulator is to be had, or a server ends.
            TrackerError: the tracker does not answer.
        """
        server = native_server_command(self._target, self._address, self.key, emulated=not self._native)
        try:
            with progress.stage(f"start {self._count} emulated {self.key}") as step:
                if self._own_tracker:
                    self._add(tracker_command(self._address))
                    told = wait_for_tracker(self._address, self._processes[0])
                else:
                    # It may be starting too.
                    told = wait_for_tracker(self._address, seconds=_FOREIGN_SECONDS)
                before = self._count_in(told)
                for _ in range(self._count):
                    self._add(server)
                self._wait_for(before + self._count)
                step.detail = f"tracker {self._address}"
        except BaseException:
            self._end()
            raise
        self._watcher.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the servers, then the tracker."""
        self._ending.set()
        self._watcher.join()
        self._end()

    def _add(self, command: list[str]) -> None:
        self._commands.append(command)
        self._processes.append(start(command, self._log))
        self._started.append(time.monotonic())

    def _end(self) -> None:
        for process in reversed(self._processes):
            stop(process)

    def _count_in(self, told: Summary) -> int:
        return sum(len(entry.boards) for entry in told.keys if entry.key == self.key)

    def _registered(self) -> int:
        """Return how many boards of the key the tracker tells of: none while it is too busy to answer."""
        try:
            with TrackerClient(self._address) as client:
                return self._count_in(client.summary())
        except TrackerError:
            return 0

    def _wait_for(self, count: int) -> None:
        deadline = time.monotonic() + _REGISTER_SECONDS
        while self._registered() < count:
            ended = any(process.poll() is not None for process in self._processes)
            if ended or time.monotonic() > deadline:
                raise DeviceError(
                    "An emulated board ended at once." if ended else "An emulated board did not register in time.",
                    f"Its words are in {self._log}." if self._log else "Run 'tvmbuild doctor'.",
                )
            time.sleep(_POLL_SECONDS)

    def _watch(self) -> None:
        while not self._ending.wait(_POLL_SECONDS):
            for index, process in enumerate(self._processes):
                hasty = time.monotonic() - self._started[index] < _HASTY_SECONDS
                if process.poll() is not None and not hasty:
                    self._started[index] = time.monotonic()
                    try:
                        self._processes[index] = start(self._commands[index], self._log)
                    except DeviceError:
                        # The program may be on its way back (a cache that is made anew); the next round tries again.
                        continue


def _free_port() -> int:
    """Return a port that is free now; between this and its use somebody else may take it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
