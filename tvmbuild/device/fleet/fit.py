"""Whether a board is what a target describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tvmbuild.codegen.runtime_libs import pinned_versions
from tvmbuild.support.errors import BoardMismatchError
from tvmbuild.target.cores import CORES
from tvmbuild.target.target import Target


def require_fit(fingerprint: Mapping[str, Any], target: Target, board: str) -> None:
    """Raise when a board is not what a target describes. What the board does not tell is not compared.

    Raises:
        BoardMismatchError: another architecture, another core, or another version of the runtime.
    """
    machine = fingerprint.get("machine", target.arch)
    core = str(fingerprint.get("core", ""))
    differs = {target.cpu, core} <= CORES.keys() and core != target.cpu
    if machine != target.arch or differs:
        raise BoardMismatchError(
            f"The board {board} is {core or machine} ({machine}), but {target.name} is {target.cpu} ({target.arch}).",
            "Give the target of that board (tvmbuild targets), or another key (tvmbuild device list).",
        )
    wanted, _ = pinned_versions()
    runtime = fingerprint.get("tvm", wanted)
    if runtime != wanted:
        raise BoardMismatchError(
            f"The board {board} runs apache-tvm {runtime}, but libraries are built for {wanted}.",
            f"Provision it again (tvmbuild device provision), or pip install apache-tvm=={wanted} there.",
        )
