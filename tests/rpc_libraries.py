"""Small libraries for boards behind a tracker: good ones, one that crashes, one that never ends."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tvm
from tvm import relax, te

from tvmbuild.codegen.link import export_objects, link_library
from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.target.target import Target

SIZE = 1000


def inputs() -> tuple[np.ndarray[Any, Any], ...]:
    return (np.linspace(-1, 1, SIZE, dtype="float32"), np.linspace(3, 4, SIZE, dtype="float32"))


def expected() -> np.ndarray[Any, Any]:
    a, b = inputs()
    return a * b + a


def make_library(folder: Path, target: Target, name: str = "good", constructor: str = "") -> Path:
    """Return a library whose ``main`` calls the exported ``kernel``: a * b + a. One named "plain" has no ``main``.

    Args:
        folder: where to write it.
        target: the board.
        name: of the file.
        constructor: C statements that run while it is loaded.
    """
    objects = folder / f"{target.name}-{name}"
    objects.mkdir()
    files = export_objects(tvm.compile(_kernel_module() if name == "plain" else _module(), target.to_tvm()), objects)
    if constructor:
        source, compiled = objects / "start.c", objects / "start.o"
        source.write_text(f"__attribute__((constructor)) static void start(void) {{ {constructor} }}\n")
        command = [*find_toolchain(target).cxx, "-xc", "-O1", "-fPIC", "-c", "-o", str(compiled), str(source)]
        subprocess.run(command, check=True, timeout=120)
        files.append(compiled)
    library = objects / f"{name}.so"
    link_library(files, library, target, find_toolchain(target))
    return library


def _kernel() -> Any:
    a, b = (te.placeholder((SIZE,), name=name) for name in "ab")
    primitive = te.create_prim_func([a, b, te.compute((SIZE,), lambda i: a[i] * b[i] + a[i])])
    return primitive.with_attr("global_symbol", "kernel")


def _kernel_module() -> Any:
    return tvm.IRModule({"kernel": _kernel()})


def _module() -> Any:
    builder = relax.BlockBuilder()
    tensor = relax.TensorType((SIZE,), "float32")
    variables = [relax.Var(name, tensor) for name in "ab"]
    with builder.function("main", variables):
        function = builder.add_func(_kernel(), "kernel")
        with builder.dataflow():
            result = builder.emit_output(relax.call_tir(function, variables, out_ty=tensor))
        builder.emit_func_output(result)
    return builder.get()


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        threading.Event().wait(0.1)
