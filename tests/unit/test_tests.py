"""What the tests themselves keep to."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest
from seeded import rng

TESTS = Path(__file__).resolve().parent.parent


def generators(source: str) -> list[str]:
    """Return the names that a module gives to random generators: their numbers depend on which tests ran before."""
    return [
        ast.unparse(target)
        for statement in ast.parse(source).body
        if isinstance(statement, ast.Assign | ast.AnnAssign) and isinstance(statement.value, ast.Call)
        for target in (statement.targets if isinstance(statement, ast.Assign) else [statement.target])
        if ast.unparse(statement.value.func).split(".")[-1] in ("default_rng", "RandomState", "Random", "Generator")
    ]


def test_no_module_shares_a_generator_between_tests() -> None:
    found = {path.name: generators(path.read_text(encoding="utf-8")) for path in sorted(TESTS.rglob("*.py"))}
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    ("source", "names"),
    [
        ("rng = np.random.default_rng(3)", ["rng"]),
        ("rng: np.random.Generator = default_rng()", ["rng"]),
        ("dice = random.Random(1)", ["dice"]),
        ("X = np.random.default_rng(0).normal(size=3)", []),
        ("def normal():\n    rng = np.random.default_rng(0)", []),
    ],
)
def test_a_shared_generator_is_found(source: str, names: list[str]) -> None:
    assert generators(source) == names


@pytest.mark.parametrize("turn", [1, 2])
def test_each_test_has_the_same_numbers(turn: int) -> None:
    np.testing.assert_array_equal(rng().integers(100, size=5), np.random.default_rng(3).integers(100, size=5))
