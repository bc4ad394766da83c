"""Matrix product, register-tiled (see ``tiled``)."""

from __future__ import annotations

from tvmbuild.schedules import tiled_compute
from tvmbuild.schedules.kernel import Kernel
from tvmbuild.schedules.tiled import apply, knobs
from tvmbuild.target import Target

__all__ = ["KIND", "apply", "knobs", "matches"]

KIND = tiled_compute.MATMUL


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether the kernel is a matrix product legalized by ours."""
    return kernel.kind == KIND
