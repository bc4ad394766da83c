"""Plugins of pytest: which lines each test runs, and the tests of one mutant alone."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import coverage
import pytest


class Recorder:
    """Writes the lines of ``tvmbuild`` that each test of a file runs, and the seconds of the processor that it takes.

    What fixtures run before a test is said of the file as a whole, under the name of the file: a fixture of larger
    scope serves the tests after it as well. What importing the file runs is said under "".
    """

    def __init__(self, found: Path) -> None:
        """Start recording; ``found`` is the JSON file to write at the end."""
        self._found, self._seconds = found, dict[str, float]()
        self._coverage = coverage.Coverage(data_file=None, config_file=False, source=["tvmbuild"])
        self._coverage.start()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> Generator[None, None, None]:
        """Say of the file what fixtures run."""
        self._coverage.switch_context(item.nodeid.partition("::")[0])
        yield

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, None, None]:
        """Say of the test what it runs itself."""
        started = time.process_time()
        self._coverage.switch_context(item.nodeid)
        yield
        self._seconds[item.nodeid] = time.process_time() - started

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_teardown(self, item: pytest.Item) -> Generator[None, None, None]:
        """Say of the file what fixtures run at the end."""
        self._coverage.switch_context(item.nodeid.partition("::")[0])
        yield

    def pytest_sessionfinish(self) -> None:
        """Write what was found."""
        self._coverage.stop()
        data = self._coverage.get_data()
        top = Path.cwd()
        lines = {str(Path(file).relative_to(top)): data.contexts_by_lineno(file) for file in data.measured_files()}
        files = [Path(file) for module in list(sys.modules.values()) if (file := getattr(module, "__file__", None))]
        places = (top / "tvmbuild", top / "tests")
        ran = [str(path.relative_to(top)) for path in files if any(map(path.is_relative_to, places))]
        found = {"seconds": self._seconds, "lines": lines, "ran": ran}
        self._found.write_text(json.dumps(found), encoding="utf-8")


class Chosen:
    """Runs the tests of a list in its order and no others."""

    def __init__(self, names: list[str]) -> None:
        """Take the tests' names, as pytest gives them."""
        self._rank = {name: rank for rank, name in enumerate(names)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[Any]) -> None:
        """Sort and choose."""
        items[:] = sorted(
            (item for item in items if item.nodeid in self._rank), key=lambda item: self._rank[item.nodeid]
        )
