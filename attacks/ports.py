"""Ports: clients that send rubbish to the board's server, and a tracker and entries of it that send rubbish to us."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

from attacks.attempt import command, kill_group
from attacks.mutate import DEEP, VALUES, json_of
from attacks.tally import Place, Tally, until

SERVER, TRACKER = "server sessions", "tracker sessions"
_HOST = "127.0.0.1"
#: TVM's numbers (tvm/rpc): a client's greeting of a server, and of a tracker; a tracker's requests and answer.
_SERVER_MAGIC, _TRACKER_MAGIC = 0xFF271, 0x2F271
_PUT, _UPDATE, _SUMMARY = 3, 5, 6
#: An honest client must be served within this time, whatever others do, in seconds.
_GREETING = 15.0


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def _running(words: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program that listens on a port, and kill it afterwards."""
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(words, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True)
    try:
        for _ in range(300):
            with contextlib.suppress(OSError), socket.create_connection((_HOST, port), 1.0):
                break
            time.sleep(0.1)
        yield process
    finally:
        kill_group(process.pid)
        process.wait()


def attack_server(place: Place, seconds: float) -> Tally:
    """Send what is no session to the board's server; an honest client must be greeted in between."""
    tally, random, port = Tally(SERVER), Random(place.seed), free_port()
    with _running(
        [str(place.runner), "serve", "--key", "attack", "--host", _HOST, "--port", str(port)], port
    ) as server:
        for number in until(seconds):
            _send(random, port)
            tally.tried += 1
            tally.refused += 1
            if number % 50 == 25:
                _greet(tally, port, f"after {number} hostile clients")
            if number == 100:
                _crowd(tally, port)
            if server.poll() is not None:
                tally.fail(f"the server ended with {server.returncode} after {number} clients")
                break
    return tally


def _hello(key: str = "client:attack -timeout=5 -user=x") -> bytes:
    return struct.pack("<ii", _SERVER_MAGIC, len(key)) + key.encode()


def _send(random: Random, port: int) -> None:
    """Be one hostile client."""
    greeted = _hello()
    what = random.choice(
        (
            random.randbytes(random.randrange(200)),
            struct.pack("<ii", _SERVER_MAGIC, random.choice((-1, 0, 2**31 - 1, 1 << 20))) + random.randbytes(50),
            _hello("client:attack" + " -timeout=" + random.choice(("nan", "-1", "1e400", "9" * 300))),
            _hello("client:attack -user=" + random.choice(("\x1b[2J", "x" * 3000, '"', "\0"))),
            _hello(random.choice(("client:", "server:attack", "client:attack\0", "\xff" * 90))),
            greeted + random.randbytes(random.randrange(300)),
            greeted + struct.pack("<Q", random.choice((0, 1, 2**63, 2**32, 8))) + random.randbytes(64),
            greeted + struct.pack("<Qi", 12, random.randrange(-5, 40)) + random.randbytes(random.randrange(64)),
            greeted[: random.randrange(len(greeted))],
        )
    )
    with contextlib.suppress(OSError), socket.create_connection((_HOST, port), 5.0) as client:
        client.settimeout(0.02)
        client.sendall(what)
        with contextlib.suppress(OSError):
            client.recv(100)


def _greet(tally: Tally, port: int, when: str) -> None:
    """Be an honest client and expect the server's greeting in time."""
    tally.tried += 1
    end = time.monotonic() + _GREETING
    while time.monotonic() < end:
        # A session of the one before may be ending.
        with contextlib.suppress(OSError), socket.create_connection((_HOST, port), 2.0) as client:
            client.settimeout(max(end - time.monotonic(), 0.1))
            client.sendall(_hello())
            if client.recv(4) == struct.pack("<i", _SERVER_MAGIC):
                tally.accepted += 1
                return
        time.sleep(0.1)
    tally.fail(f"an honest client was not greeted within {_GREETING:g} s {when}")


def _crowd(tally: Tally, port: int) -> None:
    """Keep many connections open and send a byte now and then; an honest client comes meanwhile."""
    crowd: list[socket.socket] = []
    over = threading.Event()

    def drip() -> None:
        for byte in (b"\x71", b"\xf2", b"\x0f", b"\x00") * 20:
            for client in crowd:
                with contextlib.suppress(OSError):
                    client.sendall(byte)
            if over.wait(2.0):
                return

    for _ in range(40):
        with contextlib.suppress(OSError):
            crowd.append(socket.create_connection((_HOST, port), 5.0))
    dripping = threading.Thread(target=drip)
    dripping.start()
    _greet(tally, port, "among 40 that send a byte every two seconds")
    over.set()
    dripping.join()
    for client in crowd:
        client.close()
    tally.tried += len(crowd)
    tally.refused += len(crowd)


