"""The process that compiles candidates: it imports TVM once and then takes one job after the other."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from tvmbuild.errors import TvmbuildError
from tvmbuild.target import Target
from tvmbuild.toolchain import Toolchain


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


def work(connection: Connection, target: Target, toolchain: Toolchain) -> None:
    """Answer each job with "" or a message of what failed, until the other end closes."""
    # The terminal sends Ctrl-C to all processes; this one ends when its owner does.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
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
            message = ""
        except TvmbuildError as error:
            message = error.message
        except Exception as error:  # TVM raises errors of any class; the candidate is lost, the worker is not.
            message = f"{type(error).__name__}: {str(error).strip()[-600:]}"
        try:
            connection.send(message)
        except OSError:
            return
