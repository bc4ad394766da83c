"""The public Python functions from a model to its time on this machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import helper
from onnx_models import model

import tvmbuild


def test_a_model_is_built_verified_timed_and_quantized(tmp_path: Path) -> None:
    weights = np.random.default_rng(0).normal(0, 0.2, (8, 3, 3, 3)).astype(np.float32)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("Relu", ["c"], ["y"])]
    onnx.save(model(nodes, {"x": ["n", 3, 12, 12]}, ["y"], {"w": weights}), tmp_path / "net.onnx")
    network = str(tmp_path / "net.onnx")
    built = tvmbuild.build(network, "host", output=str(tmp_path / "dist"), strict=True)
    artifact = built.folder / f"{built.manifest.name}.so"
    assert tvmbuild.verify(artifact, network).passed
    timing = tvmbuild.bench(artifact, against=network, runs=5, warmup=1, threads=1)
    assert len(timing.timings) == 2
    samples = [np.random.default_rng(n).uniform(-1, 1, (1, 3, 12, 12)).astype(np.float32) for n in range(10)]
    tvmbuild.quantize(network, samples, output=tmp_path / "net.int8.onnx")
    small = tvmbuild.build(tmp_path / "net.int8.onnx", "host", output=tmp_path / "dist")
    assert small.graph.macs.share == 1.0
    assert tvmbuild.verify(small.folder / f"{small.manifest.name}.so", tmp_path / "net.int8.onnx").passed
