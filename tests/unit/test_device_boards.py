"""Boards behind a tracker, without any: addresses, summaries, fingerprints, findings, units."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tvmbuild.device.fleet import check, tracker_server
from tvmbuild.device.fleet.address import Address, parse_address
from tvmbuild.device.fleet.fit import require_fit
from tvmbuild.device.fleet.provision import Provision, provision
from tvmbuild.device.fleet.session import BoardSession
from tvmbuild.device.fleet.tracker import holders, parse_summary
from tvmbuild.support.errors import BoardMismatchError, OptionError
from tvmbuild.target.target import load_target

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
    (entry,) = parse_summary(value).keys
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


@pytest.mark.parametrize("text", ["::1", "::1:9190", "[::1", "[::1]x", "[host]:9190", "[]:9190", "a b:1", "a\nb:1"])
def test_an_ipv6_address_needs_its_brackets_and_nothing_else_passes_for_one(text: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse_address(text)
    assert (text.count(":") > 1) == ("[::1]:9190" in caught.value.hint)


@given(st.ip_addresses().map(str), st.integers(1, 65535))
def test_an_address_is_read_as_it_is_written(host: str, port: int) -> None:
    address = Address(host, port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    ("host", "alone"), [("::1", True), ("127.0.0.2", True), ("localhost", True), ("::", False), ("pi.local", False)]
)
def test_what_this_machine_alone_can_reach(host: str, alone: bool) -> None:
    assert Address(host, 1).is_loopback is alone


GOOD = {"key": "server:rpi4", "addr": ["10.0.0.2", 9091], "fingerprint": A72}


@pytest.mark.parametrize(
    "entry",
    [
        5,
        {},
        {"key": 7, "addr": ["10.0.0.3", 1]},
        {"key": "server:rpi4"},
        {"key": "server:rpi4", "addr": "10.0.0.3"},
        {"key": "server:rpi4", "addr": ["10.0.0.3", "9091"]},
        {"key": "server:rpi4", "addr": ["10.0.0.3 9 9\n", 9091]},
    ],
)
def test_an_entry_that_names_no_board_is_counted_and_hides_no_other(entry: object) -> None:
    summary = parse_summary({"queue_info": {"rpi4": {"free": 1, "pending": 0}}, "server_info": [entry, GOOD]})
    (key,) = summary.keys
    assert [board.address for board in key.boards] == ["10.0.0.2:9091"]
    assert summary.unreadable == 1


def test_facts_of_a_wrong_type_count_as_not_told() -> None:
    told = {
        "fingerprint": {"core": ["a72"], "machine": "aarch64\x1b[31m", "emulated": "no", "more": 1},
        "health": {"mhz": "fast", "throttled": 5, "temperature_c": float("nan"), "load": 10**400, "free_bytes": True},
        "session": {"user": {}, "since": "noon"},
    }
    summary = parse_summary({"queue_info": {"rpi4": 3}, "server_info": [{**GOOD, **told}]})
    (key,), (board,) = summary.keys, summary.keys[0].boards
    assert board.fingerprint == {"machine": "aarch64?[31m"}
    assert board.health == {}
    assert (board.session, key.free, key.waiting, summary.unreadable) == (None, 0, 0, 0)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(("key", "addr", "health", "session", "since", "throttled", "free")), inner)
    ),
    max_leaves=12,
)


@settings(max_examples=50)
@given(st.lists(_JSON | st.fixed_dictionaries({"key": st.just("server:k"), "addr": _JSON, "session": _JSON})), _JSON)
def test_nothing_that_a_tracker_sends_breaks_the_list(entries: list[Any], queues: Any) -> None:
    from tvmbuild.commands.boards import device

    for entry in parse_summary({"server_info": entries, "queue_info": queues}).keys:
        assert json.loads(json.dumps(device._key_json(entry)))["key"] == entry.key
        assert all(device._row(entry, board) for board in entry.boards)
        assert isinstance(holders(entry), str)


@settings(max_examples=50)
@given(st.lists(_JSON, max_size=5))
def test_the_tracker_takes_no_message_of_another_form(values: list[Any]) -> None:
    for code in (3, 4, 5, "3", None, 5.0):
        assert tracker_server._checked([code, *values]) is None


def test_what_tvms_own_clients_send_passes_to_the_tracker() -> None:
    for message in (
        [1],
        [3, "rpi4", [9091, "rpi4:0.25"], None],
        [3, "rpi4", [9091, "rpi4:0.25"], "10.0.0.2"],
        [4, "rpi4", "", 1],
        [5, {"key": "server:rpi4", "addr": [None, 9091]}],
        [6],
        [7],
    ):
        assert tracker_server._checked(message) == message
