"""Compiles candidates in worker processes that live as long as the run."""

from __future__ import annotations

import multiprocessing
import queue
import signal
import tempfile
import threading
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from tvmbuild.codegen.toolchain import Toolchain
from tvmbuild.records.trial import Failure
from tvmbuild.schedules.knob import Choice
from tvmbuild.target.target import Target
from tvmbuild.tuning.task import Variant
from tvmbuild.tuning.worker import STOPS, BuildJob, work

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
        self._all: list[_Worker] = []
        self._closed = False
        self.workers = workers
        try:
            for _ in range(workers):
                self._idle.put(self._start())
        except BaseException:
            self.close()
            raise

    def build(self, variant: Variant, choice: Choice) -> Path | Failure:
        """Return the library of one choice, or why there is none."""
        job = BuildJob(variant.workload, self._source(variant), dict(choice), self._next_path())
        failure = self._built(job)
        if failure is not None and failure.cause == "crash":
            # Who stopped the worker (no memory was left, somebody ended it) may not have meant the candidate.
            failure = self._built(job)
        if failure is None:
            return job.output
        return Failure("compile", failure.message) if failure.cause == "crash" else failure

    def _built(self, job: BuildJob) -> Failure | None:
        worker = self._idle.get()
        try:
            return self._ask(worker, job)
        # Before OSError, which it is one of.
        except TimeoutError:
            worker = self._replace(worker)
            return Failure("compile", f"compiling took over {self._seconds:.0f} s")
        except (EOFError, OSError):
            worker = self._replace(worker)
            return Failure("crash", "the compiling process crashed")
        finally:
            self._idle.put(worker)

    def close(self) -> None:
        """End the workers, those that compile too, and delete the libraries."""
        with self._lock:
            self._closed = True
            workers = list(self._all)
        for worker in workers:
            self._stop(worker)
        self._folder.cleanup()

    def __enter__(self) -> Builder:
        """Return itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close it."""
        self.close()

    def _ask(self, worker: _Worker, job: BuildJob) -> Failure | None:
        worker.connection.send(job)
        limit = self._seconds + (_START_SECONDS if worker.is_fresh else 0.0)
        if not worker.connection.poll(limit):
            raise TimeoutError
        failure: Failure | None = worker.connection.recv()
        worker.is_fresh = False
        return failure

    def _start(self) -> _Worker:
        ours, theirs = self._context.Pipe()
        process = self._context.Process(target=self._entry, args=(theirs, *self._arguments), daemon=True)
        # Its start would let blocked signals through.
        resource_tracker.ensure_running()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, STOPS)
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        theirs.close()
        worker = _Worker(process, ours)
        self._all.append(worker)
        return worker

    def _replace(self, worker: _Worker) -> _Worker:
        with self._lock:
            if self._closed:
                return worker
            self._all.remove(worker)
            self._stop(worker)
            worker.connection.close()
            return self._start()

    @staticmethod
    def _stop(worker: _Worker) -> None:
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
