"""Prediction of a small matrix product, from compiling to the table; skipped where a tool of it is missing."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvmbuild.predict.llvm import disassemble, find_llvm, price
from tvmbuild.predict.predictor import Prediction, ProfiledRun, predict, run_profiled
from tvmbuild.predict.profile import LINE_BYTES
from tvmbuild.support.errors import ArtifactError
from tvmbuild.target.target import load_target

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("predictor")]
ROWS, COLUMNS, DEPTH = 16, 32, 64


def build(folder: Path, rows: int, target_name: str) -> Path:
    """Compile x[rows, DEPTH] @ y[DEPTH, COLUMNS] with 8 x 8 accumulators in registers and parallel rows."""
    import tvm
    from tvm import relax, te

    x = te.placeholder((rows, DEPTH), name="x")
    y = te.placeholder((DEPTH, COLUMNS), name="y")
    k = te.reduce_axis((0, DEPTH), name="k")
    product = te.compute((rows, COLUMNS), lambda i, j: te.sum(x[i, k] * y[k, j], axis=k), name="product")
    schedule = tvm.s_tir.Schedule(te.create_prim_func([x, y, product]))
    block = schedule.get_sblock("product")
    row, column, depth = schedule.get_loops(block)
    row, row_in = schedule.split(row, [None, 8])
    column, column_in = schedule.split(column, [None, 8])
    schedule.reorder(row, column, depth, row_in, column_in)
    schedule.parallel(row)
    schedule.unroll(row_in)
    schedule.vectorize(column_in)
    schedule.decompose_reduction(block, depth)

    builder = relax.BlockBuilder()
    function = builder.add_func(schedule.mod["main"].without_attr("global_symbol"), "product")
    inputs = [relax.Var(name, relax.TensorType(shape, "float32")) for name, shape in (("x", x.shape), ("y", y.shape))]
    with builder.function("main", inputs):
        with builder.dataflow():
            call = relax.call_tir(function, inputs, out_ty=relax.TensorType((rows, COLUMNS), "float32"))
            output = builder.emit_output(builder.emit(call))
        builder.emit_func_output(output)
    path = folder / f"product{rows}.so"
    compiled = tvm.compile(builder.get(), load_target(target_name).to_tvm())
    compiled.export_library(str(path), cc="aarch64-linux-gnu-g++")
    return path


def run(library: Path, rows: int, target_name: str, **options: Any) -> Prediction:
    inputs = [np.ones((rows, DEPTH), np.float32), np.ones((DEPTH, COLUMNS), np.float32)]
    return predict(library, load_target(target_name), inputs, **options)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("predict"), ROWS, "rpi4")


def test_counts_repeat_exactly_and_the_kernel_is_found(library: Path) -> None:
    first, second = (run(library, ROWS, "rpi4") for _ in range(2))
    kernels = {kernel.name: kernel for kernel in first.kernels}
    again = {kernel.name: kernel for kernel in second.kernels}
    assert kernels["product"].instructions == again["product"].instructions
    # 64 multiply-adds of 4 lanes for each step of the depth in each tile of 8 x 8, none of them spilled.
    loop = kernels["product"].hot_loop
    assert loop is not None
    assert loop.spills == 0
    assert loop.multiply_adds * 4 % 64 == 0
    assert 0.5 < loop.bound_share <= 1.0
    macs = ROWS * COLUMNS * DEPTH
    assert macs / 4 <= kernels["product"].compute_cycles < 2 * macs / 4


def test_twice_the_rows_cost_twice(library: Path, tmp_path: Path) -> None:
    once = run(library, ROWS, "rpi4", caches=False)
    twice = run(build(tmp_path, 2 * ROWS, "rpi4"), 2 * ROWS, "rpi4", caches=False)
    costs = [
        next(kernel.compute_cycles for kernel in prediction.kernels if kernel.name == "product")
        for prediction in (once, twice)
    ]
    assert costs[1] / costs[0] == pytest.approx(2, rel=0.1)
    assert once.l1_misses is None
    assert once.estimated_cycles == once.compute_cycles
    assert once.read_bytes is None


def test_the_same_code_takes_fewer_cycles_on_the_wider_core(library: Path) -> None:
    a72, a76 = run(library, ROWS, "rpi4", caches=False), run(library, ROWS, "rpi5", caches=False)
    assert a76.kernels[0].instructions == pytest.approx(a72.kernels[0].instructions, rel=0.01)
    assert a76.kernels[0].compute_cycles < a72.kernels[0].compute_cycles
    # Twice the multiply-adds a cycle: the same loop is half as near to the limit.
    loops = a72.kernels[0].hot_loop, a76.kernels[0].hot_loop
    assert loops[0] is not None
    assert loops[1] is not None
    assert loops[1].bound_share < loops[0].bound_share


def test_four_threads_repeat_exactly_and_share_the_work(library: Path) -> None:
    first, second = (run(library, ROWS, "rpi4", threads=4) for _ in range(2))
    kernel, again, alone = (
        next(kernel for kernel in prediction.kernels if kernel.name == "product")
        for prediction in (first, second, run(library, ROWS, "rpi4"))
    )
    assert (kernel.instructions, kernel.sharing) == (again.instructions, again.sharing)
    # 16 rows are two tiles of 8: two of four threads have one each, and a task costs a few instructions.
    assert kernel.sharing.launches == 1
    assert kernel.sharing.speedup == pytest.approx(2, rel=0.05)
    assert kernel.instructions == pytest.approx(alone.instructions, rel=0.05)
    assert first.threads == 4
    assert first.band is not None


def test_cold_caches_find_nothing_and_read_what_the_kernel_needs(library: Path) -> None:
    inputs = (np.ones((ROWS, DEPTH), np.float32), np.ones((DEPTH, COLUMNS), np.float32))
    warm, cold = (
        run_profiled(ProfiledRun(library, load_target("rpi4"), inputs, 1, True, 60.0, cold=cold))[0]
        for cold in (False, True)
    )
    lines = [
        sum(block.memory_reads for block in profile.blocks if block.module == str(library)) for profile in (warm, cold)
    ]
    read, written = 4 * (ROWS * DEPTH + DEPTH * COLUMNS) / LINE_BYTES, 4 * ROWS * COLUMNS / LINE_BYTES
    # The output of the run before is still held: this one's is new memory in any case.
    assert lines[0] < 1.1 * written
    assert read + written <= lines[1] < 1.1 * (read + written)


def test_a_stripped_library_is_refused(library: Path, tmp_path: Path) -> None:
    import subprocess

    stripped = tmp_path / "stripped.so"
    subprocess.run(["aarch64-linux-gnu-strip", "-o", stripped, library], check=True)
    with pytest.raises(ArtifactError, match="no local symbols"):
        run(stripped, ROWS, "rpi4")


def test_one_unknown_instruction_does_not_spoil_the_others() -> None:
    tools = find_llvm()
    texts = disassemble(tools, ["4e22cc20", "ffffffff", "d65f03c0"])
    assert texts == {"4e22cc20": "fmla v0.4s, v1.4s, v2.4s", "d65f03c0": "ret"}
    good, bad = price(tools, "cortex-a72", [[texts["4e22cc20"]], ["no such thing"]])
    assert good is not None
    assert bad is None or bad.micro_ops == 0
