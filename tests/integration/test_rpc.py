"""Boards behind a tracker: TVM's own tracker, our native servers (here and emulated), on the loopback interface."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import tvm
from rpc_libraries import expected, inputs, make_library, wait_until
from tvm import rpc

from tvmbuild.device import open_device
from tvmbuild.device.fleet import boards as boards_module
from tvmbuild.device.fleet.address import Address, parse_address
from tvmbuild.device.fleet.boards import BoardQueue, RemoteBoard, open_boards
from tvmbuild.device.fleet.emulated_boards import EmulatedBoards
from tvmbuild.device.fleet.processes import (
    native_server_command,
    python_server_command,
    start,
    stop,
    tracker_command,
    wait_for_tracker,
)
from tvmbuild.device.fleet.tracker import TrackerClient
from tvmbuild.device.protocol import RunRequest
from tvmbuild.support.errors import (
    BoardBusyError,
    BoardKeyError,
    BoardMismatchError,
    InputDataError,
    MeasureError,
    TrackerError,
)
from tvmbuild.target.target import load_target

HOST = load_target("host")
RPI4 = load_target("rpi4")
#: One product and one sum in fp32: a rounding each, on either side.
TOLERANCE = 1e-6
CRASH = "volatile int *volatile nowhere = 0; *nowhere = 1;"
HANG = 'for (;;) __asm__ volatile("");'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rpc")


@pytest.fixture(scope="module")
def library(folder: Path) -> Path:
    return make_library(folder, HOST)


@pytest.fixture(scope="module")
def plain_libraries(folder: Path) -> dict[str, Path]:
    """Libraries of the kernel alone, as TVM's own tuner sends them."""
    return {"here": make_library(folder, HOST, "plain"), "emulated": make_library(folder, RPI4, "plain")}


@pytest.fixture(scope="module")
def emulated_library(folder: Path) -> Path:
    return make_library(folder, RPI4)


@pytest.fixture(scope="module")
def here(folder: Path) -> Iterator[EmulatedBoards]:
    """A tracker and one board that is this machine."""
    with EmulatedBoards(HOST, native=True, log=folder / "here.log") as boards:
        yield boards


@pytest.fixture(scope="module")
def emulated(folder: Path) -> Iterator[EmulatedBoards]:
    """A tracker and two emulated Cortex-A72."""
    with EmulatedBoards(RPI4, 2, log=folder / "emulated.log") as boards:
        yield boards


def registered(boards: EmulatedBoards) -> int:
    try:
        with TrackerClient(parse_address(boards.tracker)) as client:
            return sum(len(entry.boards) for entry in client.summary().keys)
    except TrackerError:
        return 0


def one_board(boards: EmulatedBoards) -> RemoteBoard:
    return open_boards(boards.tracker, boards.key, HOST if boards.key == "host" else RPI4)[0]


@pytest.mark.parametrize("kind", ["here", "emulated"])
def test_tvms_own_client_uses_the_native_server(
    kind: str, plain_libraries: dict[str, Path], request: pytest.FixtureRequest
) -> None:
    boards: EmulatedBoards = request.getfixturevalue(kind)
    path = plain_libraries[kind]
    address = parse_address(boards.tracker)
    session = rpc.connect_tracker(address.host, address.port).request(boards.key, session_timeout=30)
    session.upload(str(path))
    assert session.listdir(".") == path.name
    module = session.load_module(path.name)
    arguments = [tvm.runtime.tensor(array, session.cpu()) for array in (*inputs(), np.zeros_like(expected()))]
    times = module.time_evaluator("kernel", session.cpu(), number=2, repeat=3)(*arguments)
    assert len(times.results) == 3
    np.testing.assert_allclose(arguments[-1].numpy(), expected(), rtol=TOLERANCE, atol=TOLERANCE)
    assert session.download(path.name) == path.read_bytes()
    session.remove(path.name)
    assert session.listdir(".") == ""
    with pytest.raises(RuntimeError, match="outside the session's folder"):
        session.upload(bytearray(b"x"), "../escaped")


