#!/usr/bin/env python3
"""Measure what Winograd's tiles lose, layer by layer, and write the table in docs/performance.md.

The 3x3 layers of ResNet-50 and SqueezeNet with random data are compiled for this machine three times, with F(2x2),
F(4x4) and as a direct sum, and compared with the definition in float64. Takes a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page
from tvmbuild.schedules import conv2d_plan, schedule_module, tiled_compute, winograd_compute, winograd_plan
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.packing import Array, pack_conv2d
from tvmbuild.schedules.relax_calls import call_compute
from tvmbuild.schedules.tile_plan import plan_conv2d
from tvmbuild.schedules.winograd_compute import WinogradPlan
from tvmbuild.schedules.winograd_transform import pack_kernel
from tvmbuild.target import Target, load_target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
MARKERS = (
    "<!-- winograd-error: start; written by benchmarks/winograd_error.py, do not edit -->",
    "<!-- winograd-error: end -->",
)
#: (model, height and width, input channels, output channels) of the layers of stride 1 and padding 1.
LAYERS = (
    *(("ResNet-50", size, channels, channels) for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512))),
    *(("SqueezeNet", size, depth, 4 * depth) for size, depth in ((55, 16), (27, 32), (13, 48), (13, 64))),
)
NOTE = """## What Winograd loses

Largest difference from direct convolution in float64, over the largest output: float32, standard normal inputs,
weights of variance 2 / (9 inputs), compiled for this machine. Written by `benchmarks/winograd_error.py`. `build` uses a
tile only where its error, estimated with the layer's own weights, is at most {limit:.0e}; the last column is what it
picks for rpi4."""


def main() -> int:
    """Measure every layer and write the page."""
    target, board = load_target("host"), load_target("rpi4")
    rows = ["| layer | F(2x2) | F(4x4) | direct | picked |", "| --- | --- | --- | --- | --- |"]
    for model, size, depth, channels in LAYERS:
        g = Conv2dGeometry(1, size, size, depth, channels, (3, 3), (1, 1), (1, 1), (1, 1, 1, 1), 1)
        rng = np.random.default_rng(0)
        data = rng.standard_normal((1, size, size, depth)).astype(np.float32)
        kernel = (rng.standard_normal((channels, depth, 3, 3)) * np.sqrt(2 / (9 * depth))).astype(np.float32)
        exact = convolve(data, kernel)
        errors = [np.abs(run(data, kernel, g, m, target) - exact).max() / np.abs(exact).max() for m in (2, 4, 0)]
        columns = [f"{model} {size}x{size}x{depth} to {channels}", *(f"{error:.1e}" for error in errors)]
        rows.append("| " + " | ".join([*columns, picked(kernel, g, board)]) + " |")
    note = NOTE.format(limit=conv2d_plan.MAX_ERROR["float32"])
    page.write(PAGE, "\n".join([note, "", *rows]), MARKERS)
    return 0


def picked(kernel: Array, geometry: Conv2dGeometry, target: Target) -> str:
    """Return the tile that a build for a target uses, or "direct"."""
    plan = conv2d_plan.choose(geometry, kernel, target)
    return f"F({plan.m}x{plan.m})" if isinstance(plan, WinogradPlan) else "direct"


def run(data: Array, kernel: Array, geometry: Conv2dGeometry, m: int, target: Target) -> Array:
    """Convolve on this machine with tiles of m x m outputs, or directly when m is 0; NHWC by OIHW."""
    import tvm
    from tvm import relax

    builder = relax.BlockBuilder()
    variable = relax.Var("x", relax.TensorType(data.shape, "float32"))
    with builder.function("main", [variable]):
        with builder.dataflow():
            result = builder.emit_output(builder.normalize(_compute(builder, variable, kernel, geometry, m, target)))
        builder.emit_func_output(result)
    scheduled, reports = schedule_module(builder.get(), target)
    assert [report.kind for report in reports] == ["conv2d.winograd" if m else "conv2d.direct"]
    machine = relax.VirtualMachine(tvm.compile(scheduled, target.to_tvm()), tvm.cpu())
    output: Array = machine["main"](tvm.runtime.tensor(data)).numpy()
    return output


def _compute(builder: Any, data: Any, kernel: Array, geometry: Conv2dGeometry, m: int, target: Target) -> Any:
    from tvm import relax

    if m:
        tiles = winograd_plan.plan_winograd(geometry, m, target)
        packed = relax.const(pack_kernel(kernel, m, tiles.tile.channels))
        return call_compute(
            builder, lambda x, w: winograd_compute.conv2d(x, w, geometry, tiles), data, packed, name="w"
        )
    plan = plan_conv2d(geometry, target)
    packed = relax.const(pack_conv2d(kernel, plan.tile.channels))
    return call_compute(builder, lambda x, w: tiled_compute.conv2d(x, w, geometry, plan), data, packed, name="d")


def convolve(data: Array, kernel: Array) -> Array:
    """Convolve NHWC by OIHW in float64 with padding 1."""
    padded = np.pad(data.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    height, width = data.shape[1:3]
    windows = ((i, j, padded[:, i : i + height, j : j + width]) for i in range(3) for j in range(3))
    total: Array = np.sum([window @ kernel[:, :, i, j].T.astype(np.float64) for i, j, window in windows], axis=0)
    return total


if __name__ == "__main__":
    sys.exit(main())
