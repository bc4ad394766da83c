#!/usr/bin/env python3
"""Measure what Winograd's and Strassen's algorithms lose, layer by layer, and write the table in docs/performance.md.

Layers of ResNet-50 and SqueezeNet with random data are compiled for this machine by every algorithm that can compute
them and by the definition, and compared with the definition in float64. Takes a minute.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import page
from tvmbuild.schedules import legalize_map, schedule_module
from tvmbuild.schedules.gemm.packing import Array
from tvmbuild.schedules.geometry import Conv2dGeometry
from tvmbuild.schedules.legalize import conv2d_plan
from tvmbuild.schedules.legalize.conv2d_choices import name_of, plan_choices, plan_key
from tvmbuild.schedules.legalize.conv2d_plan import Conv2dPlan
from tvmbuild.schedules.strassen.compute import StrassenPlan
from tvmbuild.schedules.winograd.compute import WinogradPlan
from tvmbuild.target.target import Target, load_target

PAGE = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
MARKERS = (
    "<!-- winograd-error: start; written by benchmarks/winograd_error.py, do not edit -->",
    "<!-- winograd-error: end -->",
)
#: (model, height and width, input channels, output channels, kernel, stride); the padding is half the kernel.
LAYERS = (
    ("ResNet-50", 224, 3, 64, 7, 2),
    *(("ResNet-50", size, channels, channels, 3, 1) for size, channels in ((56, 64), (28, 128), (14, 256), (7, 512))),
    *(("ResNet-50", size, channels, channels, 3, 2) for size, channels in ((56, 128), (28, 256), (14, 512))),
    ("ResNet-50", 28, 512, 256, 1, 1),
    ("ResNet-50", 14, 1024, 256, 1, 1),
    ("ResNet-50", 14, 256, 1024, 1, 1),
    *(("SqueezeNet", size, depth, 4 * depth, 3, 1) for size, depth in ((55, 16), (27, 32), (13, 48), (13, 64))),
    ("SqueezeNet", 13, 512, 1000, 1, 1),
)
COLUMNS = ("Winograd, 2 outputs", "3", "4", "5", "Strassen", "definition")
NOTE = """## What Winograd and Strassen lose

Largest difference from direct convolution in float64, over the largest output: float32, standard normal inputs,
weights of variance 2 / (kernel and inputs), compiled for this machine. Written by `benchmarks/winograd_error.py`. The
outputs are those of a tile in a row, m of F(m x m, r x r). `build` uses an algorithm only where its error, estimated
with the layer's own weights, is at most {limit:.0e}; the last column is what it picks for
rpi4."""


def main() -> int:
    """Measure every layer and write the page."""
    target, board = load_target("host"), load_target("rpi4")
    rows = ["| " + " | ".join(["layer", *COLUMNS, "picked"]) + " |", "| --- " * (len(COLUMNS) + 2) + "|"]
    for model, size, depth, channels, taps, stride in LAYERS:
        g = Conv2dGeometry(
            *(1, size, size, depth, channels, (taps, taps)), stride=(stride, stride), padding=(taps // 2,) * 4
        )
        rng = np.random.default_rng(0)
        data = rng.standard_normal((1, size, size, depth)).astype(np.float32)
        kernel = rng.standard_normal((channels, depth, taps, taps)) * np.sqrt(2 / (taps * taps * depth))
        kernel = kernel.astype(np.float32)
        exact = convolve(data, kernel, stride)
        errors = dict.fromkeys(COLUMNS, "-")
        for name, plan in plan_choices(g, target, "float32").items():
            if conv2d_plan.relative_error(g, kernel, plan) > conv2d_plan.MAX_ERROR["float32"]:
                errors[column_of(plan)] = "over"
                continue
            error = np.abs(run(data, kernel, g, name, target) - exact).max() / np.abs(exact).max()
            errors[column_of(plan)] = f"{error:.1e}"
        picked = name_of(conv2d_plan.choose(g, kernel, board))
        rows.append(
            "| " + " | ".join([f"{model} {g.workload.removeprefix('conv2d 1x')}", *errors.values(), picked]) + " |"
        )
    note = NOTE.format(limit=conv2d_plan.MAX_ERROR["float32"])
    page.write(PAGE, "\n".join([note, "", *rows]), MARKERS)
    return 0


def column_of(plan: Conv2dPlan) -> str:
    """Return the column of a plan's error."""
    if isinstance(plan, WinogradPlan):
        return COLUMNS[plan.m - 2]
    return COLUMNS[-2] if isinstance(plan, StrassenPlan) else COLUMNS[-1]


def run(data: Array, kernel: Array, geometry: Conv2dGeometry, name: str, target: Target) -> Array:
    """Convolve NHWC by OIHW on this machine by a plan of ``conv2d_choices``."""
    import tvm
    from tvm import relax

    builder = relax.BlockBuilder()
    variable = relax.Var("x", relax.TensorType(data.shape, "float32"))
    with builder.function("main", [variable]):
        with builder.dataflow():
            result = relax.op.nn.conv2d(
                *(variable, relax.const(kernel)),
                strides=geometry.stride,
                padding=list(geometry.padding),
                data_layout="NHWC",
                kernel_layout="OIHW",
            )
            result = builder.emit_output(builder.normalize(result))
        builder.emit_func_output(result)
    legal = relax.transform.LegalizeOps(legalize_map(target, {plan_key(geometry, "float32"): name}))(builder.get())
    scheduled, _ = schedule_module(legal, target)
    machine = relax.VirtualMachine(tvm.compile(scheduled, target.to_tvm()), tvm.cpu())
    output: Array = machine["main"](tvm.runtime.tensor(data)).numpy()
    return output


def convolve(data: Array, kernel: Array, stride: int) -> Array:
    """Convolve NHWC by OIHW in float64 with a padding of half the kernel."""
    taps = kernel.shape[-1]
    around = (taps // 2, taps // 2)
    padded = np.pad(data.astype(np.float64), ((0, 0), around, around, (0, 0)))
    height, width = (extent + 2 * (taps // 2) - taps + 1 for extent in data.shape[1:3])
    windows = (
        (i, j, padded[:, i : i + height : stride, j : j + width : stride]) for i in range(taps) for j in range(taps)
    )
    total: Array = np.sum([window @ kernel[:, :, i, j].T.astype(np.float64) for i, j, window in windows], axis=0)
    return total


if __name__ == "__main__":
    sys.exit(main())
