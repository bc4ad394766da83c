"""One session on a board: upload, load, run and time, with a limit on every call and causes in plain words."""

from __future__ import annotations

import getpass
import json
import re
import signal
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from tvmbuild.device.fleet.facts import read_fingerprint, read_health
from tvmbuild.device.fleet.relay import Relay
from tvmbuild.device.fleet.tracker import Offer
from tvmbuild.support.errors import MeasureError

#: Words by which our server tells a waiting client why it ends the session.
_ENDED = re.compile(r"tvmbuild-session: (time-out|crash with signal (\d+)|exit with (\d+)|server stops)")
#: Words in TVM's errors when the other end is gone. "kShutdown" is what its client reads into a closed connection.
_GONE = ("kShutdown", "Socket", "connection", "Connection", "SockChannel", "code == RPCCode", "code=")
_NO_LIBRARY = "cannot open shared object file"
_REMOTE = "Error caught from RPC call"
_HINTS = {
    "upload": "Check the free disk space of the board (tvmbuild device check) and the network.",
    "load": "Build the library for this board: compare 'tvmbuild inspect' with 'tvmbuild device list'.",
    "time-out": "Allow more time, or look at the board with 'tvmbuild device check'.",
    "crash": "Run 'tvmbuild verify --on emulated' on the same library to see whether it crashes there too.",
    "lost": "Check the board's power, network and SSH tunnel; 'tvmbuild device list' shows whether it is back.",
    "wrong": "Compare the arguments with what the function takes: tvmbuild inspect.",
}


class BoardSession:
    """A board, leased until the session is closed; use it in a ``with`` block, from one thread at a time."""

    def __init__(self, offer: Offer, timeout: float) -> None:
        """Connect to an offered board.

        Args:
            offer: from the tracker.
            timeout: limit of the whole session, in seconds.

        Raises:
            MeasureError: the board does not answer, or takes us for somebody else (cause "lost").
        """
        self.board = str(offer.address)
        self._timeout = timeout
        try:
            self._relay = Relay(offer.address, timeout)
        except OSError as error:
            raise MeasureError(
                "lost",
                f"The board {self.board} does not answer: {error.strerror or error}.",
                _HINTS["lost"],
                self.board,
            ) from error
        # The server's own limit is a second longer, for the case that this process dies.
        key = f"{offer.match_key} -timeout={timeout + 1:g} -user={_user()}"
        try:
            with self._step("lost", "connect"):
                from tvm import rpc

                self._session = rpc.connect("127.0.0.1", self._relay.port, key)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> BoardSession:
        """Return the session."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the board back."""
        self.close()

    def close(self) -> None:
        """End the session; the board becomes free."""
        with suppress(AttributeError):
            with suppress(Exception):
                self._session.get_function("CloseRPCConnection")()
            del self._session
        self._relay.close()

    def fingerprint(self) -> dict[str, Any]:
        """Return what the board is; empty when its server does not tell."""
        return read_fingerprint(self._facts("tvmbuild.fingerprint"))

    def health(self) -> dict[str, Any]:
        """Return how the board is doing; empty when its server does not tell."""
        return read_health(self._facts("tvmbuild.health"))

    def peak_bytes(self) -> int:
        """Return the largest resident set of the session's process; 0 when the server does not tell."""
        function = self._optional("tvmbuild.peak_bytes")
        with self._step("wrong", "read the memory in use"):
            return int(function()) if function else 0

    def send(self, library: Path, name: str = "lib.so") -> None:
        """Send a library.

        Raises:
            MeasureError: with cause "upload", or why the session ended.
        """
        with self._step("upload", f"send {library.name}"):
            self._session.upload(bytearray(library.read_bytes()), name)

    def load(self, library: Path, threads: int | None = None, name: str = "lib.so") -> RemoteLibrary:
        """Send a library and load it; a second one in a session needs another ``name`` there.

        Raises:
            MeasureError: with cause "upload" or "load", or why the session ended.
        """
        self.send(library, name)
        with self._step("load", f"load {library.name}"):
            if threads is not None:
                self._session.get_function("runtime.config_threadpool")(_ALL_CORES, threads)
            return RemoteLibrary(self, self._session.load_module(name))

    def tensor(self, array: np.ndarray[Any, Any]) -> Any:
        """Return a copy of an array on the board."""
        import tvm

        with self._step("upload", "send an argument"):
            return tvm.runtime.tensor(np.ascontiguousarray(array), self.cpu())

    def cpu(self) -> Any:
        """Return the board's CPU as a device of TVM."""
        return self._session.cpu(0)

    def _optional(self, name: str) -> Any:
        """Return a function that other servers lack, or None."""
        try:
            with self._step("wrong", f"look up {name}"):
                return self._session.get_function(name)
        except MeasureError as error:
            # A name that the board does not know is no end of the session.
            if error.cause == "wrong":
                return None
            raise

    def _facts(self, name: str) -> Any:
        function = self._optional(name)
        if not function:
            return None
        with self._step("wrong", f"call {name}"):
            return json.loads(function())

    @contextmanager
    def _step(self, cause: str, what: str) -> Iterator[None]:
        """Turn TVM's errors into ours; ``cause`` is that of an error which the board itself reports."""
        try:
            yield
        except MeasureError:
            raise
        except (OSError, RuntimeError, ValueError, TypeError, AttributeError, KeyError) as error:
            raise self._explain(cause, what, str(error)) from error

    def _explain(self, cause: str, what: str, said: str) -> MeasureError:
        ended = _ENDED.search(said)
        if self._relay.expired() or "RPCSessionTimeoutError" in said:
            cause, reason = "time-out", f"it was not done within {self._timeout:g} seconds"
        elif ended:
            cause, reason = _ending(ended)
        elif _REMOTE not in said and any(word in said for word in _GONE):
            cause, reason = "lost", "the connection broke"
        else:
            lines = [line.strip() for line in said.splitlines() if line.strip() and _REMOTE not in line]
            reason = lines[-1][:300].rstrip(".") if lines else "no reason given"
            if cause == "load" and _NO_LIBRARY in reason:
                # What the loader says of a library for another machine. Our own server says which.
                reason = "its loader takes no such library; it may be for another kind of machine"
        return MeasureError(
            cause, f"The board {self.board} could not {what}: {reason}.", _HINTS.get(cause, ""), self.board
        )


