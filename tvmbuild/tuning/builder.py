"""Compiles candidates in worker processes that live as long as the run."""

from __future__ import annotations

import multiprocessing
import queue
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tvmbuild.schedules.knob import Choice
from tvmbuild.target import Target
from tvmbuild.toolchain import Toolchain
from tvmbuild.tuning.task import Variant
from tvmbuild.tuning.trial import Failure
from tvmbuild.tuning.worker import BuildJob, work

#: Longest that one candidate may compile, in seconds.
COMPILE_SECONDS = 60.0
#: Longest that a worker may take to import TVM on top of that.
_START_SECONDS = 60.0


@dataclass
class _Worker:
    process: BaseProcess
    connection: Connection
    is_fresh: bool = True


class Builder:
    """A pool of compiling processes; ``build`` may be called from as many threads as there are workers.

    A candidate that crashes or hangs its worker costs that candidate alone: the worker is replaced.
    """

    def __init__(
        self,
        target: Target,
        toolchain: Toolchain,
        workers: int,
        *,
        seconds: float = COMPILE_SECONDS,
        entry: Callable[..., None] = work,
    ) -> None:
        """Start the workers.

        Args:
            target: what to compile for.
            toolchain: what links for it.
            workers: number of processes.
            seconds: limit for one candidate.
            entry: what a worker runs.
        """
        self._arguments = (target, toolchain)
        self._seconds = seconds
        self._entry = entry
        # A forked child would share TVM's threads and locks.
        self._context = multiprocessing.get_context("spawn")
        self._folder = tempfile.TemporaryDirectory(prefix="tvmbuild-tune-")
        self._sources: dict[str, Path] = {}
        self._lock = threading.Lock()
        self._number = 0
        self._idle: queue.Queue[_Worker] = queue.Queue()
        self.workers = workers
        for _ in range(workers):
            self._idle.put(self._start())

    def build(self, variant: Variant, choice: Choice) -> Path | Failure:
        """Return the library of one choice, or why there is none."""
        job = BuildJob(variant.workload, self._source(variant), dict(choice), self._next_path())
        worker = self._idle.get()
        try:
            message = self._ask(worker, job)
        except (EOFError, OSError):
            worker = self._replace(worker)
            return Failure("compile", "the compiling process crashed")
        except TimeoutError:
            worker = self._replace(worker)
            return Failure("compile", f"compiling took over {self._seconds:.0f} s")
        finally:
            self._idle.put(worker)
        return Failure("compile", message) if message else job.output

    def close(self) -> None:
        """End the workers and delete the libraries."""
        while not self._idle.empty():
            self._stop(self._idle.get())
        self._folder.cleanup()

    def __enter__(self) -> Builder:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close it."""
        self.close()

    def _ask(self, worker: _Worker, job: BuildJob) -> str:
        worker.connection.send(job)
        limit = self._seconds + (_START_SECONDS if worker.is_fresh else 0.0)
        if not worker.connection.poll(limit):
            raise TimeoutError
        message: str = worker.connection.recv()
        worker.is_fresh = False
        return message

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=self._entry, args=(theirs, *self._arguments), daemon=True)
        process.start()
        theirs.close()
        return _Worker(process, ours)

    def _replace(self, worker: _Worker) -> _Worker:
        self._stop(worker)
        return self._start()

    @staticmethod
    def _stop(worker: _Worker) -> None:
        worker.connection.close()
        worker.process.kill()
        worker.process.join()

    def _source(self, variant: Variant) -> Path:
        import tvm

        with self._lock:
            if variant.workload not in self._sources:
                path = Path(self._folder.name) / f"{variant.workload}.json"
                path.write_text(_json(tvm, variant.func), encoding="utf-8")
                self._sources[variant.workload] = path
            return self._sources[variant.workload]

    def _next_path(self) -> Path:
        with self._lock:
            self._number += 1
            return Path(self._folder.name) / f"candidate-{self._number}.so"


def _json(tvm: Any, func: Any) -> str:
    return str(tvm.ir.save_json(func))
