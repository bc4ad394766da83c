"""Targets: boards as data. The only reader of ``targets/``."""

from __future__ import annotations

import dataclasses
import os
import platform
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from msgspec import Meta

from tvmbuild.support.border import Border, Count, FileName, Line, Positive, Word, WordOrNone, form, shown
from tvmbuild.support.errors import OptionError, TargetError
from tvmbuild.support.paths import missing
from tvmbuild.support.place import BESIDE, PACKAGE
from tvmbuild.support.precision import Precision
from tvmbuild.support.suggest import did_you_mean
from tvmbuild.support.weights import Weights
from tvmbuild.target.cores import CORES, DOT_PRODUCT, EXTENSIONS, Core, known_core, nearest_core

#: Values with which a target's file defers to the machine that builds.
NATIVE = "native"
#: Names of cores that mean any core of an architecture.
_ANY_CORE = ("generic", "x86-64", "x86-64-v2", "x86-64-v3", "x86-64-v4")
#: Linux's names (/proc/cpuinfo) of the extensions that LLVM calls otherwise, on aarch64.
_LINUX_NAMES = {
    "neon": "asimd",
    "dotprod": "asimddp",
    "fullfp16": "asimdhp",
    "lse": "atomics",
    "rdm": "asimdrdm",
    "rcpc": "lrcpc",
    "crc": "crc32",
}
#: "2.31"
Version = Annotated[str, form(r"^[0-9]{1,4}(\.[0-9]{1,4}){1,2}\Z", "a version such as 2.31")]
#: "aarch64-linux-gnu"
Triple = Annotated[str, form(r"^[a-z0-9_]{1,32}(-[a-z0-9_]{1,32}){1,3}\Z", "a GNU triple such as aarch64-linux-gnu")]


@dataclass(frozen=True)
class Target:
    """A board to build for.

    Attributes:
        name: the file's stem, used in artifact names.
        description: one line for people.
        triple: GNU triple of the code ("aarch64-linux-gnu").
        cpu: LLVM's name of the core ("cortex-a72").
        features: LLVM's names of the instruction set extensions that the code may use, without sign.
        cores: number of cores that inference may use.
        l1d_kib: first level data cache of one core, in KiB.
        l2_kib: second level cache, in KiB (shared or of one core).
        max_mhz: highest clock, to turn predicted cycles into time; 0 when unknown.
        glibc: oldest glibc that the library must load on ("2.31").
        toolchains: toolchains to link with, in order of preference ("gnu", "zig").
        qemu_cpu: QEMU's name of the core, or "" when the target is not emulated.
        l3_kib: third level cache that all cores share, in KiB; 0 where there is none or it is not known.
    """

    name: FileName
    description: Line
    triple: Triple
    cpu: Word
    features: tuple[Word, ...]
    cores: Positive
    l1d_kib: Positive
    l2_kib: Positive
    max_mhz: Count
    glibc: Version
    toolchains: Annotated[tuple[Word, ...], Meta(min_length=1)]
    qemu_cpu: WordOrNone
    # Manifests of before it was known do not say it.
    l3_kib: Count = 0

    @property
    def arch(self) -> str:
        """Machine name as in ``uname -m`` ("aarch64", "x86_64")."""
        return self.triple.split("-", 1)[0]

    @property
    def is_native(self) -> bool:
        """Whether this machine is of the code's architecture, so that its own compiler makes such code."""
        return self.arch == platform.machine()

    @property
    def misfit(self) -> str:
        """Why this machine cannot run the code, for people; "" when it can. What it does not tell is not compared."""
        if not self.is_native:
            return f"it is {platform.machine()}, and the code is {self.arch}"
        missing = missing_features(self.features)
        return f"it is a {host_core()} without {' and '.join(missing)}" if missing else ""

    @property
    def is_this_core(self) -> bool:
        """Whether this machine runs the code and is the very core, so that times taken here are the target's."""
        return not self.misfit and (self.cpu in _ANY_CORE or self.cpu == host_core())

    @property
    def vector_bits(self) -> int:
        """Width of a SIMD register, in bits."""
        if self.arch == "x86_64":
            return 512 if "avx512f" in self.features else 256 if "avx2" in self.features else 128
        return 128

    @property
    def vector_registers(self) -> int:
        """Number of SIMD registers."""
        return 16 if self.arch == "x86_64" and "avx512f" not in self.features else 32

    @property
    def core(self) -> Core:
        """What is known of its core, or of the known core that is nearest: ``stand_in`` says which and why."""
        return known_core(self.arch, self.cpu) or nearest_core(self.has(DOT_PRODUCT))

    @property
    def stand_in(self) -> str:
        """A sentence that says which core stands in for an unknown one, or "" where the core is known."""
        if known_core(self.arch, self.cpu) is not None:
            return ""
        likeness = "both have dot products of int8" if self.has(DOT_PRODUCT) else "both lack dot products of int8"
        nearest = f"{self.core.name}, the nearest one that is ({likeness})"
        return f"the core '{self.cpu}' is not in the table of cores: scheduled as {nearest}"

    def has(self, feature: str) -> bool:
        """Whether the code may use an instruction set extension."""
        return feature in self.features

    def has_arithmetic(self, precision: Precision) -> bool:
        """Whether the cores can compute in a precision."""
        return not precision.extension or self.has(precision.extension)

    @property
    def widens_halves(self) -> bool:
        """Whether the cores have an instruction that turns float16 into float32.

        ``fcvtl`` is part of every ARMv8-A (half-precision arithmetic is not), F16C of every x86 core with AVX2.
        """
        return self.arch == "aarch64" or self.vector_bits > 128

    def to_tvm(self) -> Any:
        """Return the ``tvm.target.Target``; imports tvm."""
        import tvm

        config: dict[str, Any] = {"kind": "llvm", "mtriple": self.triple, "mcpu": self.cpu, "num-cores": self.cores}
        if self.features and self.arch == "aarch64":
            config["mattr"] = [f"+{feature}" for feature in self.features]
        return tvm.target.Target(config)


