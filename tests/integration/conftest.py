"""Fixtures of tests that compile, link and run."""

from __future__ import annotations

from pathlib import Path

import pytest

from devtools.zoo import fetch, load_catalogue
from tvmbuild.device.emulated import EmulatedDevice
from tvmbuild.predict.llvm import find_llvm
from tvmbuild.predict.plugin import plugin_for
from tvmbuild.support.errors import TvmbuildError
from tvmbuild.target.target import load_target

TOP = Path(__file__).parents[2]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "integration" in Path(item.path).parts:
            item.add_marker(pytest.mark.integration)


@pytest.fixture(scope="session")
def predictor() -> None:
    """Skip where a tool of the prediction is missing: llvm-mca, QEMU with plugins, a C compiler."""
    try:
        find_llvm()
        plugin_for(EmulatedDevice(load_target("rpi4")).launcher()[0])
    except TvmbuildError as error:
        pytest.skip(f"{error.message} {error.hint}")


@pytest.fixture(scope="session")
def model_folder() -> Path:
    """Return the folder with the real models and pictures; fetched once (`make models`), then kept."""
    fetch(TOP / "build", load_catalogue())
    return TOP / "build"
