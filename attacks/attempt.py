"""One attempt: a command of tvmbuild in a process of its own, with a limit of time and memory; and what came of it."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

#: No small input may make a command take longer, in seconds, or more memory, in bytes.
SECONDS = 60.0
MEMORY = 4 << 30
#: Beyond this the process gets no memory, so that no attempt takes the machine down.
_MOST_MEMORY = 8 << 30
#: tvmbuild's own exit code for a bug in it.
_BUG = 1
_RAW = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


@dataclass(frozen=True)
class Attempt:
    """What came of an attempt.

    Attributes:
        code: exit code; the negative number of the signal that ended it.
        said: stdout and stderr, as they came.
        hung: whether it had to be killed.
        peak: largest resident memory, in bytes.
    """

    code: int
    said: str
    hung: bool = False
    peak: int = 0

    def fault(self) -> str:
        """Return what no input may make a command do, in a few words; "" where it behaved."""
        words = " ".join(self.said.split())[-200:]
        if self.hung:
            return "did not end in time"
        if self.code < 0:
            return f"died of signal {-self.code}: {words}"
        if "Traceback (most recent call last)" in self.said:
            return f"showed a traceback: {words}"
        if self.code == _BUG and "this is a bug in tvmbuild" in self.said:
            return f"called itself a bug: {words}"
        if _RAW.search(self.said):
            return f"sent control characters to the terminal: {words!r}"
        if self.peak > MEMORY:
            return f"took {self.peak / 1e9:.1f} GB"
        return ""


def command(arguments: Sequence[str], folder: Path, *, seconds: float = SECONDS, own_cache: bool = False) -> Attempt:
    """Run a command of tvmbuild in a fork of this process, which has imported all that it needs.

    Args:
        arguments: behind "tvmbuild".
        folder: to run in; its temporary files lie there too.
        seconds: after which it is killed with all that it started.
        own_cache: whether its cache lies in the folder too; the user's has the board's programs, compiled.
    """
    with tempfile.TemporaryFile() as said:
        child = os.fork()
        if child == 0:
            _run(arguments, folder, said.fileno(), own_cache)
        descriptor = os.pidfd_open(child)
        ended, _, _ = select.select([descriptor], [], [], seconds)
        os.close(descriptor)
        kill_group(child)
        _, status, used = os.wait4(child, 0)
        said.seek(0)
        text = said.read(1 << 20).decode(errors="replace")
    return Attempt(os.waitstatus_to_exitcode(status), text, not ended, used.ru_maxrss << 10)


def warm_up(arguments: Sequence[str]) -> None:
    """Run a command here, so that what it imports is there in all forks; what it says and returns is nobody's."""
    from tvmbuild.commands.app import run

    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
    ):
        run(list(arguments))


def _run(arguments: Sequence[str], folder: Path, said: int, own_cache: bool) -> None:
    """Be the child; never return."""
    code = _BUG
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_DATA, (_MOST_MEMORY, _MOST_MEMORY))
        os.chdir(folder)
        for stream in (1, 2):
            os.dup2(said, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        temporary = folder / "tmp"
        temporary.mkdir(exist_ok=True)
        tempfile.tempdir = str(temporary)
        os.environ.update(
            {"TMPDIR": str(temporary), **({"XDG_CACHE_HOME": str(folder / "cache")} if own_cache else {})}
        )
        sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")

        from tvmbuild.commands.app import run

        code = run(list(arguments))
        if sys.stdout is not None:
            sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(code & 0xFF)


def program(
    words: Sequence[str | Path], folder: Path, *, seconds: float = SECONDS, environment: Mapping[str, str] | None = None
) -> Attempt:
    """Run a program, as ``command`` does."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            list(map(str, words)),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
        try:
            process.wait(seconds)
            hung = False
        except subprocess.TimeoutExpired:
            hung = True
        kill_group(process.pid)
        process.wait()
        said.seek(0)
        return Attempt(process.returncode, said.read(1 << 20).decode(errors="replace"), hung)


def kill_group(leader: int) -> None:
    """Kill a process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)