def test_a_function_is_timed_on_emulated_boards_with_what_the_board_says_of_itself(
    emulated: EmulatedBoards, emulated_library: Path
) -> None:
    boards = open_boards(emulated.tracker, emulated.key, RPI4)
    assert len(boards) == 2
    measured = boards[0].time(emulated_library, inputs(), repeat=4)
    np.testing.assert_allclose(measured.output, expected(), rtol=TOLERANCE, atol=TOLERANCE)
    assert len(measured.seconds) == 4
    fingerprint = measured.readings["fingerprint"]
    assert (fingerprint["core"], fingerprint["emulated"]) == ("cortex-a72", True)
    assert measured.readings["after"]["free_bytes"] > 0
    info = boards[0].describe()
    assert (info.kind, info.cpu, info.timed) == ("rpc", "cortex-a72", False)


def test_several_boards_work_at_the_same_time(emulated: EmulatedBoards, emulated_library: Path) -> None:
    boards = open_boards(emulated.tracker, emulated.key, RPI4)
    together = threading.Barrier(len(boards))

    def work(board: RemoteBoard) -> set[str]:
        together.wait()
        return {str(board.time(emulated_library, inputs()).readings["board"]) for _ in range(3)}

    with ThreadPoolExecutor(len(boards)) as threads:
        used = set().union(*threads.map(work, boards))
    assert len(used) == 2


def test_a_model_runs_on_a_board_behind_a_tracker(here: EmulatedBoards, library: Path) -> None:
    device = open_device("rpc", HOST, tracker=here.tracker, key=here.key)
    result = device.run(RunRequest(library, inputs(), repeat=3, warmup=1, threads=1, timeout=60))
    np.testing.assert_allclose(result.outputs[0], expected(), rtol=TOLERANCE, atol=TOLERANCE)
    assert len(result.seconds) == 3
    assert result.peak_bytes > 1e6
    with pytest.raises(InputDataError, match="do not fit the model"):
        device.run(RunRequest(library, (inputs()[0][:5], inputs()[1]), timeout=60))


@pytest.mark.parametrize(("constructor", "cause"), [(CRASH, "crash"), (HANG, "time-out")])
def test_a_candidate_that_crashes_or_hangs_ends_only_its_session(
    here: EmulatedBoards, folder: Path, library: Path, constructor: str, cause: str
) -> None:
    board, pid = one_board(here), here.pids[0]
    bad = make_library(folder, HOST, cause, constructor)
    with pytest.raises(MeasureError) as caught:
        board.time(bad, inputs(), timeout=3)
    assert caught.value.cause == cause
    assert caught.value.board.startswith("127.0.0.1:")
    assert ("SIGSEGV" if cause == "crash" else "within 3 seconds") in caught.value.message
    assert board.time(library, inputs()).output.shape == expected().shape
    assert here.pids == [pid]


def test_an_emulated_board_names_the_signal_too(emulated: EmulatedBoards, folder: Path) -> None:
    bad = make_library(folder, RPI4, "crash", CRASH)
    with pytest.raises(MeasureError, match="SIGSEGV") as caught:
        one_board(emulated).time(bad, inputs())
    assert caught.value.cause == "crash"


def test_a_file_that_is_no_library_is_refused_by_the_board(here: EmulatedBoards, folder: Path) -> None:
    path = folder / "none.so"
    path.write_bytes(b"not a library")
    with pytest.raises(MeasureError) as caught:
        one_board(here).time(path, inputs())
    assert caught.value.cause == "load"


