"""Look a board over: does it take libraries, compute right, keep its pace, and what would spoil its measurements?"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tvmbuild.device.fleet.address import parse_address
from tvmbuild.device.fleet.boards import BoardQueue
from tvmbuild.support.errors import BoardMismatchError
from tvmbuild.support.progress import stage
from tvmbuild.target.target import Target

if TYPE_CHECKING:
    from tvmbuild.device.fleet.session import BoardSession

_SESSION_SECONDS = 120.0
_UPLOAD_BYTES = 4_000_000
#: Side of the square matrices that are multiplied, and how that is timed.
_SIDE, _REPEAT, _LEAST_MS = 128, 15, 30
#: Products of 128 numbers summed in fp32 in another order.
_TOLERANCE = 1e-4
#: Limits beyond which something is said.
_NOISE, _HOT_C, _FREE_BYTES, _LOAD = 0.05, 75.0, 200_000_000, 0.5


@dataclass(frozen=True)
class Finding:
    """One thing found: ``level`` is "ok", "note" or "problem"; ``fix`` is empty when there is nothing to do."""

    level: str
    text: str
    fix: str = ""


@dataclass(frozen=True)
class BoardCheck:
    """What was found on one board."""

    board: str
    findings: tuple[Finding, ...]
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    health: Mapping[str, Any] = field(default_factory=dict)
    seconds: tuple[float, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether no problem was found."""
        return all(finding.level != "problem" for finding in self.findings)


def check_board(tracker: str, key: str, target: Target, patience: float = 10.0) -> BoardCheck:
    """Check one free board of a key.

    Args:
        tracker: "HOST:PORT".
        key: what boards were registered as.
        target: what the board should be.
        patience: seconds to wait for a free board.

    Raises:
        OptionError: the address is none.
        TrackerError, BoardKeyError, BoardBusyError: there is no board to check.
        MeasureError: the board took no library, or computed nothing.
    """
    queue = BoardQueue(parse_address(tracker), key, target, patience)
    try:
        with stage("build a test library"), tempfile.TemporaryDirectory(prefix="tvmbuild-check-") as name:
            library = _library(target, Path(name))
            with stage("run it on the board"), queue.lease(_SESSION_SECONDS) as session:
                return _examine(session, library)
    except BoardMismatchError as error:
        return BoardCheck("", (Finding("problem", error.message, error.hint),))


def _examine(session: BoardSession, library: Path) -> BoardCheck:
    fingerprint, before = session.fingerprint(), session.health()
    findings = [_upload(session)]
    generator = np.random.default_rng(0)
    inputs = [generator.standard_normal((_SIDE, _SIDE)).astype("float32") for _ in range(2)]
    loaded = session.load(library)
    outputs = loaded.run(inputs)
    difference = float(np.abs(loaded.fetch(outputs)[0] - inputs[0] @ inputs[1]).max())
    if difference < _TOLERANCE * _SIDE:
        findings.append(Finding("ok", "computes a matrix product right"))
    else:
        findings.append(
            Finding("problem", f"a matrix product is off by {difference:.1e}", "Test its memory and power.")
        )
    arguments = [*(session.tensor(array) for array in inputs), *outputs]
    seconds = loaded.time_function("kernel", arguments, repeat=_REPEAT, number=1, min_repeat_ms=_LEAST_MS)
    after = session.health()
    findings += [_noise(seconds, fingerprint), *_state(before, after, fingerprint), _port(session.board)]
    return BoardCheck(session.board, tuple(findings), fingerprint, after, seconds)


def _upload(session: BoardSession) -> Finding:
    start = time.monotonic()
    session.tensor(np.zeros(_UPLOAD_BYTES, "uint8"))
    rate = _UPLOAD_BYTES / (time.monotonic() - start) / 1e6
    fix = "Use a cable rather than wireless: candidates wait for their upload." if rate < 2 else ""
    return Finding("note" if fix else "ok", f"takes uploads at {rate:.0f} MB/s", fix)


