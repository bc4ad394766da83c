"""An emulated board: the target's core in QEMU's user mode.

It checks numbers and instruction sets (``sdot`` on a Cortex-A72 is an illegal instruction there too); its times say
nothing about the board.
"""

from __future__ import annotations

from tvmbuild.device.emulator import find_emulator
from tvmbuild.device.protocol import DeviceInfo, RunRequest, RunResult
from tvmbuild.device.runner import run_with
from tvmbuild.device.runner_build import RUNNER_NAME, runner_folder
from tvmbuild.support.errors import DeviceError
from tvmbuild.target.target import Target


class EmulatedDevice:
    """Runs models on an emulated core."""

    name = "emulated"

    def __init__(self, target: Target) -> None:
        """Prepare the emulator and the runner.

        Raises:
            DeviceError: the target has no emulated core.
            ToolchainError: the emulator or the compiler of the runner is missing.
        """
        if not target.qemu_cpu or target.arch != "aarch64":
            raise DeviceError(
                f"{target.name} is not emulated: its target file names no qemu_cpu of an aarch64 core.",
                "Use --on local." if not target.misfit else "Set qemu_cpu in the target file (see targets/rpi4.toml).",
            )
        # QEMU's "max" has extensions that no board has; code that needs them would pass here and fail there.
        if target.qemu_cpu == "max":
            raise DeviceError(f"{target.name} asks for QEMU's core 'max', which no board has.", "Name a real core.")
        self._target = target
        self._emulator = find_emulator()
        self._runner = runner_folder(target) / RUNNER_NAME

    def describe(self) -> DeviceInfo:
        """Return what the device is."""
        cpu = self._target.qemu_cpu
        return DeviceInfo("emulated", f"emulated {cpu} ({self._emulator.version})", cpu, timed=False)

    def launcher(self, *options: str) -> list[str]:
        """Return the command that starts the runner, with more of QEMU's options (a plugin, say)."""
        emulator = self._emulator
        return [
            emulator.program,
            *options,
            "-cpu",
            self._target.qemu_cpu,
            "-L",
            str(emulator.sysroot),
            str(self._runner),
        ]

    def run(self, request: RunRequest) -> RunResult:
        """Run a model; see ``Device.run``."""
        return run_with(self.launcher(), request, self._target)
