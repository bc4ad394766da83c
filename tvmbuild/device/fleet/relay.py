"""A connection to a board that can be broken off.

TVM's client waits in C++ without a limit, and its socket cannot be reached. It therefore connects to a relay, which
passes the bytes on; when the relay closes, any wait ends. The relay is a process: dropping a remote object is a call
too, made with Python's lock held, and no thread of this process could break that off.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

from tvmbuild.device.fleet.address import Address

_PROGRAM = Path(__file__).with_name("relay_process.py")
#: The relay itself gives up connecting to a board after five seconds.
_ANSWER_SECONDS = 15.0
#: A free board greets at once; one that does not within this time hangs.
GREETING_SECONDS = 15.0


class Relay:
    """One connection to a board through the relay process, which all relays of this process share."""

    def __init__(self, board: Address, timeout: float) -> None:
        """Connect to the board.

        Args:
            board: where its server listens.
            timeout: seconds after which the connection is closed, whatever happens.

        Raises:
            OSError: the board does not answer.
        """
        self._control = socket.socket(socket.AF_UNIX)
        self._control.settimeout(_ANSWER_SECONDS)
        try:
            self._control.connect(_process.address())
            self._control.sendall(f"{board.host} {board.port} {timeout} {GREETING_SECONDS}\n".encode())
            word, _, rest = self._read().partition(" ")
            if word != "port":
                raise OSError(rest or "the relay ended")
        except BaseException:
            self._control.close()
            raise
        self.port = int(rest)

    def expired(self) -> bool:
        """Tell whether the relay has closed the connection because its time was over."""
        self._control.settimeout(0.0)
        try:
            return self._control.recv(16).startswith(b"expired")
        except OSError:
            return False

    def close(self) -> None:
        """Break off; whoever waits at either end finds the connection closed."""
        self._control.close()

    def _read(self) -> str:
        line = b""
        while not line.endswith(b"\n") and (block := self._control.recv(256)):
            line += block
        return line.decode().strip()


class _Process:
    """The relay process: started when first needed, ended with this process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._listener: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None

    def address(self) -> bytes:
        """Return where the process listens, after starting it if need be."""
        with self._lock:
            if self._listener is None or self._process is None or self._process.poll() is not None:
                # Without a name Linux gives an abstract one, which leaves nothing behind.
                self._listener = socket.socket(socket.AF_UNIX)
                self._listener.bind("")
                self._listener.listen(64)
                number = self._listener.fileno()
                command = [sys.executable, "-I", str(_PROGRAM), str(number)]
                # In a session of its own, for the terminal sends Ctrl-C to all of ours: it ends when we have ended.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.PIPE, pass_fds=(number,), start_new_session=True
                )
            return bytes(self._listener.getsockname())


_process = _Process()
