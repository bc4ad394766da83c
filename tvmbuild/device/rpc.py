"""A real board behind a tracker, as a device."""

from __future__ import annotations

from tvmbuild.codegen.elf import check_compatible, neighbours
from tvmbuild.device.fleet.address import parse_address
from tvmbuild.device.fleet.boards import BoardQueue, RemoteBoard
from tvmbuild.device.protocol import Device, DeviceInfo, RunRequest, RunResult
from tvmbuild.support.errors import InputDataError, MeasureError, OptionError
from tvmbuild.target.target import Target


class RpcDevice:
    """Runs models on any free board of a key."""

    name = "rpc"

    def __init__(self, queue: BoardQueue) -> None:
        """Ask the tracker for the boards.

        Raises:
            TrackerError, BoardKeyError, BoardMismatchError: as ``BoardQueue.check``.
        """
        queue.check()
        self._queue = queue

    def describe(self) -> DeviceInfo:
        """Return what the device is."""
        return RemoteBoard(self._queue).describe()

    def run(self, request: RunRequest) -> RunResult:
        """Run a model; see ``Device.run``. Its peak memory is 0 when the board's server does not tell it."""
        check_compatible(request.library, self._queue.target)
        with self._queue.lease(request.timeout) as session:
            for neighbour in neighbours(request.library):
                session.send(neighbour, neighbour.name)
            model = session.load(request.library, request.threads)
            try:
                outputs = model.fetch(model.run(request.inputs, 1 + request.warmup))
            except MeasureError as error:
                if error.cause != "wrong":
                    raise
                raise InputDataError(
                    f"The inputs do not fit the model: {error.message}", "Compare them with: tvmbuild inspect."
                ) from error
            return RunResult(outputs, model.time_model(request.repeat), session.peak_bytes())


def open_rpc_device(target: Target, tracker: str, key: str) -> Device:
    """Return the boards of a key as one device.

    Args:
        target: what the code is for.
        tracker: "HOST:PORT".
        key: what the boards were registered as; "" for the target's name.

    Raises:
        OptionError: no tracker is given, or its address is none.
        TrackerError, BoardKeyError, BoardMismatchError: as ``BoardQueue.check``.
    """
    if not tracker:
        raise OptionError(
            "A board behind a tracker needs the tracker's address.",
            "Give --tracker HOST:PORT or set TVMBUILD_TRACKER; 'tvmbuild tracker' starts one.",
        )
    return RpcDevice(BoardQueue(parse_address(tracker), key or target.name, target))
