"""Keep TVM's warnings, which its C++ writes to the process's standard error, from the screen.

They speak of TVM's own code ("Fast mode segfaults when there are out-of-bounds indices") to people who cannot change
it. TVM has no switch for them.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

#: "[15:52:39] /project/include/tvm/topi/transform.h:1261: Warning: ...", as TVM's logging.h writes it.
_WARNING = re.compile(rb"\[\d\d:\d\d:\d\d\] [^ ]+\.(?:cc|h):\d+: Warning: ")
_STDERR = 2
#: Seconds to wait for the last lines; a child that was started meanwhile may keep the pipe open.
_PATIENCE = 1.0


@contextmanager
def without_warnings() -> Iterator[None]:
    """Drop TVM's warnings while the block runs; all else that it writes to standard error comes through.

    The block should call TVM, which releases Python's lock, and start no program. Code generation is no such block:
    LLVM may end the process, and its last words have to reach the screen.
    """
    sys.stderr.flush()
    screen = os.dup(_STDERR)
    reading, writing = os.pipe()
    os.dup2(writing, _STDERR)
    os.close(writing)
    reader = threading.Thread(target=_pass_on, args=(reading, screen), daemon=True)
    reader.start()
    try:
        with _python_on(screen):
            yield
    finally:
        # The pipe's last writer is gone with this, and the reader ends.
        os.dup2(screen, _STDERR)
        reader.join(_PATIENCE)


def _pass_on(reading: int, screen: int) -> None:
    with open(reading, "rb") as lines, open(screen, "wb", buffering=0) as output:
        for line in lines:
            if not _WARNING.match(line):
                output.write(line)


@contextmanager
def _python_on(screen: int) -> Iterator[None]:
    """Let Python's own lines and bars, which are parts of lines, go to the screen at once."""
    try:
        goes_there = sys.stderr.fileno() == _STDERR
    except (OSError, ValueError, AttributeError, io.UnsupportedOperation):
        goes_there = False
    if not goes_there:
        yield
        return
    stream = os.fdopen(os.dup(screen), "w", buffering=1, encoding=sys.stderr.encoding, errors="backslashreplace")
    with stream, contextlib.redirect_stderr(stream):
        yield
