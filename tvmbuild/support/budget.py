"""What reading and preparing a model may cost, and a process of its own for libraries that cannot be interrupted.

A file of a few hundred bytes can ask for any number of nodes, bytes and rounds. Where an estimate shows it, the model
is refused before the work; the rest runs in a child that has a limit of memory and is killed when the time is over.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import gc
import multiprocessing
import os
import pickle
import re
import resource
import signal
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from tvmbuild.support.errors import LimitError, ModelError, OptionError, TvmbuildError
from tvmbuild.support.suggest import did_you_mean

ResultT = TypeVar("ResultT")

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
_PR_SET_PDEATHSIG = 1
#: How the libraries say that there is no memory left.
_NO_MEMORY = re.compile(r"bad.?alloc|Failed to allocate memory|out of memory|MemoryError", re.IGNORECASE)
_CRASHED = "The file is damaged or hostile, or a library has a bug; simplify the model in its exporter."
#: Seconds more for each node of a model: folding takes 2 to 4 milliseconds.
_SECONDS_A_NODE = 0.01
#: Copies of the weights that a library makes while it reads a model (message, session, packed weights, result).
_WEIGHT_COPIES = 4


@dataclass(frozen=True)
class Limits:
    """The most that reading and preparing one model may take.

    Attributes:
        nodes: in the graph and the graphs inside it, once functions are inlined and recurrent layers unrolled.
        bytes: of the constants that folding computes, and of weights that share bytes of a file.
        memory: bytes that one step may allocate, besides some copies of the model's weights.
        seconds: from opening the file to the comparison with the original, besides some milliseconds a node.
    """

    nodes: int = 200_000
    bytes: int = 2 << 30
    memory: int = 8 << 30
    seconds: int = 300


def parse_limits(texts: Iterable[str]) -> Limits:
    """Parse the values of ``--limit``: "seconds=3600", "bytes=16G" (K, M, G are powers of 1024).

    Raises:
        OptionError: a text of another form, an unknown limit, or one given twice.
    """
    names = [field.name for field in dataclasses.fields(Limits)]
    given: dict[str, int] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name not in names:
            raise OptionError(f"There is no limit '{name}'.", did_you_mean(name, names))
        found = re.fullmatch(r"([1-9][0-9]{0,14})([KMG]?)", number.strip(), re.ASCII)
        if not found or name in given:
            raise OptionError(
                f"--limit {text!a} is given twice or is no whole number above zero.",
                "Write --limit NAME=NUMBER, once a limit, such as --limit seconds=3600 or --limit bytes=16G.",
            )
        given[name] = int(found[1]) * _UNITS[found[2]]
    return Limits(**given)


class Budget:
    """The limits of one model while it is read and prepared; its time runs from when it is made."""

    def __init__(self, path: Path, limits: Limits | None = None) -> None:
        """Start the clock; ``path`` is the model, for messages."""
        self.path = path
        self.limits = limits or Limits()
        self._seconds = float(self.limits.seconds)
        self._start = time.monotonic()

    def check_nodes(self, count: int, what: str) -> None:
        """Refuse a model of too many nodes, or give time for those that it has.

        Args:
            count: of the nodes.
            what: where they come from ("with its functions inlined").

        Raises:
            LimitError: there are more than the limit.
        """
        if count > self.limits.nodes:
            raise LimitError(
                f"{self.path} {what} has {_number(count)} nodes, more than the limit of {self.limits.nodes:,}.",
                _hint("nodes", count),
            )
        self._seconds = max(self._seconds, self.limits.seconds + _SECONDS_A_NODE * count)

    def check_bytes(self, count: int, what: str) -> None:
        """Refuse a model whose ``what`` ("constants that folding would compute") take too many bytes.

        Raises:
            LimitError: there are more than the limit.
        """
        if count > self.limits.bytes:
            raise LimitError(
                f"{self.path}: {what} take {_number(count)} bytes, more than the limit of {self.limits.bytes:,}.",
                _hint("bytes", count),
            )

    def run(
        self, what: str, weights: int, function: Callable[..., ResultT], *arguments: Any, share: int = 1
    ) -> ResultT:
        """Return what a function returns, called in a child that is killed when the budget is used up.

        Args:
            what: what the function does ("folding its constants"), for messages.
            weights: bytes of the model's weights.
            function: anything; its result must be picklable, and what it does to other objects is lost.
            arguments: of the function; they are not copied.
            share: what part of the memory it may have at most: the half for 2.

        Raises:
            LimitError: it takes too long or too much memory.
            TvmbuildError: what the function raises.
        """
        memory = self.limits.memory // share
        reader, writer = multiprocessing.Pipe(duplex=False)
        child = os.fork()
        if child == 0:
            _serve(writer, memory + _WEIGHT_COPIES * weights, function, arguments)
        writer.close()
        try:
            self._wait(reader, what)
            answer = reader.recv_bytes()
        except EOFError:
            answer = b""
        finally:
            reader.close()
            ended = _end(child)
        if not answer and ended not in (signal.SIGKILL, signal.SIGABRT):
            raise ModelError(f"{self.path}: {what} crashed ({signal.strsignal(ended) or ended}).", _CRASHED)
        result = pickle.loads(answer) if answer else _Raised(RuntimeError(), "", no_memory=True)
        if isinstance(result, _Raised) and result.no_memory:
            raise LimitError(
                f"{self.path}: {what} takes more memory than the {memory:,} bytes that it may have, or than there is.",
                _hint("memory", 2 * self.limits.memory),
            )
        if isinstance(result, _Raised):
            raise result.error from RuntimeError(result.trace)
        return result  # type: ignore[no-any-return]

    def _wait(self, reader: Connection, what: str) -> None:
        if not reader.poll(max(0.0, self._start + self._seconds - time.monotonic())):
            raise LimitError(
                f"{self.path}: {what} was not done when the limit of {self._seconds:,.0f} seconds was reached.",
                _hint("seconds", 2 * int(self._seconds)),
            )


@dataclass(frozen=True)
class _Raised:
    """An exception of the child's, where it was raised, and whether it says that an allocation failed."""

    error: Exception
    trace: str
    no_memory: bool


