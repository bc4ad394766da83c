"""Ctrl-C and SIGTERM: an exception where Python runs, an end at once where it does not come back.

A call into TVM takes up to a minute, and Python looks at signals only when it returns. A thread that the interpreter
wakes on each signal gives the main thread a moment to unwind, and else ends the process: every file is written aside
first, so a process may end anywhere.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tvmbuild.commands.console import Console, emit_error
from tvmbuild.support.atomic import aside
from tvmbuild.support.errors import INTERRUPTED

#: Seconds that the main thread has to notice a signal.
PATIENCE = 0.7
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stop:
    """Turns SIGINT and SIGTERM into an exception, and remembers them."""

    def __init__(self, *, as_json: bool = False) -> None:
        """Start with nothing heard; ``as_json`` says whether the end is told in JSON too."""
        self.code = 0
        self._as_json = as_json
        self._heard = -math.inf

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Handle both signals while the block runs; it must run in the main thread."""
        reading, writing = os.pipe()
        os.set_blocking(writing, False)
        before = {number: signal.signal(number, self._stop) for number in _SIGNALS}
        woken = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
        watcher = threading.Thread(target=self._watch, args=(reading,), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            # The watcher reads the end of the pipe.
            os.close(writing)
            if self.code:
                _say(self.code, self._as_json)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        self._heard = time.monotonic()
        self.code = 128 + number
        raise KeyboardInterrupt

    def _watch(self, reading: int) -> None:
        """End the process when a signal came and the main thread does not run its handler."""
        with open(reading, "rb", buffering=0) as pipe:
            while numbers := pipe.read(1):
                if numbers[0] in _SIGNALS and not self._is_heard():
                    _end(128 + numbers[0], self._as_json)

    def _is_heard(self) -> bool:
        """Wait a moment for the handler; it runs once for signals that come together."""
        arrived = time.monotonic()
        while self._heard < arrived - PATIENCE:
            if time.monotonic() > arrived + PATIENCE:
                return False
            time.sleep(PATIENCE / 20)
        return True


def _end(code: int, as_json: bool) -> None:
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty():
            # Bars hide the cursor.
            sys.stderr.write("\r\033[K\033[?25h")
        _say(code, as_json)
        sys.stdout.flush()
    aside.remove_own()
    os._exit(code)


def _say(code: int, as_json: bool) -> None:
    word = "Interrupted" if code == INTERRUPTED else "Terminated"
    if as_json:
        emit_error("Interrupted", f"{word}.", "", code)
    Console.say(f"\n{word}. Finished files are whole; nothing is half-written.")


def _forget() -> None:
    """Keep a signal to a forked child from waking the parent, with whom it shares the pipe."""
    with contextlib.suppress(ValueError):
        signal.set_wakeup_fd(-1)


os.register_at_fork(after_in_child=_forget)
