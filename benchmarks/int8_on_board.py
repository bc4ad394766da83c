"""Builds a quantized model for rpi4, runs it on the emulated board and compares it with ONNX Runtime."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from tvmbuild.artifact.open import open_artifact
from tvmbuild.checking.verify import verify
from tvmbuild.device import open_device
from tvmbuild.pipeline import build
from tvmbuild.quantization.calibration.image import load_recipe
from tvmbuild.quantization.calibration.sources import find_samples
from tvmbuild.quantization.quantizer import Quantized
from tvmbuild.support.options import BuildOptions, VerifyOptions
from tvmbuild.target.target import load_target

HEAD = ["model", "products in int8", "MACs in int8", "difference", "allowed"]


def board_row(name: str, done: Quantized, pictures: Path, preset: str) -> list[str]:
    """Return a row: the share in int8, and the output nearest to what rounding allows it, for one picture."""
    target = load_target("rpi4")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        model = folder / f"{name}.int8.onnx"
        done.save(model)
        built = build(model, target, BuildOptions(output=folder, use_records=False))
        artifact = open_artifact(folder / f"{built.manifest.name}.json")
        sample = find_samples(pictures, built.manifest.inputs, load_recipe(preset))[0].load()
        (array,) = sample.values()
        np.save(folder / "sample.npy", array)
        options = VerifyOptions(inputs=folder / "sample.npy", threads=1, timeout=1800)
        outcome = verify(artifact, model, open_device("emulated", target), options)
    worst = max(outcome.outputs, key=lambda output: output.excess)
    products = next(report for report in built.graph.passes if report.name == "quantize")
    return [
        name,
        f"{products.applied} of {products.total}",
        f"{built.graph.macs.share:.1%}",
        f"{worst.relative:.3f}{'' if worst.passed else ' **differs**'}",
        f"{worst.tolerance:.3f}",
    ]
