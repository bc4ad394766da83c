"""The stand-in for libgomp that `make bench-truth` counts ncnn with: threads one after the other, marked."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from benchmarks.truth.board import HERE
from benchmarks.truth.counted import count
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device.emulator import find_emulator
from tvmbuild.predict.llvm import find_llvm
from tvmbuild.predict.plugin import plugin_for
from tvmbuild.predict.pricing import PriceCache
from tvmbuild.predict.profile import Profile, read_profile
from tvmbuild.target.target import load_target, predicted_core

pytestmark = pytest.mark.integration

#: Two regions: equal shares, and one in which the first thread does all; and a region inside of a region.
PROGRAM = r"""
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
static int sums[4];
static void work(int thread, int rounds) {
  for (volatile int i = 0; i < rounds; i++) sums[thread]++;
}
int main(int argc, char **argv) {
  const int threads = atoi(argv[1]);
  syscall(0x7b70, 1, 0);
#pragma omp parallel for num_threads(threads)
  for (int i = 0; i < 4; i++) work(i, 20000);
#pragma omp parallel num_threads(threads)
  {
    if (omp_get_thread_num() == 0) work(0, 80000);
    if (threads > 1) {
#pragma omp parallel num_threads(3)
      if (omp_get_num_threads() != 1) work(1, 1);
    }
  }
  syscall(0x7b70, 2, 0);
  printf("%d %d %d %d", sums[0], sums[1], sums[2], sums[3]);
  return 0;
}
"""


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the program with GCC's OpenMP, and the stand-in beside it."""
    folder = tmp_path_factory.mktemp("gomp")
    compiler = find_toolchain(load_target("rpi4"), "gnu").cxx
    (folder / "program.c").write_text(PROGRAM)
    shared = [*compiler, "-O1", "-x", "c", "-shared", "-fPIC", f"-Wl,--version-script={HERE / 'gomp.map'}"]
    subprocess.run([*shared, "-Wl,-soname,libgomp.so.1", HERE / "gomp.c", "-o", folder / "libgomp.so.1"], check=True)
    path = folder / "program"
    subprocess.run([*compiler, "-O1", "-fopenmp", "-x", "c", folder / "program.c", "-o", path], check=True)
    return path


def _profile(program: Path, threads: int) -> Profile:
    emulator = find_emulator()
    counts = program.with_name(f"profile{threads}")
    command = [
        emulator.program,
        "-cpu",
        "cortex-a72",
        "-L",
        str(emulator.sysroot),
        "-E",
        f"LD_LIBRARY_PATH={program.parent}",
    ]
    command += ["-plugin", f"{plugin_for(emulator.program)},out={counts}", str(program), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "100000 20000 20000 20000"
    return read_profile(counts)


def test_four_threads_are_counted_as_shared_out_and_one_as_itself(program: Path) -> None:
    shared, alone = _profile(program, 4), _profile(program, 1)
    assert (len(alone.loops), len(shared.loops)) == (0, 2)
    assert sum(loop.launches for loop in shared.loops) == 2
    assert sum(loop.tasks for loop in shared.loops) == 8
    assert shared.instructions == pytest.approx(alone.instructions, rel=0.01)
    core = predicted_core(load_target("rpi4"))
    counts = count(shared, core, find_llvm(), PriceCache())
    # 80,000 rounds on four threads and 80,000 on one: as long as 100,000.
    assert counts.speedup == pytest.approx(1.6, rel=0.01)
    assert counts.launches == 2
    assert count(alone, core, find_llvm(), PriceCache()).speedup == 1.0
