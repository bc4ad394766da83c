"""Convolution by its definition, register-tiled (see ``tiled``)."""

from __future__ import annotations

from tvmbuild.schedules.gemm import compute as tiled_compute
from tvmbuild.schedules.gemm.tiled import apply, knobs
from tvmbuild.schedules.kernel import Kernel
from tvmbuild.target.target import Target

__all__ = ["KIND", "apply", "knobs", "matches"]

KIND = tiled_compute.CONV2D


def matches(kernel: Kernel, target: Target) -> bool:
    """Whether the kernel is a convolution legalized by ours."""
    return kernel.kind == KIND
