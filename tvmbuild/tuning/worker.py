"""The process that compiles candidates: it imports TVM once and then takes one job after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.records.trial import Failure
from tvmbuild.support.errors import OutputError, TvmbuildError
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class BuildJob:
    """What to compile.

    Attributes:
        workload: hash of the PrimFunc, by which a worker keeps what it has read.
        source: file with the PrimFunc as TVM's JSON.
        choice: values of the knobs.
        output: the ``.so`` to write.
    """

    workload: str
    source: Path
    choice: Mapping[str, int]
    output: Path


#: What a terminal or a supervisor sends to all processes of a group.
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def leave_group() -> None:
    """Leave the group of the process that tunes, which decides what a signal to the group means.

    A linker that is told to stop would fail a candidate that is good. The owner starts this process with those signals
    blocked; what came meanwhile is forgotten.
    """
    os.setsid()
    for number in STOPS:
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOPS)


def work(connection: Connection, target: Target, toolchain: Toolchain) -> None:
    """Answer each job with None or a failure, until the other end closes."""
    leave_group()
    os.environ["TVM_NUM_THREADS"] = "1"
    import tvm

    from tvmbuild.tuning.candidate import compile_candidate

    sources: dict[str, str] = {}
    while True:
        try:
            job: BuildJob = connection.recv()
        except (EOFError, OSError):
            return
        try:
            if job.workload not in sources:
                sources[job.workload] = job.source.read_text(encoding="utf-8")
            # Each candidate gets a function of its own: a TVM schedule changes it in place.
            compile_candidate(tvm.ir.load_json(sources[job.workload]), target, job.choice, job.output, toolchain)
            failure = None
        except (OutputError, OSError, MemoryError) as error:
            # It is this machine that failed: the disk is full, say.
            failure = Failure("lost", getattr(error, "message", "") or str(error))
        except TvmbuildError as error:
            failure = Failure("compile", error.message)
        except Exception as error:  # TVM raises errors of any class; the candidate is lost, the worker is not.
            failure = Failure("compile", f"{type(error).__name__}: {str(error).strip()[-600:]}")
        try:
            connection.send(failure)
        except OSError:
            return
