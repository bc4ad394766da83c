"""What TVM's importer makes of each operator, against ONNX Runtime: tiny models with one operator each.

What is refused belongs into the unit tests of rewrites and limits; here everything must compile and give the right
numbers.
"""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import ModelProto, helper
from onnx_models import model, saved
from operator_cases import CASES, IMAGE, ints

from tvmbuild.onnx_model.compare import difference
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.reference import random_inputs, run_reference
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.support.errors import TvmbuildError

pytestmark = pytest.mark.integration

#: Largest difference over the largest value: float32 rounds at 6e-8, and no case sums more than a few hundred terms.
TOLERANCE = 2e-5


def _largest_difference(proto: ModelProto, folder: Path) -> float:
    """Compile a model for this machine and return how far its outputs are from ONNX Runtime's."""
    import tvm
    from tvm import relax

    prepared = prepare(saved(proto, folder))
    machine = relax.VirtualMachine(tvm.compile(to_relax(prepared), "llvm"), tvm.cpu())
    inputs = random_inputs(prepared.inputs, 11)
    result = machine["main"](*(tvm.runtime.tensor(inputs[spec.name]) for spec in prepared.inputs))
    outputs = [result] if hasattr(result, "numpy") else list(result)
    wanted = run_reference(prepared.original, inputs)
    assert [(str(spec.dtype), spec.shape) for spec in prepared.outputs] == [
        (str(output.numpy().dtype), output.shape) for output in outputs
    ]
    return max(difference(wanted[spec.name], out.numpy()) for spec, out in zip(prepared.outputs, outputs, strict=True))


#: The newest ONNX Runtime for Python 3.10 (1.23) refuses a reduction over no axes, counts the windows of pools with
#: ceil_mode by a rule of its own and averages their last column wrongly. It cannot judge these.
OLD_ONNXRUNTIME = tuple(map(int, metadata.version("onnxruntime").split(".")[:2])) < (1, 24)
MISJUDGED = ("reduce_mean_noop", "average_pool_ceil_drops_a_window") if OLD_ONNXRUNTIME else ()


@pytest.mark.parametrize("name", [name for name in CASES if name not in MISJUDGED])
def test_operator(tmp_path: Path, name: str) -> None:
    operator, attributes, inputs, weights, more = CASES[name]
    more = dict(more)
    outputs, order = more.pop("outputs", ["y"]), more.pop("order", [*inputs, *weights])
    proto = model([helper.make_node(operator, order, outputs, **attributes)], inputs, outputs, weights, **more)
    assert _largest_difference(proto, tmp_path) < TOLERANCE


_RESIZES = [
    {"mode": "nearest", "nearest_mode": rounding, "coordinate_transformation_mode": mode}
    for rounding in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    for mode in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")
] + [
    {"mode": kind, "coordinate_transformation_mode": mode}
    for kind in ("linear", "cubic")
    for mode in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel", "half_pixel_symmetric")
]


@pytest.mark.parametrize("sizes", [(14, 27), (5, 3), (11, 4), (1, 2)])
@pytest.mark.parametrize("attributes", _RESIZES, ids=lambda attributes: "-".join(attributes.values()))
def test_resize_is_right_or_refused(tmp_path: Path, attributes: dict[str, str], sizes: tuple[int, int]) -> None:
    node = helper.make_node("Resize", ["x", "", "", "s"], ["y"], **attributes)
    try:
        worst = _largest_difference(model([node], IMAGE, ["y"], {"s": ints(1, 4, *sizes)}, opset=19), tmp_path)
    except TvmbuildError as error:
        pytest.skip(error.message)
    assert worst < TOLERANCE


@pytest.mark.skipif(OLD_ONNXRUNTIME, reason="ONNX Runtime 1.23 counts windows of ceil_mode by a rule of its own")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_random_pools(tmp_path: Path, data: st.DataObject) -> None:
    kernel = data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)), "kernel")
    attributes: dict[str, Any] = {
        "kernel_shape": kernel,
        "strides": data.draw(st.tuples(st.integers(1, 3), st.integers(1, 3)), "strides"),
        "pads": [data.draw(st.integers(0, kernel[axis % 2] - 1), f"pad {axis}") for axis in range(4)],
        "ceil_mode": data.draw(st.integers(0, 1), "ceil"),
    }
    operator = data.draw(st.sampled_from(["MaxPool", "AveragePool"]), "operator")
    if operator == "AveragePool":
        attributes["count_include_pad"] = data.draw(st.integers(0, 1), "include")
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    assert _largest_difference(model([node], {"x": [1, 2, 7, 6]}, ["y"], opset=19), tmp_path) < TOLERANCE
