"""Start the runner, hand it inputs, take its outputs, and say in plain words what went wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tvmbuild.codegen.elf import check_compatible
from tvmbuild.device.protocol import RunRequest, RunResult
from tvmbuild.support.arrays import read_npy
from tvmbuild.support.border import Border, Bytes, NotNegative
from tvmbuild.support.errors import DeviceError, IncompatibleLibraryError, InputDataError, OutputError, TvmbuildError
from tvmbuild.target.target import Target

#: Exit codes of the runner, the same numbers as in native/common/failure.h, and the errors that they become.
_EXIT_CODES: dict[int, type[TvmbuildError]] = {
    2: DeviceError,
    3: IncompatibleLibraryError,
    4: InputDataError,
    5: DeviceError,
    6: OutputError,
    7: DeviceError,
}
_HINTS = {
    2: "Report this as a bug of tvmbuild.",
    3: "Build the library again.",
    4: "Compare the inputs with the model's: tvmbuild inspect.",
    5: "Run tvmbuild verify --bisect to find the layer, and report it.",
    6: "Free some space for temporary files, or point TMPDIR elsewhere.",
    7: "Take another port, or end what has it.",
}
#: What signals mean here.
_MEANINGS: dict[int, str] = {
    signal.SIGSEGV: "the model reached outside its memory",
    signal.SIGABRT: "the runtime gave up",
    signal.SIGKILL: "it was killed, perhaps for lack of memory",
    signal.SIGBUS: "the model reached outside its memory",
    signal.SIGFPE: "an integer was divided by zero",
}
_MESSAGE_LIMIT = 600


def run_with(
    launcher: Sequence[str],
    request: RunRequest,
    target: Target,
    environment: Mapping[str, str] | None = None,
    *,
    core: str = "",
) -> RunResult:
    """Run a model with the runner.

    Args:
        launcher: the command up to and including the runner.
        request: what to run.
        target: what the library is for.
        environment: variables to set for the launcher.
        core: what runs it, for errors; "" for the target's own.

    Raises:
        As ``Device.run``.
    """
    check_compatible(request.library, target)
    with tempfile.TemporaryDirectory(prefix="tvmbuild-run-") as name:
        folder = Path(name)
        command = [*launcher, str(request.library.absolute()), "--json", "--output-dir", str(folder)]
        for path in _save_inputs(request.inputs, folder):
            command += ["--input", str(path)]
        command += ["--repeat", str(request.repeat), "--warmup", str(request.warmup)]
        if request.threads is not None:
            command += ["--threads", str(request.threads)]
        if request.markers:
            command.append("--markers")
        if request.cold:
            command.append("--cold")
        report = _parse(_run(command, folder, request.timeout, target, environment or {}, core))
        outputs = tuple(_output(folder / f"output_{index}.npy") for index in range(len(report.outputs)))
    return RunResult(outputs, report.seconds, report.peak_bytes)


def _output(path: Path) -> np.ndarray[Any, Any]:
    try:
        # A copy: the file goes with its folder.
        return np.array(read_npy(path))
    except InputDataError as error:
        raise DeviceError(f"The runner's output is damaged: {error.message}", _HINTS[2]) from error


def _save_inputs(inputs: Sequence[np.ndarray[Any, Any]], folder: Path) -> list[Path]:
    paths = []
    for index, array in enumerate(inputs):
        if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
            raise InputDataError(
                f"Input {index} has the type {array.dtype}; a model takes numbers and booleans.", "Convert it first."
            )
        plain = np.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
        path = folder / f"input_{index}.npy"
        try:
            np.save(path, plain, allow_pickle=False)
        except OSError as error:
            raise OutputError(f"{path} cannot be written: {error.strerror or error}.", _HINTS[6]) from error
        paths.append(path)
    return paths


def _run(
    command: Sequence[str], folder: Path, timeout: float, target: Target, environment: Mapping[str, str], core: str
) -> str:
    # Libraries and emulator settings preferred on this machine are none of the model's business.
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("LD_", "QEMU_"))}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            timeout=timeout,
            check=False,
            env={**inherited, **environment},
            # A crash may leave a core file in the working folder.
            cwd=folder,
        )
    except subprocess.TimeoutExpired as error:
        raise DeviceError(
            f"The run did not finish within {timeout:.0f} seconds.",
            "Allow more with --timeout, or use a smaller input.",
        ) from error
    except OSError as error:
        raise DeviceError(f"{command[0]} cannot be started: {error.strerror}.", "Run tvmbuild doctor.") from error
    if done.returncode != 0:
        raise explain_exit(done.returncode, done.stderr.decode("utf-8", "replace"), target, core)
    return done.stdout.decode("utf-8", "replace")


@dataclass(frozen=True)
class _Report:
    """What the runner says in its last line."""

    outputs: tuple[Any, ...]
    seconds: tuple[NotNegative, ...]
    peak_bytes: Bytes


_BORDER = Border("The report of", DeviceError, _HINTS[2])


def _parse(text: str) -> _Report:
    last = text.splitlines()[-1:]
    if not last:
        raise DeviceError("The runner ended without its report.", _HINTS[2])
    return _BORDER.checked(_BORDER.parse_json(last[0], "the runner"), _Report, "the runner", closed=False)


def explain_exit(code: int, stderr: str, target: Target, core: str = "") -> TvmbuildError:
    """Return the error for a runner that failed.

    Args:
        code: as in ``subprocess``: negative for a signal.
        stderr: what the runner and the emulator wrote.
        target: what the library is for.
        core: what ran it; "" for the target's own.
    """
    # The emulator repeats which signal it was.
    lines = [line for line in stderr.splitlines() if line and not line.startswith("qemu: uncaught target signal")]
    said = next((line for line in lines if line.startswith("tvmbuild-runner: ")), lines[-1] if lines else "")
    said = said.removeprefix("tvmbuild-runner: ")[:_MESSAGE_LIMIT].rstrip(".")
    # Under a shell or a static emulator a signal arrives as 128 + its number.
    number = -code if code < 0 else code - 128 if code > 128 else 0
    if number:
        return _explain_signal(number, said, target, core or target.qemu_cpu or target.cpu)
    if "unable to find CPU model" in stderr:
        return DeviceError(
            f"This QEMU does not know the core {target.qemu_cpu}.",
            "Install QEMU 7.2 or newer (qemu-user of Debian 12).",
        )
    kind = _EXIT_CODES.get(code, DeviceError)
    message = f"{said[:1].upper()}{said[1:]}." if said else f"The runner exited with {code}."
    return kind(message, _HINTS.get(code, "Run tvmbuild doctor."))


def _explain_signal(number: int, said: str, target: Target, core: str) -> TvmbuildError:
    if number == signal.SIGILL:
        return DeviceError(
            f"The library uses an instruction that {core} does not have.",
            f"Build it for this board: -t {target.name}.",
        )
    # Not every number has a name.
    name = next((known.name for known in signal.Signals if known == number), f"signal {number}")
    detail = ": ".join(part for part in (_MEANINGS.get(number, ""), said) if part)
    return DeviceError(
        f"The run crashed with {name}{f' ({detail})' if detail else ''}.",
        "Run tvmbuild verify --bisect to find the layer, and report it.",
    )
