"""Any number of threads gives the same numbers: no sum is split between them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from kernel_cases import LARGE_CASES, Array, make_model

from tvmbuild import schedules
from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.graph.pipeline import optimize
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.pipeline import build
from tvmbuild.support.options import BuildOptions
from tvmbuild.target.target import load_target

#: Targets and the devices that run them. The emulated board has four cores, which this machine need not have.
PLACES = {"host": "local", "rpi4": "emulated", "rpi5": "emulated"}
#: Stands for TVM's threads among the numbers of our own.
TVMS = -1


@dataclass(frozen=True)
class Runs:
    """The outputs by number of threads, in the model's order, and what ONNX Runtime says."""

    outputs: dict[int, tuple[Array, ...]]
    names: list[str]
    expected: dict[str, Array]


@pytest.fixture(scope="module", params=PLACES)
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Runs:
    folder: Path = tmp_path_factory.mktemp("threads")
    proto, arrays = make_model(LARGE_CASES)
    onnx.save(proto, folder / "large.onnx")
    target = load_target(request.param)
    result = build(folder / "large.onnx", target, BuildOptions(output=folder, name="large", compare=False))
    inputs = [arrays[spec.name] for spec in result.manifest.inputs]
    device = open_device(PLACES[request.param], target)
    outputs = {
        count: device.run(RunRequest(folder / "large.so", inputs, threads=count)).outputs for count in (1, 2, 3, 4)
    }
    with pytest.MonkeyPatch.context() as patch:
        # TVM's own threads, of which each has one share.
        patch.setenv("TVMBUILD_THREAD_POOL", "tvm")
        outputs[TVMS] = device.run(RunRequest(folder / "large.so", inputs, threads=4)).outputs
    return Runs(outputs, [spec.name for spec in result.manifest.outputs], run_reference(proto, arrays))


@pytest.mark.parametrize("name", LARGE_CASES)
def test_threads_do_not_change_a_bit(runs: Runs, name: str) -> None:
    place, wanted = runs.names.index(name), runs.expected[name]
    alone = runs.outputs[1][place]
    tolerance = LARGE_CASES[name].tolerance * float(np.abs(wanted).max())
    np.testing.assert_allclose(alone, wanted, rtol=0, atol=tolerance)
    for count in (2, 3, 4, TVMS):
        np.testing.assert_array_equal(runs.outputs[count][place], alone)


def test_the_kernels_compared_do_use_several_threads(tmp_path: Path) -> None:
    proto, _ = make_model(LARGE_CASES)
    onnx.save(proto, tmp_path / "large.onnx")
    prepared = prepare(tmp_path / "large.onnx", {}, compare=False)
    mod, report = optimize(to_relax(prepared), load_target("rpi4"), kernels=schedules)
    kinds = {entry.name: entry.kind for entry in report.schedules}
    parallel = {kinds[str(var.name_hint)] for var, func in mod.functions_items() if "T.parallel" in func.script()}
    assert parallel == set(kinds.values())
