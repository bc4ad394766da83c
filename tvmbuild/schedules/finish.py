"""What is done to a PrimFunc after its schedule: rewrites that schedule primitives cannot express."""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.access import flatten_views
from tvmbuild.schedules.fast_math import expand
from tvmbuild.schedules.vector_loops import cut_vectors


def finish(func: Any) -> Any:
    """Return a scheduled PrimFunc with flat views, marked loops cut into vectors and functions expanded."""
    return expand(cut_vectors(flatten_views(func)))
