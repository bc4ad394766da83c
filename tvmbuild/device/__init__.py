"""Places to run a compiled model: this machine, an emulated board, a real one."""

from __future__ import annotations

from tvmbuild.device.emulated import EmulatedDevice
from tvmbuild.device.local import LocalDevice
from tvmbuild.device.protocol import Device, DeviceInfo, RunResult
from tvmbuild.device.rpc import open_rpc_device
from tvmbuild.support.errors import OptionError
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.target.target import Target

__all__ = ["KINDS", "Device", "DeviceInfo", "RunResult", "open_device"]

KINDS = ("auto", "local", "emulated", "rpc")


def open_device(kind: str, target: Target, *, tracker: str = "", key: str = "") -> Device:
    """Return a device that runs code for a target.

    Args:
        kind: "local", "emulated", "rpc", or "auto": local if this machine runs the target's code, else emulated.
        target: what the code is for.
        tracker: "HOST:PORT" of the tracker, for "rpc".
        key: what to ask the tracker for; "" for the target's name.

    Raises:
        OptionError: there is no such kind, or "rpc" has no tracker.
        DeviceError: this machine cannot run the target's code, or the target is not emulated.
        TrackerError, BoardKeyError, BoardMismatchError: the tracker has no board for the target.
        ToolchainError: the emulator, or the compiler of the runner, is missing.
    """
    if kind not in KINDS:
        raise OptionError(f"There is no device '{kind}'.", did_you_mean(kind, KINDS))
    if kind == "auto":
        is_only_local = target.is_native and not target.qemu_cpu
        kind = "local" if is_only_local or not target.misfit else "emulated"
    if kind == "local":
        return LocalDevice(target)
    if kind == "emulated":
        return EmulatedDevice(target)
    return open_rpc_device(target, tracker, key)
