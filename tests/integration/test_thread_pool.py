"""The runner and the RPC server share out parallel loops among threads of our own, unless told otherwise."""

from __future__ import annotations

import os
import subprocess
import sys
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
from tvmbuild.codegen.runtime_libs import runtime_libraries
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device import open_device
from tvmbuild.device.emulated import EmulatedDevice
from tvmbuild.device.fleet.address import parse_address
from tvmbuild.device.fleet.boards import BoardQueue
from tvmbuild.device.fleet.emulated_boards import EmulatedBoards
from tvmbuild.device.protocol import RunRequest
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.device.threads_build import threads_library
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
            # A thread has its name as soon as it runs.
            wait_until(lambda: (names := names_of([runner.pid])).count(NAME) == wanted and len(names) == 4)
        finally:
            runner.kill()


def test_another_value_of_the_variable_is_an_error(
    library: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "mine")
    inputs = [np.load(path) for path in sorted(folder.glob("input_*.npy"))]
    with pytest.raises(DeviceError, match="is 'own' or 'tvm', not 'mine'"):
        open_device("local", HOST).run(RunRequest(library, inputs))
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
            wait_until(lambda: names_of(map(int, children)).count(NAME) == 2)
            remote = session._session.get_function
            assert remote("runtime.NumThreads")() == 3
            for asked, given in ((2, 2), (1, 1), (9, 3), (0, 3)):
                remote("runtime.config_threadpool")(1, asked)
                assert remote("runtime.NumThreads")() == given
            with pytest.raises(tvm.error.RPCError, match="cores cannot be chosen one by one"):
                remote("runtime.config_threadpool")(-2, 2, "0")


#: A library whose functions have parallel loops of their own, as TVM would call them.
LOOPS = r"""
#include <stdio.h>
#include <tvm/ffi/c_api.h>

typedef struct { void *sync_handle; int num_task; } Group;
typedef int (*Body)(int task, Group *group, void *closure);
int (*__TVMBackendParallelLaunch)(Body body, void *closure, int asked);
int (*__TVMBackendParallelBarrier)(int task, Group *group);

static int count(int task, Group *group, void *closure) {
  ((char *)closure)[task]++;
  return group->num_task > 1000;
}

int __tvm_ffi_parts(void *self, const TVMFFIAny *arguments, int32_t number, TVMFFIAny *result) {
  static char done[1000];
  if (__TVMBackendParallelLaunch(count, done, arguments[0].v_int64) != 0) return -1;
  result->type_index = kTVMFFIInt, result->v_int64 = 0;
  for (int task = 0; task < 1000; task++) result->v_int64 += done[task], done[task] = 0;
  return 0;
}

static int fail(int task, Group *group, void *closure) {
  char words[99];
  if (task < 5) return 0;
  snprintf(words, sizeof words, "part %d of %d", task, group->num_task);
  TVMFFIErrorSetRaisedFromCStr("ValueError", words);
  return -1;
}

int __tvm_ffi_fail(void *self, const TVMFFIAny *arguments, int32_t number, TVMFFIAny *result) {
  return __TVMBackendParallelLaunch(fail, 0, 0);
}

static int wait(int task, Group *group, void *closure) { return __TVMBackendParallelBarrier(task, group); }

int __tvm_ffi_barrier(void *self, const TVMFFIAny *arguments, int32_t number, TVMFFIAny *result) {
  return __TVMBackendParallelLaunch(wait, 0, 0);
}
"""

#: What a Python program does with it.
PROGRAM = """
import ctypes, os, sys, time
from pathlib import Path
import tvm
from tvm_ffi import get_global_func

ctypes.CDLL(sys.argv[1])
loops = tvm.runtime.load_module(sys.argv[2])
# A thread has its name as soon as it runs.
for _ in range(3000):
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    if threads.count("tvmbuild-loop") == 3:
        break
    time.sleep(0.01)
else:
    raise AssertionError(threads)
assert get_global_func("runtime.NumThreads")() == 4
assert [loops["parts"](asked) for asked in (0, 0, 1, 3, 999)] == [64, 64, 1, 3, 999]
for _ in range(20):
    try:
        loops["fail"]()
    except ValueError as error:
        part, _, count = str(error).removeprefix("part ").partition(" of ")
        assert 5 <= int(part) < 64 == int(count), error
    else:
        raise AssertionError("it did not fail")
assert loops["parts"](0) == 64
child = os.fork()
if child == 0:
    os._exit(int([loops["parts"](asked) for asked in (0, 5)] != [64, 5]))
assert os.waitpid(child, 0)[1] == 0
get_global_func("runtime.config_threadpool")(1, 1)
assert loops["parts"](0) == 1
print("done", flush=True)
loops["barrier"]()
"""


def test_a_program_of_ones_own_has_the_threads(folder: Path) -> None:
    runtime = runtime_libraries(HOST)
    source, loops = folder / "loops.c", folder / "loops.so"
    source.write_text(LOOPS)
    options = ["-xc", "-shared", "-fPIC", "-O1", "-isystem", str(runtime.include), "-o", str(loops), str(source)]
    linked = [f"-L{runtime.folder / 'lib'}", "-xnone", "-Wl,--no-as-needed", "-l:libtvm_ffi.so"]
    subprocess.run([*find_toolchain(HOST).cxx, *options, *linked], check=True)
    command = [sys.executable, "-c", PROGRAM, str(threads_library(HOST)), str(loops)]
    environment = {**os.environ, "TVM_NUM_THREADS": "4", "OMP_NUM_THREADS": "2"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.stdout == "done\n", done.stderr
    # A barrier ends the process: going on would give wrong numbers.
    assert (done.returncode, "TVMBUILD_THREAD_POOL=tvm" in done.stderr) == (-6, True)