def test_a_killed_board_comes_back_and_work_goes_on(emulated: EmulatedBoards, emulated_library: Path) -> None:
    boards = open_boards(emulated.tracker, emulated.key, RPI4)
    before = emulated.pids
    os.kill(before[0], signal.SIGKILL)
    for board in boards * 2:
        assert board.time(emulated_library, inputs()).output.shape == expected().shape
    wait_until(lambda: emulated.pids[0] != before[0] and registered(emulated) == 2)
    assert emulated.pids[1] == before[1]


def test_a_restarted_tracker_finds_the_boards_again(emulated: EmulatedBoards, emulated_library: Path) -> None:
    boards, before = emulated.pids, emulated.tracker_pid
    board = one_board(emulated)
    os.kill(before, signal.SIGKILL)
    assert board.time(emulated_library, inputs()).output.shape == expected().shape
    wait_until(lambda: registered(emulated) == 2)
    assert emulated.tracker_pid != before
    assert emulated.pids == boards


def test_what_is_wrong_is_told_before_anything_runs(here: EmulatedBoards, emulated: EmulatedBoards) -> None:
    with pytest.raises(BoardKeyError, match="no board with the key 'hots'") as unknown:
        open_boards(here.tracker, "hots", HOST)
    assert "'host'" in unknown.value.hint
    with pytest.raises(TrackerError, match=r"127\.0\.0\.1:1 does not answer") as silent:
        open_boards("127.0.0.1:1", "host", HOST)
    assert "tvmbuild tracker" in silent.value.hint
    with pytest.raises(BoardMismatchError, match=r"is cortex-a72 .*but rpi5 is cortex-a76"):
        open_boards(emulated.tracker, "rpi4", load_target("rpi5"))


def test_a_busy_board_says_who_holds_it(here: EmulatedBoards) -> None:
    queue = BoardQueue(parse_address(here.tracker), here.key, HOST, patience=1)
    with queue.lease(30), pytest.raises(BoardBusyError, match=r"became free within 1 seconds: .*@.* since .* on 127"):
        queue._open(30)


def test_one_odd_entry_leaves_the_list_usable(folder: Path) -> None:
    """As anybody can register it with TVM's tracker, which fails over a key that is no text."""
    with EmulatedBoards(HOST, native=True, log=folder / "odd.log") as boards:
        address = parse_address(boards.tracker)
        for entry in (
            [5, {"key": 7, "addr": ["x", 1]}],
            [5, {"key": "server:odd", "addr": "x"}],
            [5, {"key": "server:odd", "addr": ["10.0.0.9", 1], "fingerprint": "x", "session": {"since": "noon"}}],
            [3, ["odd"], [1, "odd:1"], None],
            [3, "odd", ["port", {}], 5],
        ):
            client = TrackerClient(address)
            with contextlib.suppress(TrackerError):
                client._ask(entry, 5)
            with TrackerClient(address) as other:
                keys = {entry.key: entry for entry in other.summary().keys}
            assert len(keys[boards.key].boards) == 1
            client._socket.close()


def test_everything_works_over_ipv6(folder: Path, library: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6) as probe:
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("this machine has no IPv6")
    address = Address("::1", port)
    tracker = start(tracker_command(address), folder / "six.log")
    server = None
    try:
        wait_for_tracker(address, tracker)
        command = native_server_command(HOST, address, "six", emulated=False)
        server = start([*command, "--host", "::1"], folder / "six.log")
        queue = BoardQueue(parse_address(f"[::1]:{port}"), "six", HOST, patience=30)
        measured = RemoteBoard(queue).time(library, inputs())
        assert str(measured.readings["board"]).startswith("[::1]:")
        np.testing.assert_allclose(measured.output, expected(), rtol=TOLERANCE, atol=TOLERANCE)
    finally:
        if server is not None:
            stop(server)
        stop(tracker)


