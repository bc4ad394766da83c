"""What holds for every unit test of a kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from seeded import fresh

#: Twice the scale of the codes in tests of quantized graphs.
_STEP = 0.125


@pytest.fixture(autouse=True)
def _passes_keep_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have NumPy compute each module that a test gives to a pass, before and after; what it gives is well formed."""
    if not request.node.path.name.startswith("test_graph_"):
        return
    from tvm import relax

    from tvmbuild.graph import counted, fuse
    from tvmbuild.graph.integers import quantize

    rewrite, to_integers, fused = counted.rewrite, quantize.quantize_graph, fuse.fuse

    def checked(mod: Any, rule: Any) -> Any:
        after = rewrite(mod, rule)
        relax.analysis.well_formed(after)
        _compare(mod, after, rounds=False)
        return after

    def checked_integers(mod: Any, *more: Any) -> Any:
        after, *told = to_integers(mod, *more)
        relax.analysis.well_formed(after)
        _compare(mod, after, rounds=True)
        return after, *told

    def checked_fusion(mod: Any) -> Any:
        after, *told = fused(mod)
        relax.analysis.well_formed(after)
        _compare(mod, after, rounds=False)
        return after, *told

    monkeypatch.setattr(counted, "rewrite", checked)
    monkeypatch.setattr("tvmbuild.graph.pipeline.fuse", checked_fusion)
    monkeypatch.setattr("tvmbuild.graph.pipeline.quantize_graph", checked_integers)


def _compare(before: Any, after: Any, *, rounds: bool) -> None:
    """Compare two modules on random inputs; where one rounds in another place, a code in thirty may be the next one."""
    from relax_numpy import Unknown, outputs

    from tvmbuild.graph.rewriter import dtype_of, shape_of

    generator = fresh()
    inputs = [drawn(generator, shape_of(param), dtype_of(param)) for param in before["main"].params]
    try:
        expected, actual = outputs(before, inputs), outputs(after, inputs)
    except Unknown:
        return
    for one, other in zip(expected, actual, strict=True):
        assert one.shape == other.shape
        absolute = 1e-5 * max(1.0, _largest(one))
        if not rounds:
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=absolute)
            continue
        apart = np.abs(other.astype(np.float64) - one)
        assert np.mean(apart > absolute + 1e-4 * np.abs(one)) <= 1 / 30
        assert np.max(apart, initial=0.0) <= _STEP


def _largest(values: Any) -> float:
    return float(np.max(np.abs(values[np.isfinite(values)]), initial=0.0)) if values.dtype.kind == "f" else 0.0


def drawn(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    if dtype.startswith("float"):
        return generator.normal(0.5, 2.0, shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
