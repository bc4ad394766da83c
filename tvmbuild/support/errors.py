"""Every error that a user can meet, its exit code and its hint.

An error says what failed and why in its message and what to do next in its hint. Commands catch ``TvmbuildError`` in
one place, print both and exit with the class's code; any other exception is a bug in tvmbuild.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class TvmbuildError(Exception):
    """Base of all expected errors; never raised itself."""

    exit_code = 1
    #: One line for the table of exit codes in the README.
    meaning = "a bug in tvmbuild"

    def __init__(self, message: str, hint: str = "", details: Mapping[str, Any] | None = None) -> None:
        """Store the message (what failed and why), the hint (what to do next) and details for ``--json``."""
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = dict(details or {})


class OptionError(TvmbuildError):
    """A flag, an environment variable or a project file has a value that cannot be used."""

    exit_code = 2
    meaning = "an option or argument is wrong"


class ModelError(TvmbuildError):
    """The model cannot be read, or is not a valid ONNX model."""

    exit_code = 3
    meaning = "the model is missing, damaged, invalid or unsafe"


class ShapeError(TvmbuildError):
    """An input shape is missing or does not fit the model."""

    exit_code = 4
    meaning = "an input shape is missing or does not fit"


class UnsupportedOperatorError(TvmbuildError):
    """The model has operators that cannot be compiled."""

    exit_code = 5
    meaning = "the model uses unsupported operators"


class PreparationError(TvmbuildError):
    """The prepared or imported model does not compute what the original does."""

    exit_code = 6
    meaning = "preparing the model would change what it computes"


class TargetError(TvmbuildError):
    """The target is unknown or its description is wrong."""

    exit_code = 7
    meaning = "the target is unknown or its file is wrong"


class ToolchainError(TvmbuildError):
    """A program that is needed to link or to emulate is missing."""

    exit_code = 8
    meaning = "a toolchain or emulator is missing"


class CompileError(TvmbuildError):
    """TVM or the linker refused the prepared model."""

    exit_code = 9
    meaning = "compiling or linking failed"


class IncompatibleLibraryError(TvmbuildError):
    """The linked library would not load on the target (wrong architecture or too new a glibc)."""

    exit_code = 10
    meaning = "the library does not fit the target"


class OutputError(TvmbuildError):
    """The output folder or file cannot be written."""

    exit_code = 11
    meaning = "an output cannot be written"


class ArtifactError(TvmbuildError):
    """An artifact is missing, damaged or not one of ours."""

    exit_code = 12
    meaning = "an artifact is missing, damaged or foreign"


class InputDataError(TvmbuildError):
    """Sample inputs cannot be read or do not fit the model."""

    exit_code = 13
    meaning = "sample inputs cannot be read or do not fit"


class DeviceError(TvmbuildError):
    """A device cannot be reached, or the run on it failed."""

    exit_code = 14
    meaning = "a device cannot be reached or failed"


class VerificationError(TvmbuildError):
    """An artifact's outputs differ from the reference by more than the tolerance."""

    exit_code = 15
    meaning = "an artifact's outputs differ from the reference"


class FetchError(TvmbuildError):
    """A pinned file could not be downloaded or has the wrong checksum."""

    exit_code = 16
    meaning = "a download failed or has the wrong checksum"


class CheckFailedError(TvmbuildError):
    """`doctor` found something that has to be mended."""

    exit_code = 17
    meaning = "doctor or device check found a problem"


class TrackerError(DeviceError):
    """The tracker does not answer, or what answers is no tracker."""

    exit_code = 30
    meaning = "the tracker does not answer"


class BoardKeyError(DeviceError):
    """The tracker knows no board of the key."""

    exit_code = 31
    meaning = "the tracker knows no board of that key"


class BoardBusyError(DeviceError):
    """All boards of the key are in use."""

    exit_code = 32
    meaning = "no board of that key became free in time"


class BoardMismatchError(DeviceError):
    """The board has another core or another runtime than the target needs."""

    exit_code = 33
    meaning = "the board has another core or runtime version than the target"


class MeasureError(DeviceError):
    """A run on a board behind a tracker failed; ``cause`` is one of ``CAUSES``, ``board`` its "host:port" or ""."""

    exit_code = 34
    meaning = "a run on a board behind a tracker failed"
    #: "upload": the library did not get there; "load": the board refuses it; "time-out"; "crash": the process died;
    #: "lost": the connection broke; "wrong": the call itself failed.
    CAUSES = ("upload", "load", "time-out", "crash", "lost", "wrong")

    def __init__(self, cause: str, message: str, hint: str = "", board: str = "") -> None:
        """Store the cause and the board beside message and hint."""
        super().__init__(message, hint, {"cause": cause, "board": board})
        self.cause = cause
        self.board = board


class ProvisionError(DeviceError):
    """A board could not be set up over SSH."""

    exit_code = 35
    meaning = "a board could not be set up over SSH"


class RecordsError(TvmbuildError):
    """Tuning records are damaged, of another board, or ambiguous."""

    exit_code = 18
    meaning = "tuning records cannot be used"


class TuningError(TvmbuildError):
    """Tuning cannot go on: the first candidates all failed, or nothing can be tuned."""

    exit_code = 19
    meaning = "tuning cannot go on"


class CalibrationError(TvmbuildError):
    """Calibration samples cannot be read or used, or a calibration table does not fit the model."""

    exit_code = 22
    meaning = "calibration samples or a calibration table cannot be used"


class SlowKernelError(TvmbuildError):
    """A kernel that multiplies has no fast schedule, and the build was to refuse that."""

    exit_code = 24
    meaning = "a kernel that multiplies has no fast schedule (--strict)"


class AccuracyError(TvmbuildError):
    """The quantized model misses the accuracy that was asked for, even with every layer left in float."""

    exit_code = 23
    meaning = "a quantized model misses the accuracy asked for"


class LimitError(TvmbuildError):
    """Reading or preparing a model would take more nodes, bytes or seconds than are allowed."""

    exit_code = 25
    meaning = "a model would take more nodes, bytes or seconds than `--limit` allows"


#: Exit code after Ctrl-C, as shells have it (128 + SIGINT).
INTERRUPTED = 130
