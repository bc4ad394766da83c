"""Tables of docs/performance.md: what is between the markers, limits, failures, and what was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks import kernels, page, store

KERNEL = {
    "name": "fused_conv2d_relu",
    "kind": "conv2d.direct",
    "workload": "conv2d 1x4x4x8 to 8, 1x1",
    "calls": 2,
    "macs": 4.0,
    "bound": 1.0,
    "comp": 1.25,
    "est": 1.5,
    "hot_loop": {"bound_share": 0.96, "multiply_adds": 48.0, "spills": 0},
}
PREDICTED = {
    "core": "Cortex-A72",
    "instructions": 90.0,
    "comp": 65.0,
    "est": 81.0,
    "l1_misses": 2_000_000,
    "l2_misses": 1_000_000,
    "by_threads": {
        "1": {"ms": 54.0, "band": [48.0, 60.0], "read_mb": 50.0, "written_mb": 20.0},
        "4": {"ms": 27.0, "band": None, "read_mb": 55.0, "written_mb": 22.0},
    },
    "memory": {"arena": 6_000_000},
    "kernels": [KERNEL, {**KERNEL, "est": 0.5, "hot_loop": {}}],
    "versions": {"apache-tvm": "1.2.3"},
}
BOARD = {
    "model": "squeezenet",
    "target": "rpi4",
    "precision": "fp32",
    "ncnn": {"mb": 168, "ms": 46.3, "one_ms": 73.4},
    "before": {"mb": 82},
    "must": {"mb": 80, "ms": 18, "one_ms": 60},
    "restated": {"ms": 28},
    "aim": {"mb": 20, "ms": 13},
}
LIMITS: dict[str, Any] = {
    "peer_versions": {"ncnn": "1.0", "MNN": "3"},
    "rows": [
        {
            "model": "squeezenet",
            "target": "rpi4",
            "precision": "fp32",
            "measure": "est",
            "must": 95,
            "aim": 75,
            "peers": {"ncnn": 85.9},
            "peers_instructions": {"ncnn": 75.8},
        }
    ],
    "est_then": "60",
    "boards": {"threads": 4, "before": "last week", "rows": [BOARD]},
    "host": {"geometric_mean_must": 0.8, "geometric_mean_aim": 1.0, "least_must": 0.5},
    "hot_loop": {"share": 0.9},
    "build": {"resnet50": {"seconds": 60, "peak_mb": 3000}},
}


def _host(ratio: float) -> store.Result:
    times = {"own_best_ms": 1.0, "other_best_ms": ratio, "ratio": 1.0, "best_ratio": ratio}
    session = {"threads": 2, "rounds": 5, "runs": 100, "cores": 2, "load_before": 0.5}
    return {**times, **session, "own_peak_mb": 30.0, "other_peak_mb": 40.0}


def test_only_what_is_between_the_markers_is_replaced() -> None:
    start, end = markers = page.markers_of("host")
    text = f"before\n{start}\nold\n{end}\nafter\n"
    changed = page.insert(text, "new", markers)
    assert changed == f"before\n{start}\n\nnew\n\n{end}\nafter\n"
    assert page.insert(changed, "new", markers) == changed


def test_markers_are_appended_to_a_page_without() -> None:
    start, end = markers = page.markers_of("host")
    assert page.insert("# Title\n", "new", markers) == f"# Title\n\n{start}\n\nnew\n\n{end}\n"


def test_a_row_is_judged_by_its_own_figure() -> None:
    row = _row(page.predicted_section({"squeezenet-rpi4-fp32": PREDICTED}, LIMITS), "squeezenet fp32")
    assert row[2:] == ["est", "85.9 (75.8)", "-", "**81.0** (90.0)", "<= 95 met", "<= 75 **not met**"]


@pytest.mark.parametrize(
    ("results", "said"), [({}, "not measured"), ({"squeezenet-rpi4-fp32": {"failed": "no LLVM"}}, "failed: no LLVM")]
)
def test_what_is_missing_is_said_and_neither_met_nor_missed(results: dict[str, store.Result], said: str) -> None:
    row = _row(page.predicted_section(results, LIMITS), "squeezenet fp32")
    assert row[5:] == [said, "<= 95", "<= 75"]


def test_a_boards_cores_are_judged_beside_what_others_need() -> None:
    _, _, _, traffic, _, shared, _, alone = page.boards_section({"squeezenet-rpi4-fp32": PREDICTED}, LIMITS["boards"])
    name = "squeezenet fp32"
    assert _row([traffic], name)[1:] == ["rpi4", "168", "82", "**77** (55 + 22)", "<= 80 met", "<= 20 **not met**"]
    assert _row([shared], name)[1:] == [
        "rpi4",
        "46.3",
        "-",
        "**27.0**",
        "<= 18 **not met**",
        "<= 28 met",
        "<= 13 **not met**",
    ]
    assert _row([alone], name)[1:] == ["rpi4", "73.4", "-", "**54.0** (48 to 60)", "<= 60 met", "-"]


def test_a_board_that_was_not_measured_is_not_judged() -> None:
    parts = page.boards_section({"squeezenet-rpi4-fp32": {"failed": "no LLVM"}}, LIMITS["boards"])
    assert _row(parts[3:4], "squeezenet fp32")[4:] == ["failed: no LLVM", "<= 80", "<= 20"]


def test_a_board_without_limits_is_not_judged() -> None:
    row = {**BOARD, "must": {"ms": 30}, "aim": {}}
    parts = page.boards_section({"squeezenet-rpi4-fp32": PREDICTED}, {**LIMITS["boards"], "rows": [row]})
    assert _row(parts[3:4], "squeezenet fp32")[5:] == ["-", "-"]
    assert _row(parts[5:6], "squeezenet fp32")[5:] == ["<= 30 met", "<= 28 met", "-"]


def test_host_ratios_are_summed_up_without_the_failures() -> None:
    parts = page.host_section({"a": _host(2.0), "b": _host(0.4), "c": {"failed": "it crashed"}}, LIMITS["host"])
    assert "2 models: **0.89** (must >= 0.8 met, aim >= 1 **not met**)" in parts[-1]
    assert "Least: **0.40**, b (must >= 0.5 **not met**)" in parts[-1]
    assert _row(parts, "c")[1] == "failed: it crashed"


def test_geometric_mean() -> None:
    assert page.geometric_mean([0.5, 2.0, 1.0]) == pytest.approx(1.0)


def test_build_limits() -> None:
    result = {"seconds": 61.0, "cpu_seconds": 100.0, "peak_mb": 900.0}
    row = _row(page.build_section({"resnet50-rpi4": result}, LIMITS["build"]), "resnet50-rpi4")
    assert row[1:] == ["61.0", "100.0", "900", "<= 60 s **not met**, <= 3000 MB met"]


def test_kernels_that_are_not_listed_are_added_up() -> None:
    lines = page.kernel_table(PREDICTED, 1).splitlines()
    assert "| 75.0% | 96% | 0 |" in lines[2]
    assert lines[3].startswith("| 1 others |  |  | 4.00 | 1.00 | 1.25 | 0.50 | 25.0% |")


def test_hot_loops_below_the_limit_and_with_spills_are_named() -> None:
    slow = {**KERNEL, "workload": "slow", "hot_loop": {"bound_share": 0.5, "spills": 0}}
    spilling = {**KERNEL, "workload": "spilling", "hot_loop": {"bound_share": 0.95, "spills": 2}}
    pool = {**KERNEL, "kind": "pool", "hot_loop": {"bound_share": 0.0, "spills": 0}}
    assert page.hot_loops([KERNEL, pool], 0.9) == "Hot loops of 1 convolutions: 1 reach 90% of the bound; no spills."
    said = page.hot_loops([KERNEL, slow, spilling], 0.9)
    assert "2 reach 90% of the bound, all but slow (50%); spills in spilling." in said
    assert "No hot loop" in page.hot_loops([pool], 0.9)


def test_every_part_has_a_section_and_every_section_a_part() -> None:
    assert set(page.SECTIONS.values()) == set(kernels.PARTS)
    for section, part in page.SECTIONS.items():
        results = {"squeezenet-rpi4-fp32": PREDICTED} if part in ("predicted", "boards") else {}
        assert page.render(section, results, LIMITS, "a machine").startswith("## ")


def test_a_section_with_nothing_measured() -> None:
    assert "nothing yet" in page.render("predicted", {}, LIMITS, "a machine")


def test_sections_without_results_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "page.md"
    start, end = page.markers_of("host")
    path.write_text(f"# Page\n\n{start}\n\nearlier\n\n{end}\n")
    monkeypatch.setattr(kernels, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(kernels, "PAGE", path)
    store.save(kernels.RESULTS, "build", "squeezenet-rpi4", {"seconds": 2.0, "cpu_seconds": 2.0, "peak_mb": 100.0})
    kernels.render()
    assert "earlier" in path.read_text()
    assert "| squeezenet-rpi4 | 2.0 |" in path.read_text()


def test_results_are_kept_one_by_one(tmp_path: Path) -> None:
    store.save(tmp_path, "host", "a", {"ratio": 1.0})
    store.save(tmp_path, "host", "b", {"failed": "why"})
    store.save(tmp_path, "host", "a", {"ratio": 2.0})
    assert store.load(tmp_path, "host") == {"a": {"ratio": 2.0}, "b": {"failed": "why"}}
    assert store.load(tmp_path, "build") == {}


def _row(parts: list[str], first: str) -> list[str]:
    lines = [line for part in parts for line in part.splitlines() if line.startswith(f"| {first} |")]
    return [cell.strip() for cell in lines[0].strip("|").split("|")]