def require_precision(target: Target, precision: Precision) -> None:
    """Check that a target can compute in a precision.

    Raises:
        OptionError: its cores lack the arithmetic.
    """
    if not target.has_arithmetic(precision):
        able = [name for name in known_targets() if load_target(name).has_arithmetic(precision)]
        raise OptionError(
            f"{precision} needs arithmetic that {target.name} ({target.cpu}) lacks: its features do not list "
            f"'{precision.extension}'.",
            f"Build for a target that has it ({', '.join(able)}), or in another precision.",
        )


def require_widening(target: Target, weights: Weights | None) -> None:
    """Check that a target can widen float16, where a build asks for weights in it.

    Raises:
        OptionError: its cores lack the instruction.
    """
    if weights is Weights.FP16 and not target.widens_halves:
        raise OptionError(
            f"Weights in fp16 need an instruction that {target.name} ({target.cpu}) lacks: on x86 F16C, which comes "
            "with 'avx2'.",
            "Build for a target that has it, or with --weights auto, which leaves them in fp32 there.",
        )


def predicted_core(target: Target) -> Core:
    """Return what is known of a target's core, to predict cycles with.

    Raises:
        TargetError: nothing is predicted for that core.
    """
    core = known_core(target.arch, target.cpu)
    if core is None or not core.is_predicted:
        raise TargetError(
            f"There is no model of {target.cpu} ({target.name}) to predict with.",
            f"Cores with a model: {', '.join(sorted(name for name, each in CORES.items() if each.is_predicted))}.",
        )
    return core


_BORDER = Border("The target file", TargetError, "See targets/rpi4.toml for the form.")

_KEYS = tuple(field.name for field in dataclasses.fields(Target) if field.name != "name")
_OPTIONAL: dict[str, Any] = {
    "description": "",
    "features": (),
    "l3_kib": 0,
    "max_mhz": 0,
    "qemu_cpu": "",
    "toolchains": ("gnu", "zig"),
}


def targets_folder() -> Path:
    """Return the folder of the built-in targets, in a checkout or an installed package."""
    installed = PACKAGE / "_targets"
    return installed if installed.is_dir() else BESIDE / "targets"


def known_targets() -> list[str]:
    """Return the names of the built-in targets, sorted."""
    return sorted(path.stem for path in targets_folder().glob("*.toml"))


def target_file(name_or_path: str) -> Path:
    """Return the file of a built-in target or of a user's own; it may not exist."""
    return Path(name_or_path) if _is_path(name_or_path) else targets_folder() / f"{name_or_path}.toml"


def _is_path(name_or_path: str) -> bool:
    return name_or_path.endswith(".toml") or os.sep in name_or_path


