"""The runner and the RPC server share out parallel loops among threads of our own, unless told otherwise."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tvm
from kernel_cases import LARGE_CASES, make_model

from tvmbuild.codegen.native_programs import compiler_options, program_folders, sources
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device import open_device
from tvmbuild.device.emulated import EmulatedDevice
from tvmbuild.device.fleet.address import parse_address
from tvmbuild.device.fleet.boards import BoardQueue
from tvmbuild.device.fleet.emulated_boards import EmulatedBoards
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.pipeline import build
from tvmbuild.support.errors import DeviceError
from tvmbuild.support.options import BuildOptions
from tvmbuild.target.target import load_target

HOST, RPI4 = load_target("host"), load_target("rpi4")
TOP = Path(__file__).resolve().parents[2]
#: What the pool's threads are called.
NAME = "tvmbuild-loop"
#: Says whose threads share out the loops.
VARIABLE = "TVMBUILD_THREAD_POOL"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("pool")


@pytest.mark.parametrize("target", [HOST, RPI4], ids=lambda target: target.name)
def test_the_parts_of_the_pool(target, folder: Path) -> None:  # type: ignore[no-untyped-def]
    program, test = folder / f"pool_test-{target.name}", "native/pool_test.cc"
    parts = [TOP / "tests" / test, *sources(program_folders(test), with_main=False)]
    command = [*find_toolchain(target).cxx, *compiler_options("c++"), "-O2", "-pthread", "-o", str(program)]
    subprocess.run([*command, *map(str, parts)], check=True)
    emulator = EmulatedDevice(target).launcher()[:-1] if target is RPI4 else []
    subprocess.run([*emulator, str(program)], check=True, timeout=120)


@pytest.fixture(scope="module")
def library(folder: Path) -> Path:
    """A model with a parallel loop."""
    proto, arrays = make_model({"conv": LARGE_CASES[next(iter(LARGE_CASES))]})
    onnx.save(proto, folder / "model.onnx")
    result = build(folder / "model.onnx", HOST, BuildOptions(output=folder, name="model", compare=False))
    for index, spec in enumerate(result.manifest.inputs):
        np.save(folder / f"input_{index}.npy", arrays[spec.name])
    return folder / "model.so"


def names_of(processes: Iterable[int]) -> list[str]:
    """Return the names of the threads of processes, as top shows them."""
    tasks = [path for pid in processes for path in Path(f"/proc/{pid}/task").glob("*/comm")]
    return [path.read_text().strip() for path in tasks if path.exists()]


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.05)


@pytest.mark.parametrize(("pool", "wanted"), [("own", 3), ("tvm", 0)])
def test_the_runner_starts_the_threads_once(
    pool: str, wanted: int, library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, pool)
    command = [str(runner_folder(HOST) / RUNNER_NAME), str(library), "--threads", "4", "--repeat", "99999999"]
    for path in sorted(folder.glob("input_*.npy")):
        command += ["--input", str(path)]
    with subprocess.Popen(command) as runner:
        try:
            # TVM's pool starts with the first loop: one name more or less at a time.
            wait_until(lambda: len(names_of([runner.pid])) == 4)
            assert names_of([runner.pid]).count(NAME) == wanted
        finally:
            runner.kill()


def test_another_value_of_the_variable_is_an_error(
    library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "mine")
    inputs = [np.load(path) for path in sorted(folder.glob("input_*.npy"))]
    with pytest.raises(DeviceError, match="is 'own' or 'tvm', not 'mine'"):
        open_device("local", HOST).run(library, inputs)
    server = [str(runner_folder(HOST) / RUNNER_NAME), "serve", "--key", "mine"]
    done = subprocess.run(server, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "not 'mine'" in done.stderr) == (2, True)


def test_a_session_of_the_server_has_the_threads_and_a_client_can_ask_for_fewer(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TVM_NUM_THREADS", "3")
    with EmulatedBoards(HOST, native=True, log=folder / "log") as boards:
        queue = BoardQueue(parse_address(boards.tracker), boards.key, HOST)
        with queue.lease(30) as session:
            children = Path(f"/proc/{boards.pids[0]}/task/{boards.pids[0]}/children").read_text().split()
            assert names_of(map(int, children)).count(NAME) == 2
            remote = session._session.get_function
            assert remote("runtime.NumThreads")() == 3
            for asked, given in ((2, 2), (1, 1), (9, 3), (0, 3)):
                remote("runtime.config_threadpool")(1, asked)
                assert remote("runtime.NumThreads")() == given
            with pytest.raises(tvm.error.RPCError, match="cores cannot be chosen one by one"):
                remote("runtime.config_threadpool")(-2, 2, "0")
