"""Checks of the installation, each with the line that mends it."""

from __future__ import annotations

import platform
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata

from packaging.requirements import Requirement

from tvmbuild.codegen.toolchain import find_toolchain
from tvmbuild.device import open_device
from tvmbuild.support.cache import cache_root
from tvmbuild.support.errors import CheckFailedError, TvmbuildError
from tvmbuild.support.place import BESIDE
from tvmbuild.target.target import Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OK, MISSING, WARNING = "ok", "MISSING", "warning"
#: Why a version matters, shown when it is not the pinned one.
REASONS = {
    "apache-tvm-ffi": "0.1.15 crashes apache-tvm 0.27 in every MetaSchedule TuneContext",
    "apache-tvm": "the graph passes and schedules are written for this version's IR",
}
#: Free space below which a build may fail, in bytes: scratch objects of a large model and the cached runtime.
FREE_BYTES = 2 * 10**9


@dataclass(frozen=True)
class Check:
    """One thing looked at: its state ("ok", "MISSING", "warning"), what was found, and how to mend it."""

    name: str
    state: str
    found: str
    fix: str = ""


def run_checks(target: Target) -> list[Check]:
    """Look at everything that building for ``target`` and running it needs; nothing is changed or downloaded."""
    return [_python(), *_packages(), _tvm(target), _toolchain(target), _device(target), _cache()]


def require_healthy(checks: Sequence[Check]) -> None:
    """Raise when something that is needed is missing.

    Raises:
        CheckFailedError: names what is missing.
    """
    missing = [check for check in checks if check.state == MISSING]
    if missing:
        raise CheckFailedError(
            f"Missing: {', '.join(check.name for check in missing)}.",
            " ".join(check.fix for check in missing[:1]),
            {"checks": [asdict(check) for check in checks]},
        )


def _python() -> Check:
    version = platform.python_version()
    return Check("Python", OK, version)
    return Check("Python", MISSING, version, "Install Python 3.10 or newer.")


def _requirements() -> list[Requirement]:
    """Return what is required here, from the installed metadata or the checkout."""
    try:
        lines = metadata.requires("tvmbuild") or []
    except metadata.PackageNotFoundError:
        project = BESIDE / "pyproject.toml"
        lines = tomllib.loads(project.read_text(encoding="utf-8"))["project"]["dependencies"]
    # Extras are not installed by default.
    return [each for each in map(Requirement, lines) if each.marker is None or each.marker.evaluate({"extra": ""})]


def _packages() -> list[Check]:
    checks = []
    for wanted in _requirements():
        fix = f"pip install '{wanted.name}{wanted.specifier}'"
        try:
            found = metadata.version(wanted.name)
        except metadata.PackageNotFoundError:
            checks.append(Check(wanted.name, MISSING, "not installed", fix))
            continue
        if wanted.specifier.contains(found, prereleases=True):
            checks.append(Check(wanted.name, OK, found))
        else:
            reason = REASONS.get(wanted.name, "tvmbuild is not tested with this version")
            state = MISSING if wanted.name in REASONS else WARNING
            checks.append(Check(wanted.name, state, f"{found}, not {wanted.specifier}: {reason}", fix))
    return checks


def _tvm(target: Target) -> Check:
    try:
        target.to_tvm()
    except Exception as error:  # Whatever a broken installation raises is the finding here.
        return Check("TVM", MISSING, f"cannot make code for {target.cpu}: {error}", "make setup")
    from tvmbuild.support.versions import llvm_version

    return Check("TVM", OK, f"LLVM {llvm_version()}, makes code for {target.cpu}")


def _toolchain(target: Target) -> Check:
    try:
        toolchain = find_toolchain(target, None)
    except TvmbuildError as error:
        return Check("toolchain", MISSING, error.message, error.hint)
    return Check("toolchain", OK, f"{toolchain.name} {toolchain.version}")


def _device(target: Target) -> Check:
    try:
        info = open_device("auto", target).describe()
    except TvmbuildError as error:
        return Check("device", MISSING, error.message, error.hint)
    return Check("device", OK, info.description)


def _cache() -> Check:
    folder = cache_root()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free < FREE_BYTES:
        return Check("disk", WARNING, f"{free // 10**6} MB free at {existing}", "Free some space.")
    return Check("disk", OK, f"{free // 10**9} GB free at {folder}")
