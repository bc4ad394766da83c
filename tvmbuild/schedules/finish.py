"""What is done to a PrimFunc after its schedule: rewrites that schedule primitives cannot express."""

from __future__ import annotations

from typing import Any

from tvmbuild.schedules.gemm.partial_sums import sum_in_parts
from tvmbuild.schedules.int8.multiply import multiply
from tvmbuild.schedules.int8.requantize import narrow_codes
from tvmbuild.schedules.int8.taps import add_taps
from tvmbuild.schedules.tir.border import guard_updates, peel
from tvmbuild.schedules.tir.fast_math import expand
from tvmbuild.schedules.tir.flat_views import flatten_views
from tvmbuild.schedules.tir.nan_order import keep_nan
from tvmbuild.schedules.tir.vector_calls import name_intrinsics
from tvmbuild.schedules.tir.vector_loops import cut_vectors
from tvmbuild.schedules.tir.vector_reduction import cut_reductions
from tvmbuild.target.target import Target


def finish(func: Any, target: Target) -> Any:
    """Return a scheduled PrimFunc for a board.

    Deep sums are cut into parts, borders peeled, views flat, vectors without masks, functions expanded, bounds
    keep NaN, and rounding is by name.
    """
    bordered = add_taps(multiply(peel(guard_updates(sum_in_parts(func)))))
    looped = cut_vectors(cut_reductions(flatten_views(bordered)))
    return name_intrinsics(expand(keep_nan(narrow_codes(looped, target), target)))
