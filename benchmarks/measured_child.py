"""Runs a command and prints what it took, as JSON: ``python -S measured_child.py COMMAND...``.

A process of its own: the kernel counts the memory of the parent at the fork towards the child's peak, so the parent has
to be small.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time


def main() -> int:
    """Run the command; its output goes to stderr."""
    started = time.monotonic()
    done = subprocess.run(sys.argv[1:], stdout=sys.stderr, check=False)
    seconds = time.monotonic() - started
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    # The largest process among the command and those it started; Linux counts in KiB.
    figures = {
        "seconds": seconds,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_bytes": usage.ru_maxrss * 1024,
    }
    json.dump(figures, sys.stdout)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