def load_target(name_or_path: str) -> Target:
    """Load a built-in target by name or a user's TOML file by path.

    Raises:
        TargetError: unknown name, unreadable file, unknown or missing key, or a value of the wrong type.
    """
    path = target_file(name_or_path)
    why = missing(path)
    if why and _is_path(name_or_path):
        raise TargetError(f"The target file {path} {why}.", f"Built-in targets: {', '.join(known_targets())}.")
    if why:
        raise TargetError(
            f"There is no target '{name_or_path}'.",
            did_you_mean(name_or_path, known_targets())
            + " A TOML file of your own works by its path (./myboard.toml).",
        )
    return _from_table(path, _BORDER.toml(path))


def _from_table(path: Path, table: dict[str, Any]) -> Target:
    for key in table:
        if key not in _KEYS:
            raise TargetError(f"{path} has an unknown key {shown(key)}.", did_you_mean(key, _KEYS))
    values = {**_OPTIONAL, **table}
    if values.get("triple") == NATIVE:
        values = {
            **_OPTIONAL,
            **_host_values(),
            **{key: value for key, value in table.items() if value and value != NATIVE},
        }
    target = _BORDER.checked({**values, "name": path.stem}, Target, path)
    core = known_core(target.arch, target.cpu) if target.arch == "aarch64" else None
    foreign = [name for name in EXTENSIONS if core and target.has(name) and name not in core.extensions]
    if core and foreign:
        raise TargetError(
            f"{path}: features lists {', '.join(foreign)}, which a {core.name} does not have.",
            "Code that uses it would stop there (illegal instruction). Leave it out, or name the board's own core.",
        )
    return target


@lru_cache(maxsize=1)
def _host_values() -> dict[str, Any]:
    """Describe this machine in the terms of a target's file."""
    arch = platform.machine()
    known = {
        "x86_64": ("avx2", "fma", "avx512f", "avx512vl", "avx512bw", "avx512_vnni"),
        "aarch64": ("neon", "dotprod", "fullfp16"),
    }.get(arch, ())
    missing = missing_features(known)
    features = [feature for feature in known if feature not in missing]
    glibc = platform.libc_ver()[1] or "2.28"
    return {
        "description": "this machine",
        "triple": f"{arch}-linux-gnu",
        "cpu": host_core(),
        "features": features,
        "cores": len(os.sched_getaffinity(0)),
        "l1d_kib": _cache_kib(1, 32),
        "l2_kib": _cache_kib(2, 512),
        "glibc": glibc,
    }


@lru_cache(maxsize=1)
def host_core() -> str:
    """Return LLVM's name of this machine's core; imports tvm, since only LLVM knows."""
    import tvm

    return str(tvm.get_global_func("tvm.codegen.llvm.GetHostCPUName")())


def missing_features(features: Iterable[str]) -> list[str]:
    """Return those of a target's ``features`` that this machine lacks; none when it does not tell what it has."""
    flags = _cpu_flags()
    return [name for name in features if flags and _linux_name(name) not in flags]


def _linux_name(feature: str) -> str:
    return _LINUX_NAMES.get(feature, feature) if platform.machine() == "aarch64" else _plain(feature)


def _plain(feature: str) -> str:
    """Return a name as Linux and LLVM both have it: "avx512_vnni" and "avx512vnni", "sse4_2" and "sse4.2"."""
    return feature.replace("_", "").replace(".", "")


def _cpu_flags() -> set[str]:
    """Return what this machine has: Linux's names on aarch64, plain ones on x86; imports tvm there.

    x86 cores are asked themselves, by LLVM: under qemu-x86_64 /proc/cpuinfo is that of the machine below.
    """
    if platform.machine() == "x86_64":
        import tvm

        found = tvm.get_global_func("tvm.codegen.llvm.GetHostCPUFeatures")()
        return {_plain(str(name)) for name, has in found.items() if has}
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "Features":
            return set(value.split())
    return set()


def _cache_kib(level: int, fallback: int) -> int:
    for index in Path("/sys/devices/system/cpu/cpu0/cache").glob("index*"):
        try:
            if int((index / "level").read_text()) == level and (index / "type").read_text().strip() != "Instruction":
                return int((index / "size").read_text().strip().rstrip("K"))
        except (OSError, ValueError):
            continue
    return fallback
