"""Stand-ins for stages, which write down what they receive."""

from __future__ import annotations

import re
from typing import Any
from unittest.mock import MagicMock

import pytest

from tvmbuild.support.errors import OptionError


class Reached(OptionError):
    """The last stage of interest was called."""


class Stages:
    """Stands in for functions and writes down what they are called with."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self._monkeypatch = monkeypatch

    def replace(self, module: Any, name: str, result: Any = None, *, last: bool = False) -> None:
        """Replace a function by one that returns ``result``, a mock by default, or ends the run."""
        result = MagicMock(name=name) if result is None else result

        def stage(*arguments: Any, **options: Any) -> Any:
            # Mocks have numbers, and scratch folders names of their own.
            self.seen.append(re.sub(r" id='\d+'|tvmbuild-\w+/", "", f"{name}{arguments}{sorted(options.items())}"))
            if last:
                raise Reached(name)
            return result

        self._monkeypatch.setattr(module, name, stage)

    @property
    def names(self) -> set[str]:
        """The stages that were called."""
        return {call.partition("(")[0] for call in self.seen}

    def calls(self, name: str) -> list[str]:
        """Return the calls of one stage, in their order."""
        return [call for call in self.seen if call.startswith(f"{name}(")]
