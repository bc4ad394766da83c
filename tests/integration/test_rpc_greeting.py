"""Greetings that come slowly, by halves or never: of boards, of trackers and of clients."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import threading
from pathlib import Path

import pytest
from rpc_libraries import wait_until
from tvm import rpc

from tvmbuild.device.fleet import relay
from tvmbuild.device.fleet.address import Address
from tvmbuild.device.fleet.processes import native_server_command, start, stop
from tvmbuild.device.fleet.session import BoardSession
from tvmbuild.device.fleet.tracker import Offer, TrackerClient
from tvmbuild.support.errors import MeasureError, TrackerError
from tvmbuild.target.target import load_target

HOST = load_target("host")


def test_a_board_that_hangs_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "GREETING_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(MeasureError) as caught:
        BoardSession(Offer(Address("127.0.0.1", silent.getsockname()[1]), "key"), 60)
    assert caught.value.cause == "lost"


@pytest.mark.parametrize("greeting", [b"\x71\xf2\x0f\x00", b"\x71\xf2\x0f\x00\xff\xff\xff\x7f"])
def test_a_board_that_greets_by_halves_is_passed_over(greeting: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "GREETING_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as board:

        def greet() -> None:
            connection, _ = board.accept()
            with connection:
                connection.sendall(greeting)
                while connection.recv(1024):
                    pass

        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(MeasureError) as caught:
            BoardSession(Offer(Address("127.0.0.1", board.getsockname()[1]), "key"), 60)
        thread.join()
    assert caught.value.cause == "lost"


def test_a_tracker_that_sends_a_byte_now_and_then_is_given_up_after_one_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = Address("127.0.0.1", listener.getsockname()[1])
        end = threading.Event()

        def drip() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                while not end.wait(0.05):
                    connection.sendall(b"\x71")

        server = threading.Thread(target=drip)
        server.start()
        with pytest.raises(TrackerError, match="does not answer"):
            TrackerClient(address, 0.12)
        end.set()
        server.join()


def greeting_of(key: str) -> bytes:
    shown = f"client:{key}".encode()
    return struct.pack("<ii", 0xFF271, len(shown)) + shown


def test_clients_that_never_finish_greeting_make_no_other_wait(tmp_path: Path) -> None:
    """Each of the slow ones sends a byte now and then, the others connect at the same time."""
    server, port = direct_server(tmp_path / "direct.log")
    slow: list[socket.socket] = []
    try:
        slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(40)]
        for index, client in enumerate(slow):
            client.sendall(greeting_of("direct")[: index % 12])
        wrong = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
        for client in wrong:
            client.sendall(greeting_of("other"))
        for client in wrong:
            client.settimeout(30)
            assert client.recv(4) == struct.pack("<i", 0xFF271 + 2)
            client.close()
        for client in slow[: len(slow) // 2]:
            client.sendall(b"x")
        session = rpc.connect("127.0.0.1", port, "direct", session_timeout=30)
        assert json.loads(session.get_function("tvmbuild.fingerprint")())["machine"] == HOST.arch
        # The session's process holds the server's own connections no more than those of others.
        (child,) = Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split()
        sockets = [str(path.readlink()) for path in Path(f"/proc/{child}/fd").iterdir()]
        assert sum(name.startswith("socket:") for name in sockets) == 1
        del session
        # Who never finishes is dropped, whatever he sends meanwhile.
        slow[-1].settimeout(30)
        assert slow[-1].recv(1) == b""
    finally:
        for client in slow:
            client.close()
        stop(server)


def direct_server(log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server without a tracker and wait until it listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = native_server_command(HOST, Address("127.0.0.1", 1), "direct", emulated=False, port=port)
    at = command.index("--tracker")
    server = start(command[:at] + command[at + 2 :], log)
    wait_until(lambda: "listening on" in log.read_text())
    return server, port
