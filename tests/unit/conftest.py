"""What holds for every unit test of a kind."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from seeded import fresh


@pytest.fixture(autouse=True)
def _passes_keep_numbers(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have NumPy compute each module that a test of the graph gives to a pass, before and after it."""
    if not request.node.path.name.startswith("test_graph_"):
        return
    from tests.relax_numpy import Unknown, outputs
    from tvmbuild.graph import counted
    from tvmbuild.graph.rewriter import dtype_of, shape_of

    rewrite = counted.rewrite

    def checked(mod: Any, rule: Any) -> Any:
        after = rewrite(mod, rule)
        generator = fresh()
        inputs = [drawn(generator, shape_of(param), dtype_of(param)) for param in mod["main"].params]
        try:
            expected, actual = outputs(mod, inputs), outputs(after, inputs)
        except Unknown:
            return after
        for one, other in zip(expected, actual, strict=True):
            assert one.shape == other.shape
            np.testing.assert_allclose(other, one, rtol=1e-4, atol=1e-5 * max(1.0, _largest(one)))
        return after

    monkeypatch.setattr(counted, "rewrite", checked)


def _largest(values: Any) -> float:
    return float(np.max(np.abs(values[np.isfinite(values)]), initial=0.0)) if values.dtype.kind == "f" else 0.0


def drawn(generator: np.random.Generator, shape: tuple[int, ...], dtype: str) -> Any:
    if dtype.startswith("float"):
        return generator.normal(0.5, 2.0, shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
