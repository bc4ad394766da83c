"""Random numbers of a test: the same whichever tests ran before it, or beside it."""

from __future__ import annotations

import numpy as np

_SEED = 3
_current = [np.random.default_rng(_SEED)]


def restart() -> None:
    """Begin the numbers of another test; ``conftest.py`` calls it before each."""
    _current[0] = np.random.default_rng(_SEED)


def rng() -> np.random.Generator:
    """Return the generator of the test that runs."""
    return _current[0]


def fresh() -> np.random.Generator:
    """Return a generator that takes no numbers from the test that runs."""
    return np.random.default_rng(_SEED + 1)