#: Mode of runtime.config_threadpool that prefers the fast cores of a machine that has two kinds.
_ALL_CORES = 1


class RemoteLibrary:
    """A library that a board has loaded."""

    def __init__(self, session: BoardSession, module: Any) -> None:
        """Hold TVM's handle."""
        self._session = session
        self._module = module
        self._machine: Any = None

    def run(self, arguments: Sequence[np.ndarray[Any, Any]], runs: int = 1) -> list[Any]:
        """Run the model's ``main`` and return its outputs, tensors on the board; tuples are laid out flat.

        Raises:
            MeasureError: cause "wrong" when the model refuses its inputs, "load" when it holds no model.
        """
        session = self._session
        with session._step("load", "start the model"):
            self._machine = self._machine or self._module["vm_load_executable"]()
            self._machine["vm_initialization"](_CPU, 0, _POOLED)
        remote = [session.tensor(array) for array in arguments]
        with session._step("wrong", "run the model"):
            self._machine["set_input"]("main", *remote)
            for _ in range(runs):
                self._machine["invoke_stateful"]("main")
            return self._outputs()

    def time_model(self, repeat: int) -> tuple[float, ...]:
        """Return the seconds of ``repeat`` runs of ``main`` with the inputs of the last ``run``."""
        with self._session._step("wrong", "time the model"):
            evaluator = self._machine.time_evaluator("invoke_stateful", self._session.cpu(), number=1, repeat=repeat)
            return tuple(float(value) for value in evaluator("main").results)

    def time_function(
        self, name: str, arguments: Sequence[Any], *, repeat: int, number: int, min_repeat_ms: int
    ) -> tuple[float, ...]:
        """Return the seconds that one call of a function takes, ``repeat`` averages of ``number`` calls or more.

        On a board with TVM's own server, which finds no functions below a model, the whole ``main`` is timed instead;
        the virtual machine adds some microseconds to each call.

        Args:
            name: a function that writes its result into its last arguments.
            arguments: tensors on the board.
            repeat: number of averages.
            number: calls in each.
            min_repeat_ms: least duration of an average, in milliseconds; ``number`` is raised to reach it.
        """
        session = self._session
        options = {"number": number, "repeat": repeat, "min_repeat_ms": min_repeat_ms}
        expose = session._optional("tvmbuild.expose")
        with session._step("wrong", f"time {name}"):
            if expose:
                evaluator = session._session._sess.time_evaluator(expose(self._module, name), session.cpu(), **options)
            else:
                evaluator = self._machine.time_evaluator("invoke_stateful", session.cpu(), **options)
                arguments = ["main"]
            return tuple(float(value) for value in evaluator(*arguments).results)

    def fetch(self, tensors: Sequence[Any]) -> tuple[np.ndarray[Any, Any], ...]:
        """Return tensors of the board as arrays."""
        with self._session._step("lost", "send the outputs"):
            return tuple(tensor.numpy() for tensor in tensors)

    def _outputs(self, *index: int) -> list[Any]:
        count = int(self._machine["get_output_arity"]("main", *index))
        if count < 0:
            return [self._machine["get_output"]("main", *index)]
        return [output for i in range(count) for output in self._outputs(*index, i)]


_CPU, _POOLED = 1, 2


def _ending(ended: re.Match[str]) -> tuple[str, str]:
    """Return cause and words for what our server said when it ended the session."""
    if ended[2]:
        number = int(ended[2])
        name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
        if number == signal.SIGILL:
            return "crash", "the library uses an instruction that the board does not have"
        return "crash", f"its process died of {name}"
    if ended[3]:
        return "crash", f"its process exited with {ended[3]}"
    return ("time-out", "its time was over") if ended[1] == "time-out" else ("lost", "the server was stopped")


def _user() -> str:
    """Return who we are, as one word, for the list of boards."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        name = "somebody"
    return re.sub(r"[^\w.@-]", "_", f"{name}@{socket.gethostname()}")
