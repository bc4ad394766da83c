"""TVM's tracker behind a border: what a client sends has the types that the tracker trusts, or the client is dropped.

The tracker of apache-tvm 0.27 keeps whatever it is sent and fails over it later, when somebody else asks for a summary:
one entry with a number for its key closes the connection of everyone who lists the boards.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from tvm.rpc import base
from tvm.rpc.base import TrackerCode
from tvm.rpc.tracker import TCPEventHandler, TrackerServerHandler

from tvmbuild.device.fleet.address import is_host
from tvmbuild.device.fleet.facts import clean_text, read_fingerprint, read_health, read_session, whole_number

_BACKLOG = 256
#: Fewer than the files that a process may have open by default: where no more can be had, TVM's tracker spins.
_MAX_CONNECTIONS = 900
#: Longest key, with its random part.
_MAX_KEY = 200


def run_tracker(host: str, port: int) -> None:
    """Run TVM's tracker until the process ends.

    Raises:
        OSError: it cannot listen there.
    """
    family = base.get_addr_family((host, port))
    with socket.create_server((host, port), family=family, backlog=_BACKLOG) as listener:
        asyncio.set_event_loop(asyncio.new_event_loop())
        _Tracker(listener, base.random_key("tracker")).run()


class _Tracker(TrackerServerHandler):  # type: ignore[misc]
    """TVM's tracker, with a limit of connections."""

    def _on_event(self, _: Any) -> None:
        while True:
            try:
                connection, address = self._sock.accept()
            except OSError:
                return
            if len(self._connections) < _MAX_CONNECTIONS:
                _Client(self, connection, address)
            else:
                connection.close()


class _Client(TCPEventHandler):  # type: ignore[misc]
    """A connection of TVM's tracker whose messages are looked at first."""

    def call_handler(self, args: Any) -> None:
        """Handle one message.

        Raises:
            ValueError: it is none that the tracker understands; the connection is then closed.
        """
        checked = _checked(args)
        if checked is None:
            raise ValueError("a message of another form")
        super().call_handler(checked)

    def on_close(self) -> None:
        """Take back what this connection offered, also where it has not said its name."""
        self._info.setdefault("key", "")
        super().on_close()


def _checked(message: Any) -> list[Any] | None:
    """Return a message with nothing in it but what the tracker's protocol knows; None when it is none."""
    code, *values = message if isinstance(message, list) and message else (None,)
    code = code if isinstance(code, int) and not isinstance(code, bool) else None
    if code in (TrackerCode.PING, TrackerCode.GET_PENDING_MATCHKEYS, TrackerCode.SUMMARY):
        return [code]
    if code == TrackerCode.PUT:
        return _put(values)
    if code == TrackerCode.REQUEST:
        return _request(values)
    if code == TrackerCode.UPDATE_INFO:
        return _update(values)
    if code == TrackerCode.STOP and len(values) == 1 and isinstance(values[0], str):
        return [code, values[0]]
    return None


def _put(values: list[Any]) -> list[Any] | None:
    key, offer, host = (*values, None)[:3] if len(values) in (2, 3) else (None, None, None)
    port, match_key = offer if isinstance(offer, list) and len(offer) == 2 else (None, None)
    if not _is_key(key) or not whole_number(port, 65535) or not _is_key(match_key):
        return None
    # The tracker finds an offer again by the part of the match key before its random number.
    if str(match_key).rpartition(":")[0] != key or not (host is None or _is_host(host)):
        return None
    return [TrackerCode.PUT, key, [port, match_key], host]


def _request(values: list[Any]) -> list[Any] | None:
    key, user, priority = values if len(values) == 3 else (None, None, None)
    if not _is_key(key) or not isinstance(user, str) or not isinstance(priority, int):
        return None
    return [TrackerCode.REQUEST, key, user[:_MAX_KEY], priority]


def _update(values: list[Any]) -> list[Any] | None:
    info = values[0] if len(values) == 1 and isinstance(values[0], dict) else {}
    host, port = info["addr"] if isinstance(info.get("addr"), list) and len(info["addr"]) == 2 else ("", 0)
    key, at = info.get("key"), whole_number(port, 65535)
    if not _is_key(key) or not at or not (host is None or _is_host(host)):
        return None
    told = {"fingerprint": read_fingerprint, "health": read_health, "session": read_session}
    facts = {name: read(info[name]) for name, read in told.items() if name in info}
    return [TrackerCode.UPDATE_INFO, {"key": key, "addr": [host, at], **facts}]


def _is_key(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= _MAX_KEY and clean_text(value) == value


def _is_host(value: object) -> bool:
    return isinstance(value, str) and is_host(value)
