"""A real board behind a tracker: not there yet."""

from __future__ import annotations

from tvmbuild.device.protocol import Device
from tvmbuild.errors import DeviceError
from tvmbuild.target import Target


def open_rpc_device(target: Target) -> Device:
    """Refuse, and say what to use meanwhile.

    Raises:
        DeviceError: always.
    """
    raise DeviceError(
        f"A {target.name} behind an RPC tracker cannot be used yet: it comes with tuning.",
        "Use --on emulated; or copy the .so and the runner to the board and run it there (tvmbuild-runner --help).",
    )
