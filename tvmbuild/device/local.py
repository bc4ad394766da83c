"""This machine as a device."""

from __future__ import annotations

from tvmbuild.device.protocol import DeviceInfo, RunRequest, RunResult
from tvmbuild.device.runner import run_with
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.support.errors import DeviceError
from tvmbuild.target.target import Target, host_core


class LocalDevice:
    """Runs models in a process of their own on this machine."""

    name = "local"

    def __init__(self, target: Target) -> None:
        """Prepare the runner.

        Raises:
            DeviceError: this machine cannot run code for ``target``.
        """
        if target.misfit:
            raise DeviceError(
                f"This machine cannot run code for {target.name} ({target.cpu}): {target.misfit}.",
                "Use --on emulated instead." if target.qemu_cpu else "Build it for this machine: -t host.",
            )
        self._target = target
        self._runner = runner_folder(target) / RUNNER_NAME

    def describe(self) -> DeviceInfo:
        """Return what the device is."""
        core = host_core()
        other = "" if self._target.is_this_core else f", with a library for {self._target.cpu}"
        return DeviceInfo("local", f"this machine ({core}{other})", core, timed=True)

    def run(self, request: RunRequest) -> RunResult:
        """Run a model; see ``Device.run``."""
        return run_with([str(self._runner)], request, self._target, core="this machine")
