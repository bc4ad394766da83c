"""Boards as records see them: what a time depends on besides the code."""

from __future__ import annotations

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tvmbuild.records.values import as_flag, as_object, as_text, needed
from tvmbuild.support.versions import llvm_version, package_versions
from tvmbuild.target.cores import Core
from tvmbuild.target.target import Target


@dataclass(frozen=True)
class BoardIdentity:
    """What was measured on.

    Attributes:
        core: LLVM's name of the core ("cortex-a72").
        predicted: whether figures are predicted and not measured.
        about: one line for people.
        facts: what else a time depends on: revision, clock, kernel, versions of TVM and LLVM.
    """

    core: str
    predicted: bool
    about: str
    facts: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name of the folder of its records: the core, and a digest of all that is known of the board."""
        text = json.dumps([self.core, self.predicted, sorted(self.facts.items())])
        digest = hashlib.sha256(text.encode()).hexdigest()[:8]
        return f"{'predicted' if self.predicted else 'measured'}-{self.core}-{digest}"

    def to_json(self) -> dict[str, Any]:
        """Return what ``board.json`` holds."""
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, Any]) -> BoardIdentity:
        """Read ``board.json``.

        Raises:
            ValueError: it is not one.
        """
        core, about = (as_text(needed(values, name), name) for name in ("core", "about"))
        facts = as_object(needed(values, "facts"), "facts")
        return BoardIdentity(
            core,
            as_flag(needed(values, "predicted"), "predicted"),
            about,
            {name: as_text(value, "facts") for name, value in facts.items()},
        )


def predicted_board(target: Target, core: Core, mca_version: str) -> BoardIdentity:
    """Return the board that prediction stands for."""
    costs = core.costs
    facts = {
        "llvm-mca": mca_version,
        "model": core.scheduling_model,
        "mhz": str(target.max_mhz),
        "threads": "1",
        # What one thread is charged: figures of other costs do not compare.
        "costs": f"{costs.compute_factor:g} computing, {costs.pairwise_add:g} sadalp, {costs.l2_line:g} L2 line, "
        f"{costs.l3_line:g} L3 line, {costs.memory_line:g} memory line",
        **_versions(),
    }
    return BoardIdentity(
        target.cpu, True, f"{core.name}, predicted with llvm-mca {mca_version} at {target.max_mhz} MHz", facts
    )


def local_board(target: Target) -> BoardIdentity:
    """Return this machine."""
    about = _cpu_name() or platform.machine()
    facts = {
        "revision": about,
        "cores": str(target.cores),
        "kernel": platform.release(),
        "clock": _governor(),
        **_versions(),
    }
    return BoardIdentity(target.cpu, False, f"{about}, {target.cores} cores, Linux {platform.release()}", facts)


def _versions() -> dict[str, str]:
    return {"tvm": package_versions()["apache-tvm"], "llvm": llvm_version()}


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def _governor() -> str:
    try:
        return Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").read_text(encoding="utf-8").strip()
    except OSError:
        return "unknown"
