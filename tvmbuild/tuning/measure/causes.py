"""Sorts what a device says of a failed run into the causes of a trial."""

from __future__ import annotations

from tvmbuild.support.errors import DeviceError


def cause_of(error: DeviceError) -> str:
    """Return the cause for a device's error: what the device noted itself, else by its words."""
    noted = error.details.get("cause")
    if noted:
        return str(noted)
    return "time-out" if "did not finish" in error.message else "crash"
