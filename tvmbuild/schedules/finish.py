"""What is done to a PrimFunc after its schedule: rewrites that schedule primitives cannot express."""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.access import flatten_views
from tvmbuild.schedules.border import guard_updates, peel
from tvmbuild.schedules.fast_math import expand
from tvmbuild.schedules.nan_order import put_bounds_first
from tvmbuild.schedules.partial_sums import sum_in_parts
from tvmbuild.schedules.vector_loops import cut_vectors
from tvmbuild.schedules.vector_reduction import cut_reductions


def finish(func: Any) -> Any:
    """Return a scheduled PrimFunc with deep sums in parts, borders peeled, whole vectors and functions expanded.

    Constant bounds of ``max`` and ``min`` come first, for NaN.
    """
    bordered = peel(guard_updates(sum_in_parts(func)))
    looped = cut_vectors(cut_reductions(flatten_views(bordered)))
    return expand(put_bounds_first(looped))
