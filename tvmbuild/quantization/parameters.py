"""From the calibration table to the parameters of every quantized tensor."""

from __future__ import annotations

from tvmbuild.quantization.calibration.table import CalibrationTable
from tvmbuild.quantization.placement import Placement
from tvmbuild.quantization.scales import QuantParams, activation_params


def tensor_params(
    table: CalibrationTable, placement: Placement, *, symmetric: bool, power2: bool
) -> dict[str, QuantParams]:
    """Return scale and zero point by tensor's name; the tensors of a group share what holds the ranges of all.

    Raises:
        CalibrationError: the table lacks a tensor.
    """
    table.require(placement.tensors)
    ranges = {name: (table.entries[name].low, table.entries[name].high) for name in placement.tensors}
    for members in placement.groups:
        shared = min(ranges[name][0] for name in members), max(ranges[name][1] for name in members)
        ranges.update(dict.fromkeys(members, shared))
    return {
        name: activation_params(low, high, symmetric=symmetric, power2=power2) for name, (low, high) in ranges.items()
    }
