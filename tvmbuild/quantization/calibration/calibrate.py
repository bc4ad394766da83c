"""Find the ranges of a model's activations; histograms of the same model and samples are kept in the cache."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from tvmbuild.quantization.calibration.collect import Activations, collect
from tvmbuild.quantization.calibration.histogram import Histogram
from tvmbuild.quantization.calibration.sample_set import SampleSet
from tvmbuild.quantization.calibration.table import CalibrationTable, make_table
from tvmbuild.quantization.calibration.thresholds import RangeRule
from tvmbuild.quantization.float_model import FloatModel
from tvmbuild.support.cache import cached_folder
from tvmbuild.support.options import QuantizeOptions
from tvmbuild.support.versions import package_versions

#: Another number whenever the same samples would give other histograms.
_FORM = 2
_FILE = "histograms.npz"


def calibrate_table(model: FloatModel, samples: SampleSet, options: QuantizeOptions) -> CalibrationTable:
    """Count the activations over the calibration samples and choose their ranges.

    Raises:
        CalibrationError: a sample cannot be used, or an activation is not finite.
        OptionError: the mode or percentile is wrong.
    """
    rule = RangeRule(options.calibrate_mode, options.symmetric, options.percentile)
    rule.check()
    folder = cached_folder(f"calibration-{_key(model, samples)}", lambda made: _write(made, model, samples), _is_whole)
    return make_table(_read(folder), rule, samples.digest())


def _is_whole(folder: Path) -> bool:
    """Whether the histograms in a folder of the cache can be read; what else is there is made anew."""
    try:
        _read(folder)
    # What NumPy and zipfile raise for a damaged file has no common base.
    except Exception:
        return False
    return True


def _key(model: FloatModel, samples: SampleSet) -> str:
    parts = [
        str(_FORM),
        model.prepared.sha256,
        *(file.sha256 for file in model.prepared.external),
        repr(model.prepared.inputs),
        repr({name: value.tolist() for name, value in model.prepared.frozen.items()}),
        *model.placement.tensors,
        samples.digest(),
        repr(package_versions()),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def _write(folder: Path, model: FloatModel, samples: SampleSet) -> None:
    found = collect(model.proto, model.placement.tensors, model.sizes, samples.calibration)
    names = list(found.histograms)
    rows = list(found.histograms.values())
    np.savez_compressed(
        folder / _FILE,
        names=np.array(names),
        samples=np.array(found.samples),
        exponents=np.array([row.exponent for row in rows]),
        counts=np.array([row.counts for row in rows]),
        zeros=np.array([row.zeros for row in rows]),
        ranges=np.array([(row.low, row.high) for row in rows]),
    )


def _read(folder: Path) -> Activations:
    with np.load(folder / _FILE, allow_pickle=False) as stored:
        content = {name: stored[name] for name in stored.files}
    histograms = {
        str(name): Histogram(int(exponent), counts, int(zeros), float(low), float(high))
        for name, exponent, counts, zeros, (low, high) in zip(
            content["names"], content["exponents"], content["counts"], content["zeros"], content["ranges"], strict=True
        )
    }
    return Activations(histograms, int(content["samples"]))
