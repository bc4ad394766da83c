"""What models of cache traffic assume of a core's caches; what stays in them is each schedule's own model."""

from __future__ import annotations

from tvmbuild.target.target import Target

#: Share of a cache that may be counted on.
CACHE_SHARE = 0.7

#: Cost of a line from memory, in lines from the second level cache.
MEMORY_COST = 3


def usable_bytes(target: Target) -> tuple[float, float]:
    """Return the bytes of the first and the second level cache that may be counted on."""
    return target.l1d_kib * 1024 * CACHE_SHARE, target.l2_kib * 1024 * CACHE_SHARE
