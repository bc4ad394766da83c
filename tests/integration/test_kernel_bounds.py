"""Each index of each kernel, proven by TVM's analyzer to lie in its buffer; a run sees only what it happens to read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import onnx
import pytest
from kernel_bounds import Prover
from kernel_cases import CASES, LARGE_CASES, make_model
from schedule_harness import build_module, lower
from tvm import relax, tirx

from tvmbuild import schedules
from tvmbuild.graph.pipeline import optimize
from tvmbuild.onnx_model.prepare import prepare
from tvmbuild.onnx_model.to_relax import to_relax
from tvmbuild.target.target import load_target

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module", params=["rpi4", "rpi5"])
def functions(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return the scheduled kernels of all cases."""
    found = {}
    target = load_target(request.param)
    for label, cases in (("small", CASES), ("large", LARGE_CASES)):
        proto, _ = make_model(cases)
        path: Path = tmp_path_factory.mktemp(label) / "kernels.onnx"
        onnx.save(proto, path)
        mod = optimize(to_relax(prepare(path)), target, kernels=schedules)[0]
        found |= {
            f"{label} {var.name_hint}": func for var, func in mod.functions_items() if isinstance(func, tirx.PrimFunc)
        }
    return found


def test_each_index_lies_in_its_buffer(functions: dict[str, Any]) -> None:
    unproven, count = {}, 0
    for name, func in functions.items():
        prover = Prover()
        prover.walk(func)
        count += prover.count
        if prover.unproven:
            unproven[name] = prover.unproven[:3]
    assert count > 5000
    assert any("winograd" in name for name in functions)
    assert unproven == {}


@pytest.mark.parametrize("target", ["rpi4", "rpi5"])
@pytest.mark.parametrize("widths", [(3, 5), (33, 14, 1), (16, 16), (4, 7, 9, 2), (1, 64)])
def test_no_vector_crosses_the_border_of_a_concatenation(target: str, widths: tuple[int, ...]) -> None:
    """A vector with a condition for each lane is computed lane by lane."""
    shapes = [(1, 3, 5, width) for width in widths]
    body = build_module(shapes, lambda *parts: relax.op.concat(list(parts), axis=-1))
    mod, reports = lower(body, target)
    (func,) = [func for func in mod.functions.values() if isinstance(func, tirx.PrimFunc)]
    prover = Prover()
    prover.walk(func)
    assert [report.kind for report in reports] == ["data_movement"]
    assert prover.vectors > 0
    assert prover.in_vectors == []
    assert prover.unproven == []
