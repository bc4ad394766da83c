"""Boards behind a tracker, without any: addresses, summaries, fingerprints, findings, units."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from tvmbuild.device import check
from tvmbuild.device.fit import require_fit
from tvmbuild.device.provision import Provision, provision
from tvmbuild.device.session import BoardSession
from tvmbuild.device.tracker import Address, holders, parse_address, parse_summary
from tvmbuild.errors import BoardMismatchError, OptionError
from tvmbuild.target import load_target

RPI4 = load_target("rpi4")
A72 = {"machine": "aarch64", "core": "cortex-a72", "tvm": "0.27.0.post1"}


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9190", Address("127.0.0.1", 9190)),
        ("raspberrypi.local", Address("raspberrypi.local", 9190)),
        ("[::1]:9191", Address("::1", 9191)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", ":9190", "host:", "host:0", "host:65536", "host:port"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="no address of a tracker"):
        parse_address(text)


def test_a_summary_keeps_what_our_servers_tell_and_leaves_out_keys_without_boards() -> None:
    ours = {"key": "server:rpi4", "addr": ["10.0.0.2", 9091], "fingerprint": A72, "health": {"mhz": 1500}}
    session = {"user": "max@desk", "peer": "10.0.0.9:4", "since": 0}
    value = {
        "queue_info": {"rpi4": {"free": 1, "pending": 2}, "gone": {"free": 0, "pending": 0}},
        "server_info": [{**ours, "session": session}, {"key": "server:rpi4", "addr": ["10.0.0.3", 9090]}],
    }
    (entry,) = parse_summary(value)
    assert (entry.key, entry.free, entry.busy, entry.waiting) == ("rpi4", 1, 1, 2)
    assert entry.boards[0].fingerprint == A72
    assert entry.boards[1].fingerprint == {}
    assert holders(entry).startswith("max@desk since ")
    assert holders(entry).endswith(" on 10.0.0.2:9091")


@pytest.mark.parametrize("fingerprint", [A72, {}, {"machine": "aarch64"}])
def test_boards_that_fit_or_do_not_tell_are_taken(fingerprint: dict[str, Any]) -> None:
    require_fit(fingerprint, RPI4, "b")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"core": "cortex-a76"}, "is cortex-a76 .* but rpi4 is cortex-a72"),
        ({"machine": "armv7l", "core": ""}, "is armv7l"),
        ({"tvm": "0.26.0"}, "runs apache-tvm 0.26.0, but libraries are built for 0.27"),
    ],
)
def test_boards_that_do_not_fit_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(BoardMismatchError, match=words):
        require_fit({**A72, **change}, RPI4, "b")


@pytest.mark.parametrize(
    ("said", "cause", "words"),
    [
        ("RPCSessionTimeoutError: Your 10s session has expired", "time-out", "within 3 seconds"),
        ("x\ntvmbuild-session: crash with signal 4", "crash", "an instruction that the board does not have"),
        ("x\ntvmbuild-session: crash with signal 11", "crash", "SIGSEGV"),
        ("Check failed: code == RPCCode: kReturn: code=kShutdown", "lost", "the connection broke"),
        ("RPCError: Error caught from RPC call:\nno room", "upload", "no room"),
    ],
)
def test_tvms_words_become_causes(said: str, cause: str, words: str) -> None:
    session = object.__new__(BoardSession)
    session.board, session._timeout = "b:1", 3.0
    session._relay = type("Relay", (), {"expired": lambda self: False})()  # type: ignore[assignment]
    error = session._explain("upload", "send x", said)
    assert error.cause == cause
    assert words in error.message
    assert error.hint


def test_times_of_a_noisy_board_are_a_problem_but_not_of_an_emulated_one() -> None:
    noisy = (1.0, 1.4) * 10
    assert check._noise(noisy, A72).level == "problem"
    assert check._noise(noisy, {**A72, "emulated": True}).level == "note"
    assert check._noise((1.0, 1.001) * 10, A72).level == "ok"


def test_an_open_port_is_told() -> None:
    assert check._port("127.0.0.1:9091").level == "ok"
    finding = check._port("192.168.1.20:9091")
    assert "runs any code" in finding.text
    assert "tunnel" in finding.fix


def test_the_unit_binds_to_loopback_behind_a_tunnel_and_says_so_without() -> None:
    request = Provision("pi@board", RPI4, "rpi4", Address("10.0.0.1", 9190), 9095)
    assert "serve --tracker 127.0.0.1:9190 --key rpi4 --port 9095 --host 127.0.0.1\n" in request.unit()
    opened = dataclasses.replace(request, tunnel=False).unit()
    assert "--tracker 10.0.0.1:9190" in opened
    assert "--host 0.0.0.0" in opened


@pytest.mark.parametrize(
    "change",
    [
        {"board": "-oProxyCommand=x"},
        {"board": "pi@board; rm"},
        {"key": "a b"},
        {"key": "$(x)"},
        {"tunnel": False, "tracker": Address("127.0.0.1", 9190)},
    ],
)
def test_what_ssh_or_systemd_would_misread_is_refused(change: dict[str, Any]) -> None:
    request = Provision("pi@board", RPI4, "rpi4", Address("10.0.0.1", 9190))
    with pytest.raises(OptionError):
        provision(dataclasses.replace(request, **change))
