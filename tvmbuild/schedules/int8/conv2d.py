"""Integer convolution, register-tiled (see ``int8_tiled``)."""

from __future__ import annotations

from tvmbuild.schedules.int8 import compute as int8_compute
from tvmbuild.schedules.int8.tiled import apply, knobs
from tvmbuild.schedules.kernel import Kernel
from tvmbuild.target.target import Target

__all__ = ["KIND", "apply", "knobs", "matches"]

KIND = int8_compute.CONV2D


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether the kernel is an integer convolution legalized by ours."""
    return kernel.kind == KIND
