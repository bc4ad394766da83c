"""Finding tools, reading what they print, and mapping code to PrimFuncs."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tvmbuild.predict.kernels import HotLoop, KernelPrediction, Sharing
from tvmbuild.predict.llvm import PREFIX_VARIABLE, find_llvm, parse_costs
from tvmbuild.predict.plugin import plugin_api
from tvmbuild.predict.predictor import Prediction, cache_arguments
from tvmbuild.predict.report import COLUMNS, SHARED_COLUMNS, prediction_json, prediction_table
from tvmbuild.predict.symbols import read_symbols, symbol_map
from tvmbuild.support.errors import ArtifactError, TargetError, ToolchainError
from tvmbuild.target.target import load_target, predicted_core


@pytest.mark.parametrize(
    ("text", "api"),
    [
        ("qemu-aarch64 version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18+b3)", 1),
        ("qemu-aarch64 version 8.2.2 (Debian 1:8.2.2+ds-0ubuntu1)", 1),
        ("qemu-aarch64 version 9.0.4", 2),
        ("qemu-aarch64 version 9.1.0", 3),
        ("qemu-aarch64 version 10.0.13", 3),
    ],
)
def test_each_qemu_gets_the_interface_that_it_takes(text: str, api: int) -> None:
    assert plugin_api(text) == api


def test_an_unknown_qemu_is_a_toolchain_error() -> None:
    with pytest.raises(ToolchainError, match="cannot be read"):
        plugin_api("something else")


def install_llvm(folder: Path, version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put two programs into a folder and answer for them when they are asked for their version."""
    folder.mkdir(exist_ok=True)
    for name in ("llvm-mc", "llvm-mca"):
        (folder / name).touch(0o755)

    def run(command: list[Path], **_: object) -> subprocess.CompletedProcess[str]:
        if not Path(command[0]).exists():
            raise FileNotFoundError(command[0])
        return subprocess.CompletedProcess(command, 0, f"Debian LLVM version {version}\n  Optimized build.\n", "")

    monkeypatch.setattr(subprocess, "run", run)


def test_the_named_llvm_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_llvm(tmp_path / "bin", "22.1.8", monkeypatch)
    monkeypatch.setenv(PREFIX_VARIABLE, str(tmp_path))
    tools = find_llvm()
    assert (tools.version, tools.mca) == ("22.1.8", tmp_path / "bin" / "llvm-mca")


def test_an_old_llvm_is_named_and_the_hint_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_llvm(tmp_path, "14.0.6", monkeypatch)
    monkeypatch.delenv(PREFIX_VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolchainError, match=r"14\.0\.6 is too old") as caught:
        find_llvm()
    assert "apt-get install llvm-22" in caught.value.hint


def test_costs_are_per_iteration() -> None:
    # Recorded from llvm-mca 22.1.8 --mcpu=cortex-a72 --iterations=100: one load, eight fmla, subs and a branch.
    summary = {"BlockRThroughput": 8.0, "DispatchWidth": 3, "IPC": 1.35, "Instructions": 1100, "Iterations": 100}
    summary |= {"TotalCycles": 812, "TotaluOps": 1200, "uOpsPerCycle": 1.48}
    cost = parse_costs(json.dumps({"CodeRegions": [{"Name": "r7", "SummaryView": summary}]}))[7]
    assert (cost.cycles, cost.throughput, cost.micro_ops, cost.width) == (8.12, 8.0, 12.0, 3)
    assert cost.floor == 8.0


def test_the_bodies_of_parallel_loops_belong_to_their_primfunc() -> None:
    functions = [
        (0x10, 0x20, "frame_dummy"),
        (0x100, 0x80, "__tvm_ffi_conv2d"),
        (0x180, 0x20, "__tvm_ffi_add"),
        (0x1A0, 0x10, "conv2d_compute_"),
        (0x200, 0x10, "__tvm_set_raised_6"),
        (0x300, 0x10, "add_compute_.3"),
    ]
    symbols = symbol_map(((0x0, 0x1000, 0x0), (0x1000, 0x100, 0x11000)), functions)
    assert symbols.function_at(0x110) == "conv2d"
    assert symbols.function_at(0x1A4) == "conv2d"
    assert symbols.function_at(0x1C0) == "conv2d"
    assert symbols.function_at(0x204) == "__tvm_set_raised_6"
    assert symbols.function_at(0x280) == "conv2d"
    assert symbols.function_at(0x30C) == "add"
    assert symbols.function_at(0x0) == ""