def _serve(writer: Connection, memory: int, function: Callable[..., Any], arguments: tuple[Any, ...]) -> NoReturn:
    """Be the child: call the function, send what it returns or raises, and end without running any other code."""
    try:
        # A collection here would write to, and so copy, all memory that is shared with the parent.
        gc.freeze()
        # The parent answers signals, and kills us; if it is killed itself, the kernel does.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        with contextlib.suppress(AttributeError, OSError):
            ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        _limit_memory(memory)
        try:
            data = pickle.dumps(function(*arguments))
        except Exception as error:
            data = pickle.dumps(_described(error))
        writer.send_bytes(data)
    finally:
        os._exit(0)


def _limit_memory(more: int) -> None:
    """Let this process allocate so many bytes more than it has."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii", errors="replace")
        used = int(status.partition("VmData:")[2].split()[0]) * 1024
        _, hard = resource.getrlimit(resource.RLIMIT_DATA)
        resource.setrlimit(resource.RLIMIT_DATA, (used + more, hard))
        _, hard = resource.getrlimit(resource.RLIMIT_CORE)
        resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    except (OSError, ValueError, IndexError):
        # Another system, or a lower limit that is set already: the time is bounded all the same.
        return


def _end(child: int) -> int:
    """End the child if it still runs, and return the signal that ended it, or 0."""
    ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        # A child that has sent its answer, or closed the pipe as it died, is about to end by itself.
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0


def _described(error: Exception) -> _Raised:
    """Return an exception that can be sent: our own as it is, any other as its text."""
    text = f"{type(error).__name__}: {error}"
    known = isinstance(error, (TvmbuildError, OSError))
    trace = "".join(traceback.format_exception(error))
    return _Raised(error if known else RuntimeError(text[:2000]), trace, bool(_NO_MEMORY.search(text)))


def _hint(name: str, wanted: int) -> str:
    return (
        "A small file that asks for so much is damaged or hostile. If you trust it, raise the limit:"
        f" --limit {name}={_number(wanted, plain=True)}"
    )


def _number(count: int, *, plain: bool = False) -> str:
    """Return a number for people: absurd ones (a file can ask for 2^1000) as a bound."""
    shown = min(count, 10**15 - 1)
    return str(shown) if plain else f"{'' if count == shown else 'over '}{shown:,}"
