#!/usr/bin/env python3
"""Calibrate the angle classifier on as many samples as asked for: ``calibrate_many.py COUNT``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.models import model
from tvmbuild.quantization.calibration.calibrate import calibrate_table
from tvmbuild.quantization.calibration.sample_set import Sample, SampleRef, SampleSet
from tvmbuild.quantization.float_model import open_float_model
from tvmbuild.support.options import QuantizeOptions

NAME = "ch_ppocr_mobile_v2.0_cls_infer"


def main() -> int:
    """Calibrate; the samples are made as they are read, each from its number."""
    bench = model(NAME, Path(__file__).resolve().parent.parent / "build")
    options = QuantizeOptions(shape=bench.shapes)
    float_model = open_float_model(bench.path, options)
    (spec,) = float_model.prepared.inputs

    def load(number: int) -> Sample:
        values = np.random.default_rng(number).standard_normal(spec.shape, np.float32)
        return {spec.name: np.clip(values, -1.0, 1.0)}

    refs = tuple(
        SampleRef(f"sample {number}", hashlib.sha256(str(number).encode()).hexdigest(), lambda n=number: load(n))  # type: ignore[misc]
        for number in range(int(sys.argv[1]))
    )
    calibrate_table(float_model, SampleSet(refs, (), overlap=False), options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
