"""What can be said of quantization's options before the model is read and calibrated, which takes minutes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tvmbuild.quantization.budget import parse_budget
from tvmbuild.quantization.calibration.sources import require_source
from tvmbuild.quantization.calibration.table import read_table
from tvmbuild.quantization.calibration.thresholds import RangeRule
from tvmbuild.quantization.metric import load_metric
from tvmbuild.quantization.scales import check_weight_scale
from tvmbuild.support.atomic.staging import check_writable
from tvmbuild.support.errors import CalibrationError, OptionError
from tvmbuild.support.options import QuantizeOptions


def check_options(options: QuantizeOptions, calibrate: Any) -> None:
    """Check quantization's options and that what they name is there.

    Args:
        options: of the quantization.
        calibrate: a path, an iterable of samples, or None.

    Raises:
        OptionError: an option is wrong.
        CalibrationError: samples are needed and there are none, or the table is damaged.
        OutputError: the table cannot be written.
    """
    RangeRule(options.calibrate_mode, options.symmetric, options.percentile).check()
    check_weight_scale(options.weight_scale)
    if options.budget and parse_budget(options.budget).measure.startswith("metric") and not options.metric:
        raise OptionError(
            "The budget is about a metric, and none is given.", "Give --metric module:function, or another --budget."
        )
    if options.metric:
        load_metric(options.metric)
    if not 0.0 <= options.held_out < 1.0:
        raise OptionError(f"The share of held-out samples is {options.held_out:g}.", "Give 0 up to below 1.")
    _check_table(options, calibrate)
    if isinstance(calibrate, str | Path):
        require_source(Path(calibrate))
    for what, wanted in (("A budget needs", options.budget), ("Bias correction needs", options.bias_correction)):
        if wanted and calibrate is None:
            raise CalibrationError(f"{what} samples to measure with.", "Give --calibrate DIR.")


def _check_table(options: QuantizeOptions, calibrate: Any) -> None:
    if options.table is not None and options.table.is_file():
        read_table(options.table)
    elif calibrate is None:
        named = f"The calibration table {options.table} does not exist, and there" if options.table else "There"
        raise CalibrationError(f"{named} are no samples to calibrate with.", "Give --calibrate DIR.")
    elif options.table is not None:
        check_writable(options.table.parent, options.table.name)
