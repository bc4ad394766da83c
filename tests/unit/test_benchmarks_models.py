"""The models of the benchmarks: MobileNetV2's structure, kernels' rows, and the plan of measurements."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest

from benchmarks import kernels
from benchmarks.models import host_names
from benchmarks.predicted import kernel_row
from devtools.classifiers import NETWORKS, classifier
from tvmbuild.onnx_model.reference import run_reference
from tvmbuild.predict.kernels import KernelPrediction
from tvmbuild.schedules.registry import KernelReport
from tvmbuild.support.errors import FetchError


@pytest.mark.parametrize(
    ("name", "millions_of_parameters", "millions_of_macs"),
    [
        ("mobilenet_v1", 4.2, 569),
        ("mobilenet_v2", 3.49, 300),
        ("mobilenet_v3_large", 5.4, 219),
        ("resnet18", 11.7, 1814),
        ("efficientnet_b0", 5.3, 390),
    ],
)
def test_networks_have_their_papers_size(name: str, millions_of_parameters: float, millions_of_macs: float) -> None:
    model = onnx.shape_inference.infer_shapes(classifier(name))
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    assert sum(weights.values()) == pytest.approx(millions_of_parameters * 1e6, rel=0.015)
    places = {
        value.name: math.prod(dim.dim_value for dim in value.type.tensor_type.shape.dim[2:])
        for value in model.graph.value_info
    }
    layers = [node for node in model.graph.node if node.op_type in ("Conv", "Gemm")]
    macs = sum(weights[node.input[1]] * places.get(node.output[0], 1) for node in layers)
    assert macs == pytest.approx(millions_of_macs * 1e6, rel=0.015)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_the_same_for_the_same_seed_and_stay_in_range(name: str) -> None:
    model = classifier(name, seed=1, size=32)
    assert model.SerializeToString() == classifier(name, seed=1, size=32).SerializeToString()
    (result,) = run_reference(model, {"image": np.ones((1, 3, 32, 32), np.float32)}).values()
    assert result.shape == (1, 1000)
    assert 1e-3 < result.std() < 10


def test_a_kernels_bound_counts_every_call() -> None:
    prediction = KernelPrediction("conv", 8_000_000, 3e6, 4e6, 1.0, None)
    row = kernel_row(prediction, KernelReport("conv", "conv2d.direct", 4_000_000, "a conv"), 2, 4.0)
    assert (row["macs"], row["bound"], row["comp"], row["est"]) == (8.0, 2.0, 3.0, 4.0)


def test_pooling_has_no_multiply_adds() -> None:
    prediction = KernelPrediction("pool", 8_000_000, 3e6, 4e6, 1.0, None)
    assert kernel_row(prediction, KernelReport("pool", "pool", 4_000_000, "a pool"), 1, 4.0)["macs"] == 0


def test_boards_are_predicted_in_float_and_in_int8() -> None:
    work = [(name, of) for _, name, of, _ in kernels.plan(("boards",), ["resnet50", "resnet18"])]
    assert work == [
        ("resnet18-rpi4-fp32", "resnet18"),
        ("resnet18-rpi5-fp16", "resnet18"),
        ("resnet50-rpi4-fp32", "resnet50"),
        ("resnet50-rpi5-fp16", "resnet50"),
        ("resnet50-rpi4-int8", "resnet50"),
    ]


def test_the_plan_keeps_to_parts_and_models() -> None:
    work = [(part, name) for part, name, _, _ in kernels.plan(("predicted", "build"), ["squeezenet", "nmp"])]
    assert work == [
        ("predicted", "squeezenet-rpi4-fp32"),
        ("predicted", "squeezenet-rpi5-fp32"),
        ("predicted", "squeezenet-rpi5-fp16"),
        ("build", "squeezenet-rpi4"),
    ]
    assert [name for part, name, *_ in kernels.plan(("host",), None) if part == "host"] == host_names()


def test_a_failure_is_kept_as_a_result_and_the_rest_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = iter([FetchError("no network", "try again"), {"seconds": 1.0, "cpu_seconds": 1.0, "peak_mb": 2.0}])

    def measure(*_arguments: object) -> object:
        outcome = next(measured)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    monkeypatch.setattr(kernels, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(kernels, "TOP", tmp_path)
    monkeypatch.setattr(kernels, "PAGE", tmp_path / "page.md")
    monkeypatch.setattr(kernels, "model", lambda name, _folder: name)
    monkeypatch.setattr(kernels, "measure_build", measure)
    assert kernels.main(["--only", "build"]) == 1
    text = (tmp_path / "page.md").read_text()
    assert "failed: no network" in text
    assert "| resnet50-rpi4 | 1.0 |" in text
