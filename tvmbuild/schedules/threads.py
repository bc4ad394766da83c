"""When work is worth the thread pool.

Waking TVM's pool and joining it again costs some 5 to 10 us on a Pi's core, about 10 000 cycles; a cheap element-wise
operation takes about one cycle an element (load, a few operations and store on vectors of four). Below two times the
cost of the pool a kernel stays on its core, and no thread is given less than one such share.
"""

from __future__ import annotations

from tvmbuild.target.target import Target

#: Cycles of work that justify one more thread.
GRAIN = 16_384


def thread_count(cycles: float, target: Target) -> int:
    """Return how many threads a kernel of so many cycles (on one core) should use, at least 1."""
    return max(1, min(target.cores, int(cycles // GRAIN)))
