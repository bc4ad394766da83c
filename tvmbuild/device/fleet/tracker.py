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

from tvmbuild.device.fleet.address import Address, is_host
from tvmbuild.device.fleet.facts import clean_text, read_fingerprint, read_health, read_session, whole_number
from tvmbuild.support.errors import TrackerError

_MAGIC = struct.pack("<i", 0x2F271)
_REQUEST, _SUMMARY = 4, 6
_SUCCESS = 0
_ANSWER_SECONDS = 5.0
_MAX_MESSAGE = 1 << 24


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


@dataclass(frozen=True)
class Summary:
    """What the tracker knows.

    Attributes:
        keys: sorted by name.
        unreadable: entries that name no key or no address that a client could use.
    """

    keys: tuple[KeySummary, ...]
    unreadable: int = 0


class NoOfferError(Exception):
    """No board became free in time."""


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
        # A host's name may be none that can be looked up.
        except (OSError, UnicodeError) as error:
            raise self._silent(error) from error
        try:
            self._socket.sendall(_MAGIC)
            if self._receive(4, time.monotonic() + timeout) != _MAGIC:
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

    def summary(self) -> Summary:
        """Return what the tracker knows.

        Raises:
            TrackerError: it does not answer, or not with a summary.
        """
        value = self._ask([_SUMMARY], _ANSWER_SECONDS)
        if not isinstance(value, dict):
            raise self._silent(OSError("it sent something else than a summary"))
        return parse_summary(value)

    def request(self, key: str, timeout: float) -> Offer:
        """Wait for a free board of a key.

        Raises:
            NoOfferError: none became free within ``timeout`` seconds.
            TrackerError: the tracker went away, or offers what is no board.
        """
        try:
            offer = self._ask([_REQUEST, key, "", 1], timeout)
        except TimeoutError as error:
            raise NoOfferError(key) from error
        host, port, match_key = offer if isinstance(offer, list) and len(offer) == 3 else (None, None, None)
        address = _read_address([host, port])
        if address is None or not isinstance(match_key, str) or not match_key.isprintable():
            raise self._silent(OSError("it offered a board without an address"))
        return Offer(address, match_key)

    def _ask(self, message: list[Any], timeout: float) -> Any:
        """Return the value that answers a message; ``timeout`` is for all of it.

        Raises:
            TimeoutError: no answer to a request for a board.
            TrackerError: no answer to anything else, or one that is none.
        """
        data = json.dumps(message).encode()
        deadline = time.monotonic() + max(timeout, 0.001)
        try:
            self._socket.settimeout(max(timeout, 0.001))
            self._socket.sendall(struct.pack("<i", len(data)) + data)
            (size,) = struct.unpack("<i", self._receive(4, deadline))
            if not 0 < size <= _MAX_MESSAGE:
                raise OSError("it sent a message of an impossible size")
            code, value = json.loads(self._receive(size, deadline))
        except TimeoutError:
            if message[0] == _REQUEST:
                raise
            raise self._silent(OSError("no answer")) from None
        except (ValueError, TypeError, RecursionError) as error:
            raise self._silent(OSError("it sent something else than expected")) from error
        except OSError as error:
            raise self._silent(error) from error
        if code != _SUCCESS:
            raise self._silent(OSError("it refused"))
        return value

    def _receive(self, size: int, deadline: float) -> bytes:
        """Return so many bytes; a peer that sends one now and then does not move the deadline."""
        received = bytearray()
        while len(received) < size:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError("no answer in time")
            self._socket.settimeout(left)
            # The tracker sends length and text apart, and the second waits for our acknowledgement of the first, which
            # the kernel would delay by 40 ms; it forgets this option after a while.
            if hasattr(socket, "TCP_QUICKACK"):
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
            block = self._socket.recv(size - len(received))
            if not block:
                raise OSError("it closed the connection")
            received += block
        return bytes(received)

    def _silent(self, error: Exception) -> TrackerError:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return TrackerError(
            f"The tracker {self._address} does not answer: {reason}.",
            "Start one with 'tvmbuild tracker', and compare its address with --tracker.",
        )


def parse_summary(value: Mapping[str, Any]) -> Summary:
    """Return the summary that a tracker sends in our own terms.

    Args:
        value: ``{"queue_info": {key: {"free": n, "pending": n}}, "server_info": [{"key": "server:...", ...}]}``.
            Whatever has another type counts as not told; entries without a key or an address are counted and left out.
    """
    boards: dict[str, list[BoardEntry]] = {}
    infos = _list(value.get("server_info"))
    for entry in filter(None, map(_read_board, infos)):
        boards.setdefault(entry.key, []).append(entry)
    queues = {_text(key): _dict(queue) for key, queue in _dict(value.get("queue_info")).items()}
    found = []
    for key in sorted({*boards, *queues}):
        queue = queues.get(key, {})
        free, waiting = (whole_number(queue.get(name)) or 0 for name in ("free", "pending"))
        ours = tuple(sorted(boards.get(key, []), key=lambda board: board.address))
        # Keys that somebody once asked for, or had, stay in the tracker's list.
        if ours or waiting:
            found.append(KeySummary(key, ours, free, waiting))
    return Summary(tuple(found), len(infos) - sum(map(len, boards.values())))


def _read_board(info: object) -> BoardEntry | None:
    entry = _dict(info)
    key, address = _text(entry.get("key")).partition(":")[2], _read_address(entry.get("addr"))
    if not key or address is None:
        return None
    told = (read_fingerprint(entry.get("fingerprint")), read_health(entry.get("health")))
    return BoardEntry(key, str(address), *told, read_session(entry.get("session")))


def _read_address(value: object) -> Address | None:
    """Return the address in ``[host, port]``; None when it is none."""
    host, port = value if isinstance(value, list) and len(value) == 2 else (None, None)
    number = whole_number(port, 65535)
    return Address(host, number) if isinstance(host, str) and is_host(host) and number else None


def _text(value: object) -> str:
    return clean_text(value) or ""


def _dict(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def holders(summary: KeySummary) -> str:
    """Return who holds the boards of a key, for people ("max@desk since 12:03 on 127.0.0.1:9091")."""
    said = []
    for board in summary.boards:
        if board.session:
            who = board.session.get("user") or board.session.get("peer") or "somebody"
            since = time.strftime("%H:%M", time.localtime(board.session.get("since", 0)))
            said.append(f"{who} since {since} on {board.address}")
    return ", ".join(said)