def test_boards_wait_for_a_tracker_that_is_starting(folder: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = Address("127.0.0.1", probe.getsockname()[1])
    started: list[subprocess.Popen[bytes]] = []
    later = threading.Timer(1.0, lambda: started.append(start(tracker_command(address), folder / "late.log")))
    later.start()
    try:
        with EmulatedBoards(HOST, native=True, tracker=str(address), log=folder / "late.log") as boards:
            assert registered(boards) == 1
    finally:
        later.join()
        for process in started:
            stop(process)


def test_a_library_for_another_machine_is_named_as_such(
    here: EmulatedBoards, emulated_library: Path, library: Path, folder: Path
) -> None:
    wrong, other = (emulated_library, "aarch64") if HOST.arch == "x86_64" else (library, "x86_64")
    with BoardQueue(parse_address(here.tracker), here.key, HOST).lease(30) as session:
        with pytest.raises(MeasureError, match=f"the library is for {other}, but this is {HOST.arch}") as caught:
            session.load(wrong)
        assert caught.value.cause == "load"


def test_a_throttled_measurement_is_done_again_and_still_marked(
    here: EmulatedBoards, library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flags = tmp_path / "sys/devices/platform/soc/soc:firmware/get_throttled"
    flags.parent.mkdir(parents=True)
    flags.write_text("50004\n")
    pauses: list[float] = []
    monkeypatch.setattr(boards_module.time, "sleep", pauses.append)
    address = parse_address(here.tracker)
    server = start([*native_server_command(HOST, address, "hot", emulated=False), "--root", str(tmp_path)])
    try:
        wait_until(lambda: registered(here) == 2)
        board = RemoteBoard(BoardQueue(address, "hot", HOST))
        assert board.time(library, inputs()).readings["throttled"]
        assert pauses.count(boards_module.COOLING_SECONDS) == 2
        flags.write_text("50000\n")
        assert not board.time(library, inputs()).readings["throttled"]
    finally:
        stop(server)
    wait_until(lambda: registered(here) == 1)


def test_session_folders_are_private_and_removed(here: EmulatedBoards, folder: Path) -> None:
    def folders() -> list[Path]:
        return sorted(Path(os.environ.get("TMPDIR", "/tmp")).glob(f"tvmbuild-rpc-{here.pids[0]}-*"))

    queue = BoardQueue(parse_address(here.tracker), here.key, HOST)
    with queue.lease(30) as session:
        session.tensor(np.zeros(1))
        (own,) = folders()
        assert own.stat().st_mode & 0o777 == 0o700
    wait_until(lambda: not folders())


def test_a_board_is_free_again_when_its_client_is_killed(here: EmulatedBoards) -> None:
    port = parse_address(here.tracker).port
    code = (
        f"from tvm import rpc; s = rpc.connect_tracker('127.0.0.1', {port}).request('host'); "
        "print('held', flush=True); import time; time.sleep(60)"
    )
    client = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert client.stdout is not None
    assert client.stdout.readline() == "held\n"
    client.kill()
    client.wait()
    queue = BoardQueue(parse_address(here.tracker), here.key, HOST, patience=20)
    with queue.lease(30) as session:
        assert session.health()["free_bytes"] > 0


def test_tvms_python_server_serves_in_place_of_ours(here: EmulatedBoards, library: Path, folder: Path) -> None:
    address = parse_address(here.tracker)
    server = start(python_server_command(address, "stock", "127.0.0.1", 0), folder / "stock.log")
    try:
        wait_until(lambda: registered(here) == 2, 60)
        queue = BoardQueue(address, "stock", dataclasses.replace(HOST, name="stock"))
        board = RemoteBoard(queue)
        assert board.fingerprint() == {}
        measured = board.time(library, inputs(), timeout=60)
        np.testing.assert_allclose(measured.output, expected(), rtol=TOLERANCE, atol=TOLERANCE)
        assert measured.readings["before"] == {}
        with pytest.raises(MeasureError):
            board.time(make_library(folder, HOST, "stock-crash", CRASH), inputs(), timeout=20)
        assert board.time(library, inputs(), timeout=60).output.shape == expected().shape
    finally:
        stop(server)
