"""A client of TVM's tracker: what boards it knows, and a lease of one.

It speaks the tracker's protocol (``tvm/rpc/tracker.py`` of apache-tvm 0.27) itself: TVM's own client costs a second of
import, retries for a minute and waits for a free board without end.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from tvmbuild.errors import OptionError, TrackerError

_MAGIC = struct.pack("<i", 0x2F271)
_REQUEST, _SUMMARY = 4, 6
_SUCCESS = 0
_ANSWER_SECONDS = 5.0
_MAX_MESSAGE = 1 << 24
#: The port that TVM's tracker takes by default.
DEFAULT_PORT = 9190


@dataclass(frozen=True)
class Address:
    """A host and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return "host:port"."""
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class BoardEntry:
    """One board that the tracker knows; what only our own server tells is empty for others.

    Attributes:
        key: what clients ask for.
        address: where clients connect, "host:port".
        fingerprint: what the board is (core, kernel, tvm, ...).
        health: how it was doing at most some ten seconds ago.
        session: peer, user and start of the session that holds it; None when it is free or does not tell.
    """

    key: str
    address: str
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    session: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class KeySummary:
    """What the tracker knows of one key: its boards, how many are free, how many clients wait."""

    key: str
    boards: tuple[BoardEntry, ...]
    free: int
    waiting: int

    @property
    def busy(self) -> int:
        """Boards that are not free."""
        return max(len(self.boards) - self.free, 0)


@dataclass(frozen=True)
class Offer:
    """A board that the tracker gave us: its address, and the key to show there."""

    address: Address
    match_key: str


class NoOfferError(Exception):
    """No board became free in time."""


def parse_address(text: str, default_port: int = DEFAULT_PORT) -> Address:
    """Return the address in "HOST:PORT" or "HOST".

    Raises:
        OptionError: it is none.
    """
    host, colon, port = text.rpartition(":")
    if not colon:
        host, port = text, str(default_port)
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise OptionError(f"'{text}' is no address of a tracker.", "Write HOST:PORT, for example 192.168.1.7:9190.")
    return Address(host.strip("[]"), int(port))


class TrackerClient:
    """A connection to a tracker; use it in a ``with`` block."""

    def __init__(self, address: Address, timeout: float = _ANSWER_SECONDS) -> None:
        """Connect.

        Raises:
            TrackerError: nothing answers there, or it is no tracker.
        """
        self._address = address
        try:
            self._socket = socket.create_connection((address.host, address.port), timeout)
        except OSError as error:
            raise self._silent(error) from error
        try:
            self._socket.sendall(_MAGIC)
            if self._receive(4) != _MAGIC:
                raise OSError("what answers is no tracker of TVM")
        except OSError as error:
            self._socket.close()
            raise self._silent(error) from error

    def __enter__(self) -> TrackerClient:
        """Return the connection."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connection; a request that waits is withdrawn by that."""
        self._socket.close()

    def summary(self) -> list[KeySummary]:
        """Return what the tracker knows, sorted by key.

        Raises:
            TrackerError: it does not answer.
        """
        return parse_summary(self._ask([_SUMMARY], _ANSWER_SECONDS))

    def request(self, key: str, timeout: float) -> Offer:
        """Wait for a free board of a key.

        Raises:
            NoOfferError: none became free within ``timeout`` seconds.
            TrackerError: the tracker went away.
        """
        try:
            host, port, match_key = self._ask([_REQUEST, key, "", 1], timeout)
        except TimeoutError as error:
            raise NoOfferError(key) from error
        return Offer(Address(str(host), int(port)), str(match_key))

    def _ask(self, message: list[Any], timeout: float) -> Any:
        data = json.dumps(message).encode()
        try:
            self._socket.settimeout(max(timeout, 0.001))
            self._socket.sendall(struct.pack("<i", len(data)) + data)
            (size,) = struct.unpack("<i", self._receive(4))
            if not 0 < size <= _MAX_MESSAGE:
                raise OSError("it sent a message of an impossible size")
            code, value = json.loads(self._receive(size))
        except TimeoutError:
            if message[0] == _REQUEST:
                raise
            raise self._silent(OSError("no answer")) from None
        except (OSError, ValueError, TypeError) as error:
            raise self._silent(error) from error
        if code != _SUCCESS:
            raise self._silent(OSError(f"it refused with code {code}"))
        return value

    def _receive(self, size: int) -> bytes:
        received = b""
        while len(received) < size:
            # The tracker sends length and text apart, and the second waits for our acknowledgement of the first, which
            # the kernel would delay by 40 ms; it forgets this option after a while.
            if hasattr(socket, "TCP_QUICKACK"):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            block = self._socket.recv(size - len(received))
            if not block:
                raise OSError("it closed the connection")
            received += block
        return received

    def _silent(self, error: Exception) -> TrackerError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return TrackerError(
            f"The tracker {self._address} does not answer: {reason}.",
            "Start one with 'tvmbuild tracker', and compare its address with --tracker.",
        )


def parse_summary(value: Mapping[str, Any]) -> list[KeySummary]:
    """Return the summary that a tracker sends in our own terms.

    Args:
        value: ``{"queue_info": {key: {"free": n, "pending": n}}, "server_info": [{"key": "server:...", ...}]}``.
    """
    boards: dict[str, list[BoardEntry]] = {}
    for info in value.get("server_info", []):
        key = str(info.get("key", "")).partition(":")[2]
        host, port = info.get("addr", ["?", 0])
        entry = BoardEntry(
            key, f"{host}:{port}", info.get("fingerprint") or {}, info.get("health") or {}, info.get("session")
        )
        boards.setdefault(key, []).append(entry)
    queues = value.get("queue_info", {})
    found = []
    for key in sorted({*boards, *queues}):
        queue = queues.get(key, {})
        ours = tuple(sorted(boards.get(key, []), key=lambda board: board.address))
        # Keys that somebody once asked for, or had, stay in the tracker's list.
        if ours or queue.get("pending"):
            found.append(KeySummary(key, ours, int(queue.get("free", 0)), int(queue.get("pending", 0))))
    return found


def holders(summary: KeySummary) -> str:
    """Return who holds the boards of a key, for people ("max@desk since 12:03 on 127.0.0.1:9091")."""
    said = []
    for board in summary.boards:
        if board.session:
            who = board.session.get("user") or board.session.get("peer", "somebody")
            since = time.strftime("%H:%M", time.localtime(board.session.get("since", 0)))
            said.append(f"{who} since {since} on {board.address}")
    return ", ".join(said)
