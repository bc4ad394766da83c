"""The plugin's model of a board's caches, called as C from here: what is moved, and who has what."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tvmbuild.support.place import NATIVE

pytestmark = pytest.mark.integration
LINE = 64


class Counts(ctypes.Structure):
    """line_counts of cache_levels.h."""

    _fields_ = [(name, ctypes.c_uint64) for name in ("l1_misses", "l2_misses", "memory_reads", "memory_writes")]

    def read(self) -> tuple[int, int, int, int]:
        return self.l1_misses, self.l2_misses, self.memory_reads, self.memory_writes


class Caches:
    """A copy of the model of its own, for its state is the library's."""

    def __init__(self, library: Path, *levels: str) -> None:
        self._c = ctypes.CDLL(str(library))
        self._c.levels_add.restype = ctypes.c_bool
        assert all(self.add(level) for level in levels)

    def add(self, level: str) -> bool:
        return bool(self._c.levels_add(level.encode()))

    def access(self, lines: list[int], *, writes: bool = False, core: int | None = None) -> Counts:
        """Touch lines on a core, as a task of a parallel loop, or outside of any."""
        counts = Counts()
        if core is not None:
            self._c.levels_begin_task(ctypes.c_uint64(core))
        for line in lines:
            self._c.levels_access(ctypes.byref(counts), ctypes.c_uint64(line * LINE), ctypes.c_bool(writes))
        if core is not None:
            self._c.levels_end_task()
        return counts

    def end_launch(self) -> None:
        self._c.levels_end_launch()

    def empty(self) -> None:
        self._c.levels_empty()


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "caches.so"
    folder = NATIVE / "qemu_plugin"
    sources = [folder / "cache_levels.c", folder / "cache_model.c"]
    subprocess.run(["cc", "-O1", "-shared", "-fPIC", "-o", path, *sources], check=True)
    return path


def test_each_line_is_read_once_and_written_back_once(library: Path) -> None:
    """Two levels of 8 and 32 lines: 100 lines that are written twice in order are never found again."""
    caches = Caches(library, "512:2:each", "2048:4")
    first = caches.access(list(range(100)), writes=True)
    assert first.read() == (100, 100, 100, 100 - 32)
    assert caches.access(list(range(100)), writes=True).read() == (100, 100, 100, 100)
    # Lines that are only read take the place of the changed ones, and leave without being written.
    caches.access(list(range(200, 300)))
    assert caches.access(list(range(300, 400))).memory_writes == 0


def test_what_fits_a_level_misses_only_the_one_before(library: Path) -> None:
    caches = Caches(library, "512:2:each", "2048:4", "8192:4")
    lines = list(range(64))
    caches.access(lines)
    assert caches.access(lines).read() == (64, 64, 0, 0)
    assert caches.access(lines[-16:]).read() == (16, 0, 0, 0)
    assert caches.access(lines[-4:]).read() == (0, 0, 0, 0)


def test_emptied_caches_find_nothing_and_write_nothing_back(library: Path) -> None:
    caches = Caches(library, "512:2:each", "2048:4")
    caches.access([0, 1], writes=True)
    caches.empty()
    assert caches.access([0, 1]).read() == (2, 2, 2, 0)


def test_the_tasks_of_a_loop_compete_for_the_shared_level(library: Path) -> None:
    """Four tasks of 20 lines each do not fit 32 lines together, though one after the other each would."""
    caches = Caches(library, "512:2:each", "2048:4")
    tasks = [caches.access([*range(at, at + 20)] * 2, core=core) for core, at in enumerate((0, 100, 200, 300))]
    caches.end_launch()
    assert [task.l1_misses for task in tasks] == [40] * 4
    assert sum(task.memory_reads for task in tasks) > 120
    alone = Caches(Path(shutil.copy(library, library.with_name("alone.so"))), "512:2:each", "2048:4")
    assert alone.access([*range(20)] * 2, core=0).l1_misses == 40
    alone.end_launch()
    assert alone.access([*range(20)]).memory_reads == 0


def test_tasks_that_read_the_same_lines_read_them_once(library: Path) -> None:
    caches = Caches(library, "512:2:each", "2048:4")
    tasks = [caches.access(list(range(16)), core=core) for core in range(4)]
    caches.end_launch()
    assert sum(task.memory_reads for task in tasks) == 16
    assert [task.l1_misses for task in tasks] == [16] * 4


def test_a_store_takes_the_line_from_the_other_cores(library: Path) -> None:
    caches = Caches(library, "512:2:each", "2048:4:each", "8192:4")
    caches.access([7], core=1)
    caches.end_launch()
    assert caches.access([7], core=1).read() == (0, 0, 0, 0)
    caches.access([7], writes=True, core=0)
    caches.end_launch()
    again = caches.access([7], core=1)
    caches.end_launch()
    assert again.read() == (1, 1, 0, 0)


def test_counts_are_those_of_a_plain_model(library: Path) -> None:
    """One level of 16 lines in 4 ways against lists of lines, least recently used first."""
    caches = Caches(library, "1024:4")
    sets: list[list[tuple[int, bool]]] = [[] for _ in range(4)]
    missed = written = 0
    found = Counts()
    rng = np.random.default_rng(5)
    for line, writes in zip(rng.integers(0, 40, 500).tolist(), rng.random(500) < 0.3, strict=True):
        counts = caches.access([line], writes=bool(writes))
        found.l1_misses += counts.l1_misses
        found.memory_writes += counts.memory_writes
        ways = sets[line % 4]
        known = next((way for way in ways if way[0] == line), None)
        if known is None:
            missed += 1
            if len(ways) == 4:
                written += ways.pop(0)[1]
        else:
            ways.remove(known)
        ways.append((line, bool(writes) or (known is not None and known[1])))
    assert (found.l1_misses, found.memory_writes) == (missed, written)


@pytest.mark.parametrize("level", ["", "64", "64:0", "0:4", "-64:4", "64:4:all", "64:4 ", "32:1", "9999999999999:2"])
def test_a_geometry_that_is_none_is_refused(library: Path, level: str) -> None:
    assert not Caches(library).add(level)
