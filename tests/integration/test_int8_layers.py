"""Quantized layers on this machine and on the emulated boards, bit for bit the integer arithmetic of NumPy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from int8_layers import Layer, layers, make_model

from tvmbuild.device import open_device
from tvmbuild.device.protocol import RunRequest
from tvmbuild.pipeline import build
from tvmbuild.support.options import BuildOptions
from tvmbuild.target.target import load_target

#: The largest sums: 4608 products of the extremes.
LARGEST = [
    Layer((3, 3), (512, 8, 1), 3, fill="-128", zeros=(127, 0, 0)),
    Layer((3, 4), (512, 9, 1), 3, fill="127", zeros=(-128, 0, 0), padding=(1, 1, 1, 1)),
    Layer((5, 1), (2048, 16, 1), 0, fill="-128", zeros=(127, 0, -3)),
]


@pytest.mark.parametrize("target", ["host", "rpi4", "rpi5"])
@given(drawn=st.lists(layers(), min_size=16, max_size=16))
@settings(
    max_examples=2,
    derandomize=True,
    database=None,
    # One build of all layers is a matter of seconds; shrinking would take minutes.
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_layers_give_the_bits_of_the_integer_reference(
    target: str, drawn: list[Layer], tmp_path_factory: pytest.TempPathFactory
) -> None:
    cases = drawn + LARGEST
    proto, arrays, wanted = make_model(cases)
    folder: Path = tmp_path_factory.mktemp("int8")
    onnx.save(proto, folder / "layers.onnx")
    board = load_target(target)
    result = build(folder / "layers.onnx", board, BuildOptions(output=folder, name="layers", compare=False))
    assert result.graph.macs.share == 1.0
    device = open_device("local" if target == "host" else "emulated", board)
    inputs = [arrays[spec.name] for spec in result.manifest.inputs]
    outputs = device.run(RunRequest(folder / "layers.so", inputs, threads=2)).outputs
    for spec, output in zip(result.manifest.outputs, outputs, strict=True):
        np.testing.assert_array_equal(output, wanted[spec.name], err_msg=str(cases[int(spec.name[5:])]))