def attack_tracker(place: Place, seconds: float) -> Tally:
    """Register rubbish at a tracker, then be a tracker that answers rubbish; ``device list`` must say something."""
    tally, random, folder = Tally(TRACKER), Random(place.seed), place.scratch("tracker")
    port = free_port()
    words = [sys.executable, "-m", "tvmbuild", "tracker", "--host", _HOST, "--port", str(port)]
    with _running(words, port):
        for number in until(seconds / 2):
            entry = _changed(random) if number % 2 else _of_wrong_type(random)
            with _registered(port, entry):
                # One bad entry may not hide the others from everybody.
                done = command(["device", "list", "--tracker", f"{_HOST}:{port}"], folder)
                # Some entries TVM's own tracker cannot list: we say that it does not answer, and can do no more.
                tally.take(f"entry {json.dumps(entry)[:80]}", done, may_pass=True)
                if done.code != 0 and _answers(port):
                    tally.fail(f"entry {json.dumps(entry)[:80]} makes 'device list' fail for everyone")
    for number in until(seconds / 2):
        with _false_tracker(_answer(random, number)) as false_port:
            done = command(["device", "list", "--tracker", f"{_HOST}:{false_port}"], folder, seconds=30.0)
        tally.take(f"a false tracker's answer {number}", done, may_pass=True)
    return tally


_ENTRY: dict[str, Any] = {
    "key": "server:rpi4",
    "addr": [_HOST, 9091],
    "fingerprint": {"core": "cortex-a72", "kernel": "6.1", "tvm": "0.27", "emulated": False},
    "health": {"temperature_c": 50, "mhz": 1500, "governor": "performance"},
    "session": {"peer": "p", "user": "u", "since": 1},
}


def _of_wrong_type(random: Random) -> dict[str, Any]:
    return {**_ENTRY, random.choice(list(_ENTRY)): random.choice(VALUES)}


def _changed(random: Random) -> Any:
    while True:
        # Some variations are no JSON, which the tracker, not we, would have to read.
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(json_of(random, _ENTRY))


def _packet(value: Any) -> bytes:
    data = json.dumps(value).encode(errors="replace")
    return struct.pack("<i", len(data)) + data


@contextmanager
def _registered(port: int, entry: Any) -> Iterator[None]:
    """Be a board with this entry."""
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError):
            board = stack.enter_context(socket.create_connection((_HOST, port), 5.0))
            board.settimeout(1.0)
            board.sendall(struct.pack("<i", _TRACKER_MAGIC))
            board.recv(4)
            for message in ([_UPDATE, entry], [_PUT, "rpi4", [9091, "rpi4:key"], None]):
                board.sendall(_packet(message))
                board.recv(100)
        yield


def _answers(port: int) -> bool:
    """Whether the tracker, which is TVM's own, still tells what it knows."""
    with contextlib.suppress(OSError), socket.create_connection((_HOST, port), 5.0) as client:
        client.settimeout(5.0)
        client.sendall(struct.pack("<i", _TRACKER_MAGIC))
        client.recv(4)
        client.sendall(_packet([_SUMMARY]))
        return len(client.recv(4)) == 4
    return False


def _answer(random: Random, number: int) -> bytes:
    """Return what a false tracker says behind its greeting."""
    summary = [0, {"server_info": [_ENTRY], "queue_info": {"rpi4": {"free": 1, "pending": 0}}}]
    fixed = (
        b"",
        struct.pack("<i", 2**31 - 1),
        struct.pack("<i", -1) + b"x" * 100,
        struct.pack("<i", DEEP) + b"[" * DEEP,
        struct.pack("<i", 1 << 23) + b"[" * (1 << 10),
        _packet([0]),
        _packet(0),
        _packet([0, None]),
        _packet({"0": 1}),
    )
    if number < len(fixed):
        return fixed[number]
    text = json_of(random, summary).encode(errors="replace")
    return struct.pack("<i", len(text)) + text


@contextmanager
def _false_tracker(answer: bytes) -> Iterator[int]:
    """Listen as a tracker that greets rightly and then gives one answer to each client."""
    with socket.create_server((_HOST, 0)) as listener:

        def serve() -> None:
            while True:
                try:
                    client, _ = listener.accept()
                except OSError:
                    return
                with client, contextlib.suppress(OSError):
                    client.recv(4)
                    client.sendall(struct.pack("<i", _TRACKER_MAGIC))
                    client.recv(1000)
                    client.sendall(answer)
                    client.settimeout(2.0)
                    client.recv(1)

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
        # A thread that waits in accept() does not see that the socket is closed.
        listener.shutdown(socket.SHUT_RDWR)