def _noise(seconds: tuple[float, ...], fingerprint: Mapping[str, Any]) -> Finding:
    median = statistics.median(seconds)
    deciles = statistics.quantiles(seconds, n=10)
    spread = (deciles[-1] - deciles[0]) / median
    text = f"{median * 1e6:.0f} us a run, eight of ten runs within {spread:.1%}"
    if fingerprint.get("emulated"):
        return Finding("note", f"{text}; it is emulated: its times mean nothing")
    if spread > _NOISE:
        return Finding(
            "problem", f"{text}: too noisy to tell schedules apart", "End other programs on the board; cool it."
        )
    return Finding("ok", text)


def _state(before: Mapping[str, Any], after: Mapping[str, Any], fingerprint: Mapping[str, Any]) -> Iterator[Finding]:
    if not after:
        yield Finding(
            "note",
            "runs TVM's own server: core, clock, temperature and throttling are not known",
            "Run the native server to see them: tvmbuild device provision, or device serve.",
        )
        return
    governor = after.get("governor", "performance")
    if governor != "performance":
        fix = "echo performance | sudo tee /sys/devices/system/cpu/cpu*/cpufreq/scaling_governor"
        yield Finding("problem", f"the clock changes with the load (governor {governor})", fix)
    for word in sorted({*before.get("throttled", ()), *after.get("throttled", ())}):
        fix = _power_fix(word)
        yield Finding("note" if word.endswith(" before") else "problem", f"the firmware reports: {word}", fix)
    temperature = after.get("temperature_c", 0.0)
    if temperature > _HOT_C:
        yield Finding("problem", f"{temperature:.0f} degrees C: it slows down at 80", "Give it a fan or a heat sink.")
    if after.get("free_bytes", _FREE_BYTES) < _FREE_BYTES:
        free = after["free_bytes"] / 1e6
        yield Finding("problem", f"{free:.0f} MB free for libraries", "Free some space, or set TMPDIR for the server.")
    if before.get("load", 0.0) > _LOAD * fingerprint.get("cores", 1) and not fingerprint.get("emulated"):
        yield Finding("note", f"other programs run there (load {before['load']})", "End them while you measure.")


def _power_fix(word: str) -> str:
    if "voltage" in word:
        return "Use the board's own power supply and a short cable."
    return "Cool the board; check its power supply."


def _port(board: str) -> Finding:
    if parse_address(board).is_loopback:
        return Finding("ok", f"its port {board} is open to this machine alone (or through a tunnel)")
    return Finding(
        "note",
        f"its port {board} is open to the network: whoever reaches it runs any code on the board, without a password",
        "Use a network of its own, or an SSH tunnel: tvmbuild device provision.",
    )


def _library(target: Target, folder: Path) -> Path:
    """Return a library whose ``main`` calls ``kernel``, the product of two matrices."""
    import tvm
    from tvm import relax, te

    from tvmbuild.codegen.link import export_objects, link_library
    from tvmbuild.codegen.toolchain import find_toolchain

    a, b = (te.placeholder((_SIDE, _SIDE), name=name) for name in "ab")
    k = te.reduce_axis((0, _SIDE), name="k")
    product = te.compute((_SIDE, _SIDE), lambda i, j: te.sum(a[i, k] * b[k, j], axis=k))
    kernel = te.create_prim_func([a, b, product]).with_attr("global_symbol", "kernel")
    builder = relax.BlockBuilder()
    tensor = relax.TensorType((_SIDE, _SIDE), "float32")
    variables = [relax.Var(name, tensor) for name in "ab"]
    with builder.function("main", variables):
        function = builder.add_func(kernel, "kernel")
        with builder.dataflow():
            result = builder.emit_output(relax.call_tir(function, variables, out_ty=tensor))
        builder.emit_func_output(result)
    objects = export_objects(tvm.compile(builder.get(), target.to_tvm()), folder)
    library = folder / "check.so"
    link_library(objects, library, target, find_toolchain(target))
    return library
