"""Every kind of kernel on both emulated cores against ONNX Runtime (see ``kernel_cases``)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from kernel_cases import CASES, Array, make_model
from one_core import algorithms_of_one_core

from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.graph.report import GraphReport
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.pipeline import build
from tvmbuild.support.options import BuildOptions
from tvmbuild.target.target import load_target


@dataclass(frozen=True)
class Board:
    """All cases, built for one target and run there once."""

    outputs: dict[str, Array]
    expected: dict[str, Array]
    graph: GraphReport


@pytest.fixture(scope="module", params=["rpi4", "rpi5"])
def board(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Board:
    folder: Path = tmp_path_factory.mktemp("kernels")
    proto, arrays = make_model(CASES)
    onnx.save(proto, folder / "kernels.onnx")
    target = load_target(request.param)
    # The comparison of the prepared model would only repeat what the test itself compares.
    with algorithms_of_one_core():
        result = build(folder / "kernels.onnx", target, BuildOptions(output=folder, name="kernels", compare=False))
    inputs = [arrays[spec.name] for spec in result.manifest.inputs]
    run = open_device("emulated", target).run(RunRequest(folder / "kernels.so", inputs, threads=2))
    names = [spec.name for spec in result.manifest.outputs]
    return Board(dict(zip(names, run.outputs, strict=True)), run_reference(proto, arrays), result.graph)


@pytest.mark.parametrize("name", CASES)
def test_kernel(board: Board, name: str) -> None:
    case, actual, wanted = CASES[name], board.outputs[name], board.expected[name]
    assert actual.shape == wanted.shape
    finite = np.isfinite(wanted)
    assert finite.all() or case.special
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(wanted))
    np.testing.assert_array_equal(actual[np.isinf(wanted)], wanted[np.isinf(wanted)])
    largest = float(np.abs(wanted[finite]).max(initial=0.0))
    np.testing.assert_allclose(actual[finite], wanted[finite], rtol=0, atol=case.tolerance * largest)


def test_the_plan_picks_the_algorithm(board: Board) -> None:
    kinds = {report.workload: report.kind for _, report, _ in board.graph.scheduled() if report is not None}
    for case in CASES.values():
        if case.workload:
            assert kinds[case.workload] == case.kind


def test_every_kind_of_schedule_is_used_and_no_kernel_is_without_one(board: Board) -> None:
    kinds = {report.kind for _, report, _ in board.graph.scheduled() if report is not None}
    assert kinds == {
        "conv2d.direct",
        "conv2d.winograd",
        "conv2d.strassen",
        "matmul",
        "depthwise",
        "pool",
        "reduction",
        "elementwise",
        "data_movement",
    }
    assert not board.graph.unscheduled()
