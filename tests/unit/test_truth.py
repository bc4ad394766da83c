"""Predictions against published times: the stored comparison must not get worse, and must mean what it says."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.truth import report
from benchmarks.truth.board import NETS, core_files
from benchmarks.truth.compare import FITTED, Comparison, compare, compare_all
from benchmarks.truth.counted import THREADS, BoardCounts, NetCounts, added, load_counts, store
from benchmarks.truth.published import Published, load_published
from tvmbuild.predict.costs import Counts, one_thread_cycles, shared_cycles
from tvmbuild.support.errors import RecordsError
from tvmbuild.target.cores import CORES, Costs
from tvmbuild.target.target import load_target, predicted_core

#: rms error that must not be exceeded: what is reached today, rounded up. Whoever changes a constant of
#: target/cores.py, or the formula, sees here whether real boards agree.
LIMITS = {
    ("rpi3", 1): 0.06,
    ("rpi3", 4): 0.08,
    ("rpi4", 1): 0.07,
    ("rpi4", 4): 0.09,
    ("rpi5", 1): 0.07,
    ("rpi5", 4): 0.1,
}
#: Of the half of the nets that constants were not fitted to.
HELD_OUT = {1: 0.08, 4: 0.13}
LEAST_NETS = 20


@pytest.fixture(scope="module")
def found() -> dict[tuple[str, int], Comparison]:
    """Return the stored comparison by board and threads."""
    return {(one.name, one.threads): one for one in compare_all(load_published(), load_counts())}


@pytest.mark.parametrize(("board", "threads"), LIMITS)
def test_predictions_are_as_near_to_published_times_as_before(
    found: dict[tuple[str, int], Comparison], board: str, threads: int
) -> None:
    one = found[board, threads]
    assert len(one.rows) >= LEAST_NETS
    assert one.spread <= LIMITS[board, threads]
    assert one.held_out <= HELD_OUT[threads]
    assert one.rank > 0.95


@pytest.mark.parametrize("changed", [{"bus_line": 0.7}, {"launch_us": 2.0}, {"compute_factor": 1.15}])
def test_a_change_of_a_constant_that_makes_it_worse_is_seen(changed: dict[str, float]) -> None:
    board, core = load_published()["rpi4"], CORES["cortex-a72"]
    values: dict[str, Any] = {name: getattr(core.costs, name) * factor for name, factor in changed.items()}
    worse = replace(core, costs=replace(core.costs, **values))
    assert compare("rpi4", board, load_counts()["rpi4"], 4, worse).spread > LIMITS["rpi4", 4]


def test_the_error_that_a_core_states_is_that_of_the_comparison(found: dict[tuple[str, int], Comparison]) -> None:
    for name in ("rpi3", "rpi4", "rpi5"):
        costs = predicted_core(load_target(name)).costs
        assert costs.spread == pytest.approx(found[name, 1].spread, abs=0.002)
        assert costs.shared_spread == pytest.approx(found[name, 4].spread, abs=0.002)


def test_every_published_figure_has_a_source_and_every_counted_net_a_size() -> None:
    for board in load_published().values():
        assert board.source.startswith("https://github.com/Tencent/ncnn/blob/")
        for threads in THREADS:
            assert set(board.milliseconds(threads)) >= {"mobilenet_v2", "resnet50", "resnet50_int8"}
    for counted in load_counts().values():
        assert set(counted.whole()) <= set(NETS)


COSTS = Costs("made up", 1000, l2_line=3, memory_line=20, bus_line=30, launch_us=5)


def _made_up(threads: int) -> tuple[Published, BoardCounts]:
    """Return a board whose times are what ``COSTS`` predict, and its counts; no two nets have the same proportions."""
    nets = {
        f"net{n}": NetCounts(
            instructions=1,
            counts=Counts(1e6 * (n + 1), l1_misses=9e4 + 7e3 * n * n, l2_misses=4e4, memory_reads=2e4 * (1 + n % 3)),
            launches=9 * (n % 4),
            speedup=2.5,
        )
        for n in range(12)
    }
    cycles = {
        name: one_thread_cycles(net.counts, COSTS, 1000)
        if threads == 1
        else shared_cycles(net.counts, COSTS, speedup=net.speedup, launches=net.launches, mhz=1000)
        for name, net in nets.items()
    }
    times: dict[str, dict[str, tuple[float, ...]]] = {
        str(threads): {name: (value / 1e6, 0.0, 0.0) for name, value in cycles.items()}
    }
    board = Published("A board", "rpi4", 1000, "rpi4", "1", "https://", "today", "./run", "", times)
    return board, BoardCounts("1", "", {str(threads): nets for threads in THREADS})


@pytest.mark.parametrize("threads", THREADS)
def test_constants_are_found_again_in_times_made_by_them(threads: int) -> None:
    board, counts = _made_up(threads)
    core = replace(CORES["cortex-a72"], costs=COSTS)
    fitted = FITTED[core.llvm_cpu][threads]
    values: dict[str, Any] = dict.fromkeys(fitted, 1.0)
    one = compare("made up", board, counts, threads, replace(core, costs=replace(COSTS, **values)))
    assert one.spread > 0.1
    assert one.best == pytest.approx({name: getattr(COSTS, name) for name in fitted})
    assert one.leave_one_out == pytest.approx(0, abs=1e-6)
    assert one.held_out == pytest.approx(0, abs=1e-6)
    right = compare("made up", board, counts, threads, core)
    assert (right.geometric_mean, right.spread, right.rank) == pytest.approx((1, 0, 1))


def test_the_table_fits_a_terminal_and_the_page_names_sources(found: dict[tuple[str, int], Comparison]) -> None:
    comparisons = tuple(found.values())
    lines = "\n".join(report.text(comparisons)).splitlines()
    assert max(map(len, lines)) <= 80
    page = report.markdown(comparisons)
    assert all(one.board.source in page for one in comparisons)


def test_counts_are_kept_until_another_ncnn_is_counted(tmp_path: Path) -> None:
    net = NetCounts(10, Counts(20.0))
    path = tmp_path / "counts.json"
    old = BoardCounts("1", "x", {"1": {"a": net}})
    store({"rpi4": added(old, BoardCounts("1", "y", {"1": {"b": net}, "4": {"a": net}}))}, path)
    assert {key: sorted(nets) for key, nets in load_counts(path)["rpi4"].nets.items()} == {"1": ["a", "b"], "4": ["a"]}
    assert sorted(added(old, BoardCounts("2", "y", {"1": {"b": net}})).nets["1"]) == ["b"]
    assert load_counts(tmp_path / "none.json") == {}
    path.write_text('{"rpi4": {"ncnn": "1", "made_with": "", "nets": {"1": {"a": {"instructions": -1}}}}}')
    with pytest.raises(RecordsError):
        load_counts(path)


def test_ncnn_sees_the_caches_of_the_board() -> None:
    files = core_files(load_target("rpi5"))
    cache = "sys/devices/system/cpu/cpu2/cache/index"
    assert (files[f"{cache}1/size"], files[f"{cache}1/shared_cpu_map"]) == ("512K", "4")
    assert (files[f"{cache}2/size"], files[f"{cache}2/shared_cpu_map"]) == ("2048K", "f")
    shared = core_files(load_target("rpi4"))
    assert (shared[f"{cache}1/size"], shared[f"{cache}1/shared_cpu_map"]) == ("1024K", "f")
