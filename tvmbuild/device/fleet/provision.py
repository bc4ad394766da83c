"""Set a board up over SSH: our server, the runtime libraries, a unit of systemd, and a tunnel.

Only the system's own ssh and scp are used, so that keys, agents, jump hosts and ~/.ssh/config work as they do by hand.
Nothing needs root: the files lie in the user's home folder and the unit is the user's own.
"""

from __future__ import annotations

import shlex
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tvmbuild.codegen.elf import version_key
from tvmbuild.device.fleet.address import Address
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.support.errors import OptionError, ProvisionError
from tvmbuild.support.escape import systemd_word
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

UNIT = "tvmbuild-board.service"
_FOLDER = ".local/share/tvmbuild-board"
_UNITS = ".config/systemd/user"
_SECONDS = 300
#: Free space that the files and some candidates need, in KiB.
_NEEDED_KIB = 100_000
_UNIT_TEXT = """\
[Unit]
Description=RPC server of tvmbuild for a tracker
After=network.target

[Service]
ExecStart=%h/{folder}/{runner} serve {arguments}
Restart=always
RestartSec=2
NoNewPrivileges=yes
UMask=0077

[Install]
WantedBy=default.target
"""


@dataclass(frozen=True)
class Provision:
    """What to set up.

    Attributes:
        board: where ssh goes ("pi@raspberrypi.local").
        target: what the board is.
        key: what clients will ask the tracker for.
        tracker: the tracker, as this machine sees it (with a tunnel) or as the board does (without).
        port: port of the board's server; with a tunnel this machine forwards the same one, so each board has its own.
        tunnel: bring tracker and server together through SSH; otherwise the server's port is open to the network.
    """

    board: str
    target: Target
    key: str
    tracker: Address
    port: int = 9091
    tunnel: bool = True

    def unit(self) -> str:
        """Return the text of the unit."""
        tracker = Address("127.0.0.1", self.tracker.port) if self.tunnel else self.tracker
        arguments = ["--tracker", str(tracker), "--key", self.key, "--port", str(self.port)]
        arguments += ["--host", "127.0.0.1" if self.tunnel else "0.0.0.0"]
        words = " ".join(map(systemd_word, arguments))
        return _UNIT_TEXT.format(folder=_FOLDER, runner=RUNNER_NAME, arguments=words)

    def tunnel_command(self) -> list[str]:
        """Return the command that holds the tunnel: the tracker for the board, the board's server for us."""
        forwards = [
            "-R",
            f"127.0.0.1:{self.tracker.port}:{self.tracker}",
            "-L",
            f"127.0.0.1:{self.port}:127.0.0.1:{self.port}",
        ]
        options = ["-o", "ExitOnForwardFailure=yes", "-o", "ServerAliveInterval=10", "-o", "ServerAliveCountMax=3"]
        return ["ssh", "-N", *options, *forwards, self.board]


def provision(request: Provision) -> None:
    """Copy the files, write the unit and start it.

    Raises:
        OptionError: the board's name or the key is none, or the tracker cannot be reached from the board.
        ProvisionError: ssh or scp failed, or the board is not what the target says.
        ToolchainError, CompileError, FetchError: the runner cannot be made.
    """
    _check_options(request)
    with stage(f"look at {request.board}"):
        _check_board(request)
    files = sorted(path for path in runner_folder(request.target).iterdir() if path.is_file())
    with stage(f"copy the server to {request.board}") as step, tempfile.TemporaryDirectory(prefix="tvmbuild-") as name:
        unit = Path(name) / UNIT
        unit.write_text(request.unit(), encoding="utf-8")
        _ssh(request.board, f"rm -rf {_FOLDER}.new && mkdir -p {_FOLDER}.new {_UNITS}")
        _scp([*files, unit], f"{request.board}:{_FOLDER}.new/")
        # The old files stay until the new ones are whole.
        _ssh(
            request.board,
            f"chmod 755 {_FOLDER}.new/{RUNNER_NAME} && {_FOLDER}.new/{RUNNER_NAME} serve --help >/dev/null && "
            f"mv {_FOLDER}.new/{UNIT} {_UNITS}/{UNIT} && rm -rf {_FOLDER} && mv {_FOLDER}.new {_FOLDER}",
        )
        step.detail = f"{sum(path.stat().st_size for path in files) / 1e6:.1f} MB"
    with stage(f"start {UNIT}"):
        # Without lingering the unit would end with the user's last session; where it is not allowed it still runs now.
        _ssh(request.board, "loginctl enable-linger 2>/dev/null || true")
        _ssh(
            request.board,
            f"systemctl --user daemon-reload && systemctl --user enable {UNIT} && systemctl --user restart {UNIT}",
        )


def _check_options(request: Provision) -> None:
    if not request.board or request.board.startswith("-") or any(c.isspace() for c in request.board):
        raise OptionError(f"'{request.board}' is no board for ssh.", "Write it as for ssh: pi@raspberrypi.local.")
    if not request.key or shlex.quote(request.key) != request.key or ":" in request.key or "%" in request.key:
        raise OptionError(f"'{request.key}' is no key.", "Take a word such as rpi4.")
    if not request.tunnel and request.tracker.is_loopback:
        raise OptionError(
            f"Without a tunnel the board cannot reach the tracker {request.tracker}.",
            "Leave out --no-tunnel, or give --tracker the address that the board sees.",
        )


def _check_board(request: Provision) -> None:
    said = _ssh(request.board, "uname -m; getconf GNU_LIBC_VERSION; df -Pk . | tail -n 1").splitlines()
    try:
        machine, glibc, free = said[-3].strip(), said[-2].split()[-1], int(said[-1].split()[3])
    except (IndexError, ValueError) as error:
        raise ProvisionError(
            f"{request.board} answered something else than expected: {' / '.join(said)[:200]}.",
            "Its login scripts may print text; have them do so for terminals only.",
        ) from error
    target = request.target
    if machine != target.arch:
        hint = "Install a 64-bit Raspberry Pi OS." if machine.startswith("arm") else "Give the target of that board."
        raise ProvisionError(f"{request.board} is {machine}, but {target.name} is {target.arch}.", hint)
    if version_key(glibc) < version_key(target.glibc):
        raise ProvisionError(
            f"{request.board} has glibc {glibc}, but {target.name} is built for {target.glibc} or newer.",
            "Update its system, or set glibc in a target file of your own.",
        )
    if free < _NEEDED_KIB:
        raise ProvisionError(f"{request.board} has only {free // 1000} MB free.", "Free some space there.")


def _ssh(board: str, command: str) -> str:
    return _run(["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", board, command], board)


def _scp(files: Sequence[Path], destination: str) -> None:
    command = ["scp", "-q", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", *map(str, files), destination]
    _run(command, destination.partition(":")[0])


def _run(command: Sequence[str], board: str) -> str:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_SECONDS, check=False, stdin=subprocess.DEVNULL
        )
    except FileNotFoundError as error:
        raise ProvisionError(f"{command[0]} is not installed.", "sudo apt-get install -y openssh-client") from error
    except subprocess.TimeoutExpired as error:
        raise ProvisionError(f"{board} did not answer within {_SECONDS} seconds.", f"Try: ssh {board}") from error
    if done.returncode != 0:
        last = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ProvisionError(
            f"{command[0]} to {board} failed: {last}.",
            f"'ssh {board}' has to work without a password: ssh-copy-id {board}.",
        )
    return done.stdout
