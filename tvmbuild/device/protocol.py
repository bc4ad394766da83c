"""What every device can do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

#: Longest that a run may take, in seconds, unless the caller says otherwise.
DEFAULT_TIMEOUT = 600.0


@dataclass(frozen=True)
class DeviceInfo:
    """What a device is.

    Attributes:
        kind: "local", "emulated" or "rpc".
        description: one line for people ("emulated Cortex-A72 (qemu-aarch64 7.2.22)").
        cpu: name of the core that runs the code.
        timed: whether its times say anything about a board; an emulator's do not.
    """

    kind: str
    description: str
    cpu: str
    timed: bool


@dataclass(frozen=True)
class RunRequest:
    """What to run and how.

    Attributes:
        library: the linked ``.so``.
        inputs: in the model's order.
        repeat: number of timed runs, at least 1.
        warmup: number of runs before them.
        threads: threads that a kernel may use; None leaves it to the runtime.
        timeout: limit for everything, in seconds.
        markers: mark the timed runs for an emulator's plugin; a board has nothing that reads the marks. Tasks of
            parallel loops then run one after the other.
        cold: empty the modelled caches before the timed runs.
    """

    library: Path
    inputs: Sequence[np.ndarray[Any, Any]]
    repeat: int = 1
    warmup: int = 0
    threads: int | None = None
    timeout: float = DEFAULT_TIMEOUT
    markers: bool = False
    cold: bool = False


@dataclass(frozen=True)
class RunResult:
    """What a model returned, and what running it took.

    Attributes:
        outputs: in the model's order; C-contiguous.
        seconds: duration of each timed run.
        peak_bytes: largest resident set of the process; on an emulated board it includes the emulator's own memory.
    """

    outputs: tuple[NDArray[Any], ...]
    seconds: tuple[float, ...]
    peak_bytes: int


class Device(Protocol):
    """A place to run compiled models."""

    @property
    def name(self) -> str:
        """Short name ("emulated")."""

    def describe(self) -> DeviceInfo:
        """Return what the device is."""

    def run(self, request: RunRequest) -> RunResult:
        """Run a model.

        Raises:
            InputDataError: the inputs do not fit the model.
            IncompatibleLibraryError: the library is missing, damaged or for another machine.
            DeviceError: the run failed, crashed or took too long.
        """
