"""Fixtures of tests that compile, link and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.zoo import fetch, load_catalogue

TOP = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in Path(item.path).parts:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """Return the folder with the real models and pictures; fetched once (`make models`), then kept."""
    fetch(TOP / "build", load_catalogue())
    return TOP / "build"