def test_code_is_found_where_its_segment_is_loaded() -> None:
    symbols = symbol_map(((0x1000, 0x100, 0x11000),), [(0x11010, 0x10, "add_compute_")])
    assert symbols.function_at(0x1014) == "add"


def test_what_is_no_library_is_an_artifact_error(tmp_path: Path) -> None:
    path = tmp_path / "model.so"
    path.write_bytes(b"not ELF")
    with pytest.raises(ArtifactError, match="cannot be read"):
        read_symbols(path)


def test_a_target_without_model_is_named() -> None:
    with pytest.raises(TargetError, match="generic-aarch64"):
        predicted_core(load_target("generic-aarch64"))


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("rpi4", ["l1=32768:2:each", "l2=1048576:16"]),
        ("rpi5", ["l1=65536:4:each", "l2=524288:8:each", "l3=2097152:16"]),
    ],
)
def test_caches_are_those_of_the_target(name: str, arguments: list[str]) -> None:
    target = load_target(name)
    assert cache_arguments(target, predicted_core(target)) == arguments


SHARED = Sharing(4, 3.9, 2)
LOOP = ("104", "64.7", "64", "99%", "0")


def prediction(threads: int = 1) -> Prediction:
    loop = HotLoop(104, 64.7, 64, 0.989, 0, 0.97, ("fmla v0.4s, v1.4s, v2.s[0]",))
    kernels = (
        KernelPrediction("conv2d", 80_000_000, 70e6, 72e6, 0.9, loop, 12_800_000, 6_400_000, SHARED),
        KernelPrediction("softmax", 5_000_000, 4e6, 6e6, 0.075, None),
        KernelPrediction("(libm.so.6)", 1_000_000, 2e6, 2e6, 0.025, None),
    )
    moved: dict[str, Any] = {
        "read_bytes": 15_000_000,
        "written_bytes": 7_000_000,
        "band": (40.0, 70.0),
        "source": "fitted to a board",
    }
    return Prediction(
        "rpi4", "Cortex-A72", "22.1.8", 86_000_000, 76e6, 80e6, 53.3, 10, 5, 0.999, kernels, threads, **moved
    )


def test_the_table_says_that_it_is_predicted_and_with_what() -> None:
    table = prediction_table(prediction())
    for words in (
        "Predicted (not timed)",
        "rpi4",
        "one thread",
        "LLVM 22.1.8",
        "80.00 Mcycles = 53.30 ms",
        "likely 40.0 to 70.0 ms",
        "; costs: fitted to a board",
    ):
        assert words in table.title
    assert table.columns == COLUMNS
    assert table.rows[0] == ("conv2d", "80.000", "70.000", "72.000", "90.0%", "12.80", "6.40", *LOOP)
    assert all(len(row) == len(COLUMNS) for row in table.rows)


def test_kernels_beyond_the_limit_are_added_up() -> None:
    rows = prediction_table(prediction(), limit=1).rows
    assert [row[0] for row in rows] == ["conv2d", "2 others"]
    assert rows[1][1:5] == ("6.000", "6.000", "8.000", "10.0%")


def test_several_threads_say_how_each_kernel_is_shared_out_and_what_is_moved() -> None:
    table = prediction_table(prediction(4), limit=1)
    assert table.columns == SHARED_COLUMNS
    assert "4 threads" in table.title
    assert "15.0 MB read from memory and 7.0 MB written" in table.title
    assert table.rows[0] == ("conv2d", "80.000", "70.000", "72.000", "90.0%", "12.80", "6.40", "2", "3.90")
    assert table.rows[1][-2:] == ("0", "")


def test_json_says_that_it_is_predicted() -> None:
    data = prediction_json([prediction(), prediction(4)])
    assert data["predicted"] is True
    assert json.loads(json.dumps(data))["kernels"][0]["hot_loop"]["multiply_adds"] == 64
    assert sorted(data["by_threads"]) == ["1", "4"]
    assert data["by_threads"]["4"]["written_bytes"] == 7_000_000
