"""Run unit tests on a copy of the checkout, each time in a fresh process that need not import the large packages again.

The judge imports TVM, ONNX Runtime and their like once and then forks for each request, a line of JSON on its standard
input; nothing of tvmbuild is imported before the fork. Its answer is a line of JSON:

- {"record": [files]} runs each file in a process of its own and says which lines each test ran, and for how long;
- {"tests": [names], "seconds": limit} runs the tests in this order until one fails and says whether all passed.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: What takes long to import and is not ours.
PRELOADED = (
    "numpy",
    "onnx",
    "onnxruntime",
    "tvm",
    "tvm.relax",
    "tvm.relax.frontend.onnx",
    "hypothesis",
    "xgboost",
    "typer",
)
OPTIONS = ("-q", "-x", "-p", "no:cacheprovider", "-p", "no:xdist")
#: A test that waits burns no processor: after so many times its limit, in seconds of the clock, it is ended too.
WALL = 10


def main() -> int:
    """Answer requests until the standard input ends."""
    for name in PRELOADED:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        if "record" in request:
            answer: Any = {file: recorded(file) for file in request["record"]}
        else:
            answer = judged(request["tests"], request["seconds"])
        print(json.dumps(answer), file=answers, flush=True)
    return 0


def recorded(file: str) -> dict[str, Any]:
    """Run one file of tests without a mutant; return what ``Recorder`` found, or the output of what failed."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"

        def run() -> int:
            from devtools.mutants.recorder import Recorder

            # There is no mutant yet, so what pytest makes of the tests may be kept.
            sys.dont_write_bytecode = False
            return tests([file], Recorder(found))

        passed, output = forked(run, 600)
        return dict(json.loads(found.read_text())) if passed else {"failed": output}


def judged(names: list[str], seconds: float) -> dict[str, Any]:
    """Run tests in their order; a mutant makes one of them fail, or take more seconds of the processor than allowed."""

    def run() -> int:
        from devtools.mutants.recorder import Chosen

        return tests(sorted({name.partition("::")[0] for name in names}), Chosen(names))

    passed, output = forked(run, seconds)
    return {"passed": passed, "output": output[-4000:]}


def tests(files: list[str], plugin: object) -> int:
    """Run pytest in this process and return its exit code."""
    import pytest

    return int(pytest.main([*OPTIONS, f"--basetemp={tempfile.mkdtemp()}", *files], plugins=[plugin]))


def forked(run: Callable[[], int], seconds: float) -> tuple[bool, str]:
    """Run a function in a fork with its own session and folder; return whether it returned 0, and what it printed."""
    folder = tempfile.mkdtemp(prefix="tvmbuild-judge-")
    output = Path(folder) / "output"
    child = os.fork()
    if child == 0:
        code = 70
        try:
            os.setsid()
            os.environ["TMPDIR"] = tempfile.tempdir = folder
            written = os.open(output, os.O_WRONLY | os.O_CREAT, 0o600)
            os.dup2(written, 1)
            os.dup2(written, 2)
            resource.setrlimit(resource.RLIMIT_CPU, (int(seconds) + 1, int(seconds) + 2))
            code = run()
        finally:
            # Neither the judge's handlers at exit nor its buffers are the child's.
            os._exit(code)
    end, status = time.monotonic() + WALL * seconds, 1
    while (waited := os.waitpid(child, os.WNOHANG))[0] == 0:
        if time.monotonic() > end:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.02)
    status = waited[1]
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    text = output.read_text(encoding="utf-8", errors="replace") if output.exists() else ""
    shutil.rmtree(folder, ignore_errors=True)
    return status == 0, text


if __name__ == "__main__":
    sys.exit(main())
